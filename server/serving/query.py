"""What is asked of the ranking endpoint and what it answers, free of the wire format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt


class Surface(StrEnum):
    """Where a ranking appears."""

    HOME = "home"
    SEARCH = "search"
    DETAIL = "detail"
    CART = "cart"
    NEW_ARRIVALS = "new_arrivals"
    PROMOTION = "promotion"


class Basis(StrEnum):
    """What a ranking was made from."""

    COLD_START = "cold_start"
    USER_EMBEDDING = "user_embedding"
    HISTORY = "history"
    STORED = "stored"
    NOT_USED = "not_used"
    SESSION = "session"
    SEGMENT = "segment"


class ReasonKind(StrEnum):
    """Why an item is in a ranking; `ranking.proto` says what each promises."""

    HISTORY = "history"
    PROFILE = "profile"
    POPULAR = "popular"
    QUERY = "query"
    SIMILAR = "similar"
    TOGETHER = "together"
    NEW = "new"
    POPULAR_CATEGORY = "popular_category"
    SEGMENT = "segment"
    MEANING = "meaning"
    PROMOTION = "promotion"
    EXPLORATION = "exploration"


@dataclass(frozen=True, kw_only=True)
class PastEvent:
    """One thing a shopper did: `kind` of `model.features.KINDS`, `time` in Unix seconds (None: now)."""

    item_id: str
    kind: str
    time: int | None = None


@dataclass(frozen=True, kw_only=True)
class UserVector:
    """A user embedding of one model version, computed at the participant."""

    values: npt.NDArray[np.float32]
    model_version: str


@dataclass(frozen=True, kw_only=True)
class RankQuery:
    """A validated question. `history` None means that nobody is known; an embedding goes before a history.

    Attributes:
        session: what was done just now; counts after history or embedding, and alone where neither is there.
        segment: number of a group of items in the released model that the caller says fits.
        hidden: item ids never to list.
        categories, merchants: only items of these; empty: of any.
        reasons: whether reasons are wanted.
    """

    surface: Surface
    k: int
    timestamp: int
    embedding: UserVector | None = None
    history: Sequence[PastEvent] | None = None
    stored: bool = False
    words: str = ""
    item_id: str = ""
    exclude_seen: bool = True
    session: Sequence[PastEvent] = ()
    segment: int | None = None
    hidden: Sequence[str] = ()
    categories: Sequence[str] = ()
    merchants: Sequence[str] = ()
    reasons: bool = True


@dataclass(frozen=True, kw_only=True)
class Reason:
    """Why an item is listed, as a sentence part, with the item that is the cause where one is."""

    kind: ReasonKind
    text: str
    item_id: str = ""


@dataclass(frozen=True, kw_only=True)
class RankedItem:
    """One place of a ranking; `score` is the number that ordered the list."""

    item_id: str
    merchant_id: str
    title: str
    reason: Reason
    score: float


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """An answer, best first. It is made from one model version only."""

    model_version: str
    items: Sequence[RankedItem]
    basis: Basis
    unknown_history_items: int = 0
    dropped_history_events: int = 0
    notices: Sequence[str] = ()
