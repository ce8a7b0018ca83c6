"""Nodes that answer as a test wants, over the grid that simulations use."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import cast

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from simulation.grid import FIRST_NODE, InProcessGrid

Answer = Callable[[Message], RecordDict]


class ScriptedGrid(InProcessGrid):
    """Node p answers with `answers[p]`; with `repeats` the whole round's replies come that often."""

    def __init__(self, answers: Sequence[Answer], repeats: int = 1) -> None:
        """Make one node per answer."""

        def app(message: Message, context: Context) -> Message:
            self.asked.append(message)
            return Message(answers[context.node_id - FIRST_NODE](message), reply_to=message)

        super().__init__(cast(ClientApp, app), nodes=len(answers), run_config={})
        self.asked: list[Message] = []
        self._repeats = repeats

    def pull_messages(self, message_ids: Iterable[str]) -> Iterator[Message]:
        """Yield each reply, as often as asked for."""
        for reply in super().pull_messages(message_ids):
            yield from [reply] * self._repeats
