"""An answer: columns over the snapshot that it was made from, and the same as objects for who wants to look at it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from server.serving.promotions import Promotion
from server.serving.query import Basis, Reason
from server.serving.snapshot import Snapshot

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class RankedItem:
    """One place of a ranking; `score` is the number that ordered the list before any knob."""

    item_id: str
    merchant_id: str
    title: str
    reason: Reason | None
    score: float
    propensity: float | None = None
    promotion: Promotion | None = None


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """An answer, best first. It is made from one snapshot only.

    Attributes:
        items: (k,) rows of the snapshot's items, none twice.
        scores: (k,) what ordered them.
        reasons: one per item, or none at all where none were asked for.
        propensities: (k,) of each place, where the endpoint explores.
        promotions: by place in the list, the best promotion that is valid now.
        candidates: how many items it was chosen from.
    """

    snapshot: Snapshot
    items: npt.NDArray[np.int64]
    scores: Floats
    basis: Basis
    reasons: Sequence[Reason] = ()
    propensities: Floats | None = None
    promotions: Mapping[int, Promotion] = field(default_factory=dict)
    unknown_history_items: int = 0
    dropped_history_events: int = 0
    notices: Sequence[str] = ()
    candidates: int = 0

    @property
    def model_version(self) -> str:
        """The version of the model that made it."""
        return self.snapshot.version

    def listed(self) -> list[RankedItem]:
        """Every place as an object, best first."""
        table = self.snapshot.items
        return [
            RankedItem(
                item_id=table.item_id(item),
                merchant_id=table.merchant_id(item),
                title=table.title(item),
                reason=self.reasons[place] if self.reasons else None,
                score=float(self.scores[place]),
                propensity=None if self.propensities is None else float(self.propensities[place]),
                promotion=self.promotions.get(place),
            )
            for place, item in enumerate(self.items.tolist())
        ]
