"""What is asked of the ranking endpoint and what it answers, free of the wire format but for the bytes of reasons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

import numpy as np
import numpy.typing as npt

from model.features import KINDS
from server.serving.reasons_wire import encoded_reason


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


Ints = npt.NDArray[np.int64]

_NUMBERS = {kind: number for number, kind in enumerate(KINDS)}

NO_TIME = -1
"""The time of an event that came without one: the moment of the request."""


@dataclass(frozen=True, slots=True)
class Events:
    """Things that one shopper did, as columns, in the order in which they came.

    Attributes:
        content: bytes in which the items' ids stand, as UTF-8.
        told: (4, events) of each: where its item's id begins and ends, index into `model.features.KINDS`, and Unix
            seconds or `NO_TIME`.
    """

    content: bytes
    told: Ints

    @classmethod
    def of(cls, events: Sequence[PastEvent]) -> Events:
        """The same events as columns."""
        return cls.of_columns(
            [event.item_id for event in events],
            [_NUMBERS[event.kind] for event in events],
            [NO_TIME if event.time is None else event.time for event in events],
        )

    @classmethod
    def of_columns(
        cls, item_ids: Sequence[str], kinds: Sequence[int] | Ints, times: Sequence[int] | Ints
    ) -> Events:
        """Events by their ids, indices of their kinds and times, (events,) each."""
        ids = [item_id.encode("utf-8", "surrogatepass") for item_id in item_ids]
        told = np.empty((4, len(ids)), dtype=np.int64)
        np.cumsum([len(item_id) for item_id in ids], out=told[1])
        told[0, :1], told[0, 1:], told[2], told[3] = 0, told[1, :-1], kinds, times
        return cls(b"".join(ids), told)

    @property
    def item_ids(self) -> list[str]:
        """(events,) ids."""
        places = zip(*self.told[:2].tolist(), strict=True)
        return [self.content[begin:end].decode("utf-8", "surrogatepass") for begin, end in places]

    @property
    def kinds(self) -> Ints:
        """(events,) indices into `model.features.KINDS`."""
        kinds: Ints = self.told[2]
        return kinds

    @property
    def times(self) -> Ints:
        """(events,) Unix seconds, or `NO_TIME`."""
        times: Ints = self.told[3]
        return times

    def __len__(self) -> int:
        """Number of events."""
        count: int = self.told.shape[1]
        return count

    def with_one(self, item_id: str, kind: str) -> Events:
        """The same events and one more, done now."""
        return Events.of_columns(
            [*self.item_ids, item_id], [*self.kinds, _NUMBERS[kind]], [*self.times, NO_TIME]
        )


NOTHING = Events(b"", np.empty((4, 0), dtype=np.int64))


@dataclass(frozen=True, kw_only=True)
class UserVector:
    """A user embedding of one model version, computed at the participant."""

    values: npt.NDArray[np.float32]
    model_version: str


@dataclass(frozen=True, kw_only=True)
class RankQuery:
    """A validated question. `history` None means that nobody is known; an embedding goes before a history.

    On cart the basket is the session, or the history where no session is told; `item_id` is in it too.

    Attributes:
        session: what was done just now; counts after history or embedding, and alone where neither is there.
        segment: number of a group of items in the released model that the caller says fits.
        hidden: item ids never to list.
        categories, merchants: only items of these; empty: of any.
        reasons: whether reasons are wanted.
        seed: what fixes chance in an answer; the same seed draws the same.
    """

    surface: Surface
    k: int
    timestamp: int
    embedding: UserVector | None = None
    history: Events | Sequence[PastEvent] | None = None
    stored: bool = False
    words: str = ""
    item_id: str = ""
    exclude_seen: bool = True
    session: Events | Sequence[PastEvent] = NOTHING
    segment: int | None = None
    hidden: Sequence[str] = ()
    categories: Sequence[str] = ()
    merchants: Sequence[str] = ()
    reasons: bool = True
    seed: str = ""


@dataclass(frozen=True, kw_only=True)
class Reason:
    """Why an item is listed, as a sentence part, with the item that is the cause where one is."""

    kind: ReasonKind
    text: str
    item_id: str = ""

    @cached_property
    def encoded(self) -> bytes:
        """The field `reason` of a `RankedItem`; kept as long as this reason is, and most reasons are given often."""
        return encoded_reason(self.kind.name, self.text, self.item_id)
