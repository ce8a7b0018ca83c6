"""Flower's own simulation engine on Ray with one node per shopper; each client is the plain loop on its shopper."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MessageType, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.simulation import run_simulation

from evaluation.bench.peers.measuring import Cohort, Measured, measured, most
from evaluation.bench.peers.plain_loop import clipped_gradient
from evaluation.bench.peers.tower import ShopperTensors, Tower, tensors_of
from evaluation.bench.peers.work import Sums, Work, ml_1m_work

client = ClientApp()
CORES = 2
PATIENCE = 0.05


@cache
def _shop(shoppers: int, needed: int) -> tuple[Tower, list[ShopperTensors]]:
    """Return the tower and all shoppers' tensors, made once in each of Ray's actors."""
    torch.set_num_threads(1)
    work = ml_1m_work(shoppers)
    return Tower(work), tensors_of(work, needed)


@client.train()
def train(message: Message, context: Context) -> Message:
    """Answer with the clipped gradient of one shopper under the weights in the message."""
    config = message.content.config_records["config"]
    tower, shoppers = _shop(int(str(config["shoppers"])), int(str(config["needed"])))
    arrays = message.content.array_records["weights"]
    with torch.no_grad():
        for name, parameter in tower.named_parameters():
            parameter.copy_(torch.from_numpy(arrays[name].numpy()))
    gradient = clipped_gradient(tower, shoppers[int(str(config["shopper"]))])
    record = ArrayRecord({name: Array(value.numpy()) for name, value in gradient.items()})
    return Message(RecordDict({"gradient": record}), reply_to=message)


def measure(work: Work, cohorts: Sequence[Cohort]) -> Measured:
    """Measure one run of Flower's engine, one round for each cohort, start and end of Ray left out."""
    logging.getLogger("flwr").setLevel(logging.ERROR)
    server, found = ServerApp(), list[Measured]()
    weights = ArrayRecord(
        {name: Array(value.detach().numpy()) for name, value in Tower(work).named_parameters()}
    )

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        """Send the weights to one node per shopper, and add up the answers."""
        nodes = _nodes(grid, len(cohorts[0]))

        def step(cohort: Cohort) -> Sums:
            config = {"shoppers": len(work.examples), "needed": most(cohorts)}
            messages = [
                _question(weights, node, {**config, "shopper": int(s)})
                for node, s in zip(nodes, cohort, strict=True)
            ]
            return _added_up(list(grid.send_and_receive(messages)), len(cohort))

        found.append(measured(step, cohorts))

    resources = {"client_resources": {"num_cpus": 1, "num_gpus": 0.0}, "init_args": {"num_cpus": CORES}}
    run_simulation(server, client, num_supernodes=len(cohorts[0]), backend_config=resources)  # type: ignore[arg-type]
    return found[0]


def _nodes(grid: Grid, wanted: int) -> list[int]:
    """Return the ids of all nodes once they are there."""
    while len(nodes := list(grid.get_node_ids())) < wanted:
        time.sleep(PATIENCE)
    return nodes


def _question(weights: ArrayRecord, node: int, config: dict[str, int]) -> Message:
    record = ConfigRecord(dict(config))
    return Message(RecordDict({"weights": weights, "config": record}), node, MessageType.TRAIN)


def _added_up(replies: list[Message], wanted: int) -> Sums:
    """Return the sum of all answers.

    Raises:
        RuntimeError: a node did not answer.
    """
    answers = [reply for reply in replies if reply.has_content()]
    if len(answers) < wanted:
        raise RuntimeError(
            f"{len(answers)} of {wanted} nodes answered; the first failure: {replies[0].error}"
        )
    total: Sums = {}
    for answer in answers:
        for name, array in answer.content.array_records["gradient"].items():
            total[name] = np.add(total.get(name, np.float32(0.0)), array.numpy(), dtype=np.float32)
    return total
