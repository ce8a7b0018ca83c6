"""Malicious devices in a simulated round: an honest node's answer, with what they add to it.

They are bound as every participant is: what each adds has the length that the clipping norm allows, and it goes to
the parts that the round asks for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message
from flwr.clientapp import ClientApp
from numpy.typing import NDArray

from client.app import app as honest
from privacy.fixed_point import on_grid
from proto.federation import CONTRIBUTION, PUBLIC, RECEIPT, TASK, Receipt, Task
from server.registry import ModelVersion, Registry
from simulation.federated import FederationSettings, Place, nodes_of, run_config_of
from simulation.grid import InProcessGrid, run_in_process
from simulation.population import Population

Arrays = Mapping[str, NDArray[Any]]
Push = Callable[[Task, Arrays], dict[str, NDArray[Any]]]
"""What one malicious device adds to a round's parts, made of the task and its public arrays alone."""


@dataclass(frozen=True, kw_only=True)
class Malice:
    """How many malicious devices there are, and what each does."""

    devices: int
    push: Push

    def __call__(self, message: Message, context: Context) -> Message:
        """Answer as an honest node does; the first node carries the malicious devices as well."""
        reply = honest(message, context)
        if context.node_config["partition-id"] == 0 and CONTRIBUTION in reply.content.array_records:
            self._join(message, reply)
        return reply

    def _join(self, message: Message, reply: Message) -> None:
        """Add the malicious devices' parts to an answer, and them to its participants."""
        task = Task.from_record(message.content.config_records[TASK])
        records = message.content.array_records
        public = {name: array.numpy() for name, array in records.get(PUBLIC, ArrayRecord()).items()}
        parts = {name: array.numpy() for name, array in reply.content.array_records[CONTRIBUTION].items()}
        for name, value in self.push(task, public).items():
            parts[name] = parts[name] + self.devices * value.reshape(parts[name].shape)
        receipt = Receipt.from_record(reply.content.config_records[RECEIPT]).to_record()
        receipt["participants"] = int(receipt["participants"]) + self.devices
        reply.content[CONTRIBUTION] = ArrayRecord(
            {name: Array(on_grid(value)) for name, value in parts.items()}
        )
        reply.content[RECEIPT] = ConfigRecord(dict(receipt))


def train_under_attack(
    population: Population, settings: FederationSettings, place: Place, malice: Malice
) -> ModelVersion:
    """Train as `simulation.federated.train` does, with the malicious devices among the public number of shoppers."""
    from server.coordination.app import MODEL
    from server.coordination.app import app as server_app

    words = run_config_of(population, settings, place)
    words["shoppers"] = int(words["shoppers"]) + malice.devices
    grid = InProcessGrid(cast(ClientApp, malice), nodes=nodes_of(population, settings), run_config=words)
    state = run_in_process(server_app, grid, words)
    return Registry(place.registry).get(str(state.config_records[MODEL]["version"]))
