"""One model version over one state of a catalogue, ready to rank. It never changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from model.query_reader import QueryReader
from model.segments import Segments
from server.serving.index import VectorIndex
from server.serving.index_build import build_coarse
from server.serving.index_coarse import Coarse
from server.serving.index_questions import likely_questions
from server.serving.items import ItemTable
from server.serving.items_strings import Columns
from server.serving.promotions import Promotions, no_promotions
from server.serving.segments import segments_of
from server.serving.tower import UserTower
from server.serving.words import WordIndex

Floats = npt.NDArray[np.float32]

CLOCKLESS = ("order", "none")
"""Values of a card's `clock` under which event times are positions: the towers then see no time at all."""


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """What one answer is made from, so that no answer mixes two versions."""

    version: str
    card: Mapping[str, Any]
    """What the version says of itself: schema, clock, encoder, privacy statement."""
    items: ItemTable
    index: VectorIndex
    """Over rows [item vector | complement vector | prior], so that a question is one vector on every surface."""
    dim: int
    """Length of an item vector and of a user embedding."""
    fusion: Floats
    """(surfaces, features) weights of `model.fusion`."""
    words: WordIndex
    has_clock: bool
    tower: UserTower
    reader: QueryReader
    """Reads what is searched for."""
    segments: Segments
    """`centres` are the tastes of shoppers with one event in the middle of a segment."""
    promotions: Promotions = field(default_factory=no_promotions)


def coarse_of(columns: Columns) -> Coarse | None:
    """An index over the vectors, where they are many and one is good enough."""
    questions = likely_questions(
        columns["vectors"],
        len(columns["gain"]),
        columns["category_codes"],
        columns["fusion"],
        columns["gain"],
    )
    return build_coarse(columns["vectors"], questions)


def snapshot_of(version: str, card: Mapping[str, Any], columns: Columns, coarse: Coarse | None) -> Snapshot:
    """The snapshot over the arrays that `base_columns` made."""
    items = ItemTable(columns)
    return Snapshot(
        version=version,
        card=card,
        items=items,
        index=VectorIndex(columns["vectors"], items.servable, coarse),
        dim=len(columns["gain"]),
        fusion=columns["fusion"],
        words=WordIndex(columns),
        has_clock=card.get("clock") not in CLOCKLESS,
        tower=UserTower(columns["tower"].tobytes()),
        reader=QueryReader.of(columns),
        segments=segments_of(columns),
    )


def with_added(base: Snapshot, columns: Columns, added: Columns) -> Snapshot:
    """The snapshot after changes: `columns` are the arrays of all items, `added` those that `added_columns` made."""
    items = ItemTable(columns, added)
    return replace(
        base,
        items=items,
        index=VectorIndex(columns["vectors"], items.servable, base.index.coarse),
        words=WordIndex(columns, added),
    )
