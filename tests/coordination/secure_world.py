"""A small federation whose nodes are real parties of secure aggregation with contributions that a test chooses."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from numpy.typing import NDArray
from run_words import config

from client.app import app as honest
from client.app import under_masks
from client.secure_party import party_at
from privacy.federation_identity import coordinator_identity
from privacy.secagg.messages import Masked
from proto.federation import RECEIPT, SECURE, TASK, Receipt, Task
from server.coordination.buckets import Buckets
from server.coordination.collecting import Collected, Shapes
from server.coordination.config import Participants
from server.coordination.exchange import Exchange
from server.coordination.influence import Influence
from server.coordination.secure_round import SecureCollector
from simulation.grid import FIRST_NODE, InProcessGrid, node_name
from simulation.identities import coordinator_kit, identities

SHAPES: Shapes = {"devices": (40,), "everyone/gain": (3, 5)}
DEADLINE = 10.0
Values = dict[str, NDArray[np.float64]]
Tamper = Callable[[Message, RecordDict], RecordDict]
"""What a dishonest node makes of the answer that an honest one would give to a question."""


class Clock:
    """A clock that only waiting moves."""

    now = 100.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds


@dataclass
class World(InProcessGrid):
    """One grid of parties.

    Attributes:
        values: what node p contributes.
        silent: from which phase on node p says nothing.
        tampers: what node p makes of its answers.
        seen: everything that the coordinator was sent, by phase.
    """

    folder: Path
    values: Sequence[Values]
    silent: dict[int, str] = field(default_factory=dict)
    tampers: dict[int, Tamper] = field(default_factory=dict)
    seen: dict[str, list[RecordDict]] = field(default_factory=dict)
    clock: Clock = field(default_factory=Clock)
    charged: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Make the nodes."""
        super().__init__(
            cast(ClientApp, self._answered), nodes=len(self.values), run_config={}, identities=self.folder
        )
        self._gone: set[int] = set()

    def pull_messages(self, message_ids: Iterable[str]) -> Iterator[Message]:
        """Yield the replies of those who have not fallen silent."""
        for key in message_ids:
            if key in self._waiting:
                message = self._waiting[key]
                node = message.metadata.dst_node_id - FIRST_NODE
                if self.silent.get(node) == phase_of(message):
                    self._gone.add(node)
                if node not in self._gone:
                    yield from super().pull_messages([key])

    def collector(self, **words: Any) -> SecureCollector:
        """A coordinator of this federation."""
        influence = Influence(kind=Participants.MERCHANTS, shoppers=5, merchants=len(self.values))
        rules = {"smallest": 3, **words}
        return SecureCollector(
            exchange=Exchange(self, deadline=DEADLINE, clock=self.clock, wait=self.clock.wait),
            influence=influence,
            buckets=Buckets(**rules),
            identity=lambda: coordinator_identity(coordinator_kit(self.folder)),
            draw=random.Random(1),
        )

    def collect(self, task: Task, **words: Any) -> Collected:
        """One round."""
        return self.collector(**words).collect(task, SHAPES, {}, lambda: self.charged.append(self.clock()))

    def _answered(self, message: Message, context: Context) -> Message:
        node = context.node_id - FIRST_NODE
        kind = message.metadata.message_type.partition(".")[0]
        content = trained(message, context, self.values[node]) if kind == "train" else asked(message, context)
        if node in self.tampers:
            content = self.tampers[node](message, content)
        self.seen.setdefault(phase_of(message), []).append(content)
        return Message(content, reply_to=message)


def phase_of(message: Message) -> str:
    """The phase that a question belongs to."""
    kind, _, action = message.metadata.message_type.partition(".")
    return "contribute" if kind == "train" else action


def asked(message: Message, context: Context) -> RecordDict:
    """An honest answer to a question of the protocol alone."""
    answer: Callable[[Message, Context], Message] = honest
    return answer(message, context).content


def trained(message: Message, context: Context, values: Values) -> RecordDict:
    """An honest answer to a training task, with given values in place of what events would give."""
    task = Task.from_record(message.content.config_records[TASK])
    party = party_at(str(context.node_config["identity"]))
    party.check(task, message.content.config_records.get(SECURE), participants=1)
    masked = party.masked(task, party.within_declared(task, values))
    receipt = Receipt(
        release_id=task.release_id,
        stage=task.stage,
        round=task.round,
        model_hash=task.model_hash,
        participants=1,
    )
    return RecordDict({**under_masks(masked), RECEIPT: ConfigRecord({**receipt.to_record()})})


def sent_by(folder: Path, node: int, task: Task, units: NDArray[Any]) -> RecordDict:
    """A well-signed message of a participant's with any integers that it likes, in its present round."""
    party = party_at(str(folder / node_name(node)))
    manifest = party._current(task.release_id).manifest
    bare = Masked(content=units.astype(manifest.dtype).tobytes(), signature=b"")
    signature = party.identity().signer.sign(bare.statement(manifest.digest, node_name(node)))
    return under_masks(replace(bare, signature=signature))


@contextmanager
def world(folder: Path, values: Sequence[Values], **words: Any) -> Iterator[World]:
    """A federation of as many merchants as there are contributions, whose smallest cohort is 3."""
    (folder / "catalogue.parquet").write_bytes(b"public items")
    settings = config(
        folder,
        **{
            "participants": "merchants",
            "merchants": len(values),
            "minimum_nodes": 3,
            "minimum_cohort": 3,
            "trust": "none",
            "secure_aggregation": True,
            "coordinator_identity": "made below",
            "catalogue": str(folder / "catalogue.parquet"),
            **words,
        },
    )
    names = [node_name(node) for node in range(len(values))]
    with identities(folder / "identities", names, settings) as made:
        yield World(made, values)


def contributions(count: int, seed: int = 0, length: float = 3.0) -> list[Values]:
    """Random contributions of a given norm, each within what five shoppers may add."""
    random_ = np.random.default_rng(seed)
    drawn = [{name: random_.standard_normal(shape) for name, shape in SHAPES.items()} for _ in range(count)]
    return [scaled(values, length / norm(values)) for values in drawn]


def scaled(values: Values, factor: float) -> Values:
    """Every part times a factor."""
    return {name: factor * value for name, value in values.items()}


def norm(values: Values) -> float:
    """The L2 norm over all parts."""
    return float(np.sqrt(sum(np.square(value).sum() for value in values.values())))


def total(values: Iterable[Values]) -> Values:
    """The plain sum by part."""
    chosen = list(values)
    return {name: np.sum([one[name] for one in chosen], axis=0) for name in SHAPES}
