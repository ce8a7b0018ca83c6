"""Events of shoppers, one by one or in parallel columns, as the event store takes and gives them."""

import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final, Self

from client.errors import InvalidEvent

_LONGEST_TEXT: Final = 1024
_INT64: Final = range(-(2**63), 2**63)
_is_kind = re.compile(r"[a-z][a-z_]{0,31}").fullmatch


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """One thing that a shopper saw or did.

    `shopper` is a pseudonym; `timestamp` is in seconds since 1970 (UTC) where the data has a clock;
    `event_id` makes storing the same event twice harmless. `propensity` is the probability with which an impression
    came to its place, where the endpoint drew it.
    """

    shopper: str
    item_id: str
    kind: str
    timestamp: int
    surface: str | None = None
    quantity: float | None = None
    price: float | None = None
    ranking_id: str | None = None
    merchant_id: str | None = None
    event_id: str | None = None
    propensity: float | None = None

    def __post_init__(self) -> None:
        """Refuse values that no event can have; the message names the field and never the value."""
        for name, check in _CHECKS.items():
            check(name, getattr(self, name))


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Many events as parallel lists: position i of every list belongs to event i."""

    shopper: list[str]
    item_id: list[str]
    kind: list[str]
    timestamp: list[int]
    surface: list[str | None]
    quantity: list[float | None]
    price: list[float | None]
    ranking_id: list[str | None]
    merchant_id: list[str | None]
    event_id: list[str | None]
    propensity: list[float | None]

    @classmethod
    def of(cls, events: Iterable[Event]) -> Self:
        """Return the columns of events."""
        rows = list(events)
        return cls(**{name: [getattr(row, name) for row in rows] for name in COLUMN_NAMES})

    def __len__(self) -> int:
        """Return the number of events."""
        return len(self.shopper)

    def events(self) -> Iterator[Event]:
        """Return the events one by one."""
        return (
            Event(**dict(zip(COLUMN_NAMES, row, strict=True))) for row in zip(*self.by_name(), strict=True)
        )

    def by_name(self) -> list[list[Any]]:
        """Return the lists in the order of `COLUMN_NAMES`."""
        return [getattr(self, name) for name in COLUMN_NAMES]

    def check(self) -> None:
        """Raise `InvalidEvent` unless all lists are equally long and hold only values that an event can have."""
        for name, column in zip(COLUMN_NAMES, self.by_name(), strict=True):
            if len(column) != len(self):
                raise InvalidEvent(f"column {name} has {len(column)} values, column shopper has {len(self)}")
        for name, check in _CHECKS.items():
            column = getattr(self, name)
            if check not in _CLEARLY_FINE or not _CLEARLY_FINE[check](column):
                for value in set(column):
                    check(name, value)


def _check_text(name: str, value: Any) -> None:
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST_TEXT:
        raise InvalidEvent(f"an event's {name} must be text of 1..{_LONGEST_TEXT} characters")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidEvent(f"an event's {name} must be text that UTF-8 can write") from None


def _check_optional_text(name: str, value: Any) -> None:
    if value is not None:
        _check_text(name, value)


def _check_kind(name: str, value: Any) -> None:
    if not isinstance(value, str) or not _is_kind(value):
        raise InvalidEvent(f"an event's {name} must be a word like add_to_cart: 1..32 of a-z and _")


def _check_timestamp(name: str, value: Any) -> None:
    if not isinstance(value, int) or value not in _INT64:
        raise InvalidEvent(
            f"an event's {name} must be a Python int of 64 bits (seconds), not {type(value).__name__}"
        )


def _check_amount(name: str, value: Any) -> None:
    if value is not None and not (isinstance(value, int | float) and math.isfinite(value)):
        raise InvalidEvent(f"an event's {name} must be a finite Python number or None")


def _fine_texts(column: Sequence[Any]) -> bool:
    """Tell whether a whole column passes, by means that are fast for many; False says nothing."""
    if {*map(type, column)} != {str}:
        return not column
    lengths = {*map(len, column)}
    return min(lengths) > 0 and max(lengths) <= _LONGEST_TEXT and "".join(column).isascii()


def _fine_optional_texts(column: Sequence[Any]) -> bool:
    return _fine_texts([value for value in column if value is not None])


def _fine_timestamps(column: Sequence[Any]) -> bool:
    return {*map(type, column)} == {int} and min(column) in _INT64 and max(column) in _INT64


def _fine_amounts(column: Sequence[Any]) -> bool:
    amounts = [value for value in column if value is not None]
    return {*map(type, amounts)} <= {int, float} and all(map(math.isfinite, amounts))


COLUMN_NAMES: Final = tuple(field.name for field in fields(Event))
_CHECKS: Final[dict[str, Callable[[str, Any], None]]] = {
    "item_id": _check_text,
    "kind": _check_kind,
    "timestamp": _check_timestamp,
    "surface": _check_optional_text,
    "quantity": _check_amount,
    "price": _check_amount,
    "ranking_id": _check_optional_text,
    "merchant_id": _check_optional_text,
    "event_id": _check_optional_text,
    "propensity": _check_amount,
}
_CLEARLY_FINE: Final[dict[Callable[[str, Any], None], Callable[[Sequence[Any]], bool]]] = {
    _check_text: _fine_texts,
    _check_optional_text: _fine_optional_texts,
    _check_timestamp: _fine_timestamps,
    _check_amount: _fine_amounts,
}
"""How a column passes a check at once; what does not, or has no entry, is looked at value by value."""
