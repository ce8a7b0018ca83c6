"""Questions that wait in the event loop are answered together; one that comes alone never waits for company."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

Question = TypeVar("Question")
Answer = TypeVar("Answer")

LARGEST = 32
"""Questions of one batch at most; more would keep the first of them waiting for the last."""


class Batches(Generic[Question, Answer]):
    """Gathers what the event loop has read in one turn, and hands it out in one call."""

    def __init__(self, answer: Callable[[Sequence[Question]], Sequence[Answer | Exception]]) -> None:
        """`answer` gives for each question, in order, its answer or the error that it ends with."""
        self._answer = answer
        self._waiting: deque[tuple[Question, asyncio.Future[Answer]]] = deque()
        self._due = False

    async def ask(self, question: Question) -> Answer:
        """The answer to one question; raises the error that it ends with."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()
        self._waiting.append((question, future))
        if not self._due:
            self._due = True
            loop.call_soon(self._run)
        return await future

    def _run(self) -> None:
        batch = self._next()
        if batch:
            answers = self._answer([question for question, _ in batch])
            for (_, future), answer in zip(batch, answers, strict=True):
                if isinstance(answer, Exception):
                    future.set_exception(answer)
                else:
                    future.set_result(answer)
        self._due = bool(self._waiting)
        if self._due:
            asyncio.get_running_loop().call_soon(self._run)

    def _next(self) -> list[tuple[Question, asyncio.Future[Answer]]]:
        """The oldest questions whose caller still waits."""
        batch: list[tuple[Question, asyncio.Future[Answer]]] = []
        while self._waiting and len(batch) < LARGEST:
            question, future = self._waiting.popleft()
            if not future.done():
                batch.append((question, future))
        return batch
