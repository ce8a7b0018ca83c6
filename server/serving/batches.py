"""Questions that come close together are answered together, for that costs a third of answering each alone.

gRPC hands calls over one by one, each some turns of the event loop after the one before. So the first question waits
for company: not for a time, but until the loop has had nothing new for a few empty turns (some ten microseconds).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

Question = TypeVar("Question")
Answer = TypeVar("Answer")

LARGEST = 32
"""Questions of one batch at most; more would keep the first of them waiting for the last."""
QUIET_TURNS = 20
"""Turns of the event loop without another question after which no more are waited for."""


class Batches(Generic[Question, Answer]):
    """Gathers the questions that come close together, and hands them out in one call."""

    def __init__(self, answer: Callable[[Sequence[Question]], Sequence[Answer | Exception]]) -> None:
        """`answer` gives for each question, in order, its answer or the error that it ends with."""
        self._answer = answer
        self._waiting: deque[tuple[Question, asyncio.Future[Answer]]] = deque()
        self._due = False
        self._quiet_turns = 0

    async def ask(self, question: Question) -> Answer:
        """The answer to one question; raises the error that it ends with."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()
        self._waiting.append((question, future))
        self._quiet_turns = 0
        if not self._due:
            self._due = True
            loop.call_soon(self._run, loop)
        return await future

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        """Answer what waits once nothing more comes; then see to what has come meanwhile."""
        self._quiet_turns += 1
        if self._quiet_turns > QUIET_TURNS or len(self._waiting) >= LARGEST:
            self._answer_together(self._next())
        self._due = bool(self._waiting)
        if self._due:
            loop.call_soon(self._run, loop)

    def _answer_together(self, batch: Sequence[tuple[Question, asyncio.Future[Answer]]]) -> None:
        if not batch:
            return
        answers: Sequence[Answer | Exception]
        try:
            answers = self._answer([question for question, _ in batch])
        except Exception as error:  # nobody waits for ever, and the next batch is answered
            answers = [error] * len(batch)
        for (_, future), answer in zip(batch, answers, strict=True):
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)

    def _next(self) -> list[tuple[Question, asyncio.Future[Answer]]]:
        """The oldest questions whose caller still waits."""
        batch: list[tuple[Question, asyncio.Future[Answer]]] = []
        while self._waiting and len(batch) < LARGEST:
            question, future = self._waiting.popleft()
            if not future.done():
                batch.append((question, future))
        return batch
