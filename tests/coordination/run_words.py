"""The words of one small run, a catalogue to go with them, and nodes that answer honestly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from numpy.typing import NDArray

from model.catalogue import PublicItems
from model.content import ItemColumns
from model.fusion_learning import NUMBERS, TAUGHT_SURFACES
from model.head import triangle
from proto.federation import (
    AXES,
    BASIS,
    CONTRIBUTION,
    DEVICES,
    EVERYONE,
    PUBLIC,
    RECEIPT,
    TASK,
    Receipt,
    Task,
)
from server.coordination.config import FederationConfig
from server.coordination.learner import TRAINED

WORDS: dict[str, Any] = {
    "run-name": "toy",
    "catalogue": "/x/catalogue.parquet",
    "ledger": "/x/ledger.db",
    "ledger-keys": "",
    "registry": "/x/registry",
    "signing-key": "",
    "offer-version": False,
    "checkpoints": "/x/rounds",
    "participants": "shoppers",
    "trust": "central",
    "epsilon": 8,
    "delta": 1e-6,
    "runs": 1,
    "rounds": 1,
    "shoppers": 100,
    "merchants": 4,
    "minimum-cohort": 2,
    "minimum-nodes": 1,
    "journal": "",
    "dim": 4,
    "clock": "seconds",
    "spent-mu2": 0.0,
    "linkage": False,
    "encoder": "hashed",
    "basis": "items",
    "recency": 0.5,
    "prior": 0.25,
    "damping": 0.2,
    "basket-kinds": "",
    "fusion": False,
    "loss": "sampled_softmax",
    "user-tower": "pooling",
    "seed": 1,
    "noise-seed": -1,
    "timeout": 60.0,
    "secure-aggregation": False,
    "coordinator-identity": "",
    "buckets": 1,
    "combine": "sum",
    "declared-shoppers": "",
}


def config(folder: Path = Path("/x"), **changes: Any) -> FederationConfig:
    """The configuration of `WORDS` with its files in `folder` and some words replaced."""
    words = {key.replace("_", "-"): value for key, value in changes.items()}
    places = {
        "ledger": str(folder / "ledger.db"),
        "registry": str(folder / "registry"),
        "checkpoints": str(folder / "rounds"),
    }
    return FederationConfig.from_run_config({**WORDS, **places, **words})


def public_items(merchants: list[str]) -> PublicItems:
    """A catalogue with one item per entry, owned by that merchant."""
    none: list[str | None] = [None] * len(merchants)
    columns = ItemColumns(
        titles=[f"thing {index % 3}" for index in range(len(merchants))],
        categories=none,
        brands=none,
        prices=[None] * len(merchants),
        descriptions=none,
    )
    names = tuple(f"i{index}" for index in range(len(merchants)))
    return PublicItems(item_ids=names, merchant_ids=tuple(merchants), columns=columns)


def device_parts(message: Message, items: int) -> dict[str, NDArray[np.float64]]:
    """What a device with an equal share everywhere would send, whatever it is asked for: a share of norm 1."""
    stage = Task.from_record(message.content.config_records[TASK]).stage
    if stage == "counts":
        return {DEVICES: equal(items)}
    public = message.content.array_records[PUBLIC]
    if stage == "gram":
        return {DEVICES: equal(triangle(public["head"].numpy().size))}
    if stage == "baskets":
        return {EVERYONE: equal(triangle(public[AXES].numpy().shape[1]))}
    if stage == "fusion":
        return {EVERYONE: equal(len(TAUGHT_SURFACES) * NUMBERS)}
    if stage == "subspace":
        return {DEVICES: equal(triangle(public[BASIS + DEVICES].numpy().shape[1]))}
    shapes = {name: public[name].numpy().shape for name in TRAINED}
    entries = sum(int(np.prod(shape)) for shape in shapes.values())
    return {f"{EVERYONE}/{name}": np.full(shape, entries**-0.5) for name, shape in shapes.items()}


def equal(entries: int) -> NDArray[np.float64]:
    """The vector of norm 1 whose entries are equal."""
    return np.full(entries, entries**-0.5)


def device(
    items: int, scale: float = 1.0, participants: int = 1, *, as_row: bool = False, **receipt: Any
) -> Any:
    """A node's answer with its parts times `scale`; `receipt` replaces fields of an honest receipt.

    `as_row` gives every part one axis too many.
    """

    def answer(message: Message) -> RecordDict:
        task = Task.from_record(message.content.config_records[TASK])
        words: dict[str, Any] = {
            "release_id": task.release_id,
            "stage": task.stage,
            "round": task.round,
            "model_hash": task.model_hash,
            "participants": participants,
            "refused": "",
            **receipt,
        }
        Receipt.from_record(words)
        parts = {name: scale * value for name, value in device_parts(message, items).items()}
        shaped = {name: value[None] if as_row else value for name, value in parts.items()}
        arrays = ArrayRecord({name: Array(value) for name, value in shaped.items()})
        return RecordDict({RECEIPT: ConfigRecord(words), CONTRIBUTION: arrays})

    return answer
