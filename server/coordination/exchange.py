"""Questions to nodes and their answers: asked all at once, awaited at short intervals, cut off at a deadline.

Flower's own `send_and_receive` sleeps three seconds between looks; a round of secure aggregation has five of them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from flwr.app import Message, RecordDict
from flwr.serverapp import Grid
from numpy.typing import NDArray

from server.coordination.config import FederationConfig

log = logging.getLogger("fedrank.coordination")

PublicArrays = Mapping[str, NDArray[np.generic]]

GRACE: Final = 60.0
"""Seconds that the SuperLink keeps a question beyond its deadline: nodes' clocks differ a little."""
SHORTEST_WAIT, LONGEST_WAIT = 0.02, 0.5
"""Seconds between two looks for answers."""
LONGEST_REASON: Final = 500
"""Characters that are kept of what a participant says of itself."""
WAIT_SHARE: Final = 0.1
"""A look comes after this share of the time that has passed already, within the bounds above."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What one participant answered to one question; `content` is None where its node failed, `fault` says how."""

    participant: str
    content: RecordDict | None
    fault: str = ""


class Exchange:
    """Asks the nodes of a grid."""

    def __init__(
        self,
        grid: Grid,
        *,
        deadline: float,
        declared: Collection[str] = (),
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        """Give every question `deadline` seconds, all participants together.

        Args:
            declared: names of the federation's members; empty where nobody has declared any, as in simulation.
        """
        self._grid, self._deadline, self._clock, self._wait = grid, deadline, clock, wait
        self._declared, self._told = frozenset(declared), set[str]()

    @classmethod
    def of(cls, grid: Grid, config: FederationConfig) -> Self:
        """Ask the members that the run's configuration declares, within its deadline."""
        return cls(grid, deadline=config.timeout, declared=config.declared)

    def participants(self) -> dict[str, int]:
        """Return the nodes that are there by the name that they are registered under, in the order of names.

        Of several nodes under one name only the newest is asked, so that nobody counts twice. Where members are
        declared, nobody else is asked: whoever can reach the SuperLink at its own machine can register any name.
        """
        named: dict[str, int] = {}
        for node in self._grid.get_nodes():
            name = node.name or f"node {node.node_id}"
            if self._declared and name not in self._declared:
                self._tell(f"a node is registered as {one_line(name)}, which is no member; it is not asked")
                continue
            if name in named:
                self._tell(f"several nodes are registered as {name}; the newest is asked")
            named[name] = node.node_id
        return dict(sorted(named.items()))

    def _tell(self, warning: str) -> None:
        """Log a warning once: nodes are looked at every half a second."""
        if warning not in self._told:
            self._told.add(warning)
            log.warning("%s", warning)

    def ask(
        self, kind: str, group: str, questions: Mapping[str, RecordDict], *, share: float = 1.0
    ) -> Iterator[Answer]:
        """Ask each named participant its question; yield each answer once, until all are there or time is up.

        Args:
            kind: Flower's message type, such as `train.counts`.
            group: what Flower groups messages by: the round.
            share: of the deadline that these questions get.
        """
        nodes, start, seconds = self.participants(), self._clock(), share * self._deadline
        there = {name: content for name, content in questions.items() if name in nodes}
        messages = [
            Message(content, nodes[name], kind, ttl=seconds + GRACE, group_id=group)
            for name, content in there.items()
        ]
        self._grid.push_messages(messages)
        waiting = {message.metadata.message_id: name for message, name in zip(messages, there, strict=True)}
        while waiting:
            for reply in self._grid.pull_messages(list(waiting)):
                # An error reply bears the SuperLink's node id: only the question tells whose it is.
                name = waiting.pop(reply.metadata.reply_to_message_id, None)
                if name is not None:
                    yield _answer(name, reply)
                if self._clock() - start > seconds:
                    return
            self._rest(start, seconds, bool(waiting))
            if self._clock() - start > seconds:
                return

    def _rest(self, start: float, seconds: float, waiting: bool) -> None:
        """Wait a share of the time that has passed, and never beyond the deadline of so many seconds."""
        if waiting:
            passed = self._clock() - start
            pause = min(max(WAIT_SHARE * passed, SHORTEST_WAIT), LONGEST_WAIT)
            self._wait(max(min(pause, seconds - passed), SHORTEST_WAIT))


def _answer(name: str, reply: Message) -> Answer:
    if reply.has_error():
        return Answer(
            participant=name,
            content=None,
            fault=f"its node failed: {reply.error.reason or reply.error.code}",
        )
    return Answer(participant=name, content=reply.content)


def one_line(reason: str) -> str:
    """Return a participant's words as logs, journal and status keep them: one printable line of bounded length."""
    return "".join(sign if sign.isprintable() else "?" for sign in reason[:LONGEST_REASON])
