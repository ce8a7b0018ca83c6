"""The words of a reason that names a cause; what is said again and again is kept, with its encoded bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from model.features import KINDS
from server.serving.items import ItemTable
from server.serving.kernels_reasons import PHRASES
from server.serving.query import Reason, ReasonKind
from server.serving.snapshot import Snapshot

REMEMBERED = 1 << 14
"""Reasons that are kept per snapshot, some 5 MB; they hold an item and a phrase, and nothing of a shopper."""
_LONGEST_NAME = 80


class Phrase(NamedTuple):
    """What a reason says of its cause, whose name takes the place of {}."""

    kind: ReasonKind
    words: str


_DONE = {
    "purchase": "because you bought {}",
    "add_to_cart": "because you put {} in your cart",
    "rating": "because you rated {}",
    "search": "because you searched for {}",
    "view": "because you viewed {}",
}
"""By kind of event, the strongest first: it names what the shopper did with the cause."""
PUT_IN = [*_DONE].index("add_to_cart")
STRENGTH = [[*_DONE].index(kind) if kind in _DONE else len(_DONE) for kind in KINDS]
"""The place in `_DONE` of each kind of event."""
_TOGETHER = {"view": "often viewed with {}", "add_to_cart": "often put in a cart with {}"}
"""By kind of event that baskets were learned from; the weaker goes before the stronger, for it is true of both."""


def phrases_of(card: Mapping[str, Any]) -> list[Phrase]:
    """What a version's reasons say of their causes, in the order of `kernels_reasons`.

    What goes together is told by what the card says that its baskets were: bought only where all of them were.
    """
    kinds = (card.get("learned") or {}).get("basket_kinds") or []
    words = "often bought with {}" if kinds == ["purchase"] else "goes with {}"
    words = next((words for kind, words in _TOGETHER.items() if kind in kinds), words)
    return [
        *(Phrase(ReasonKind.HISTORY, done) for done in _DONE.values()),
        Phrase(ReasonKind.SIMILAR, "similar to {}"),
        Phrase(ReasonKind.TOGETHER, words),
        Phrase(ReasonKind.TOGETHER, f"{words} in your cart"),
    ]


class _Reasons(dict[int, Reason]):
    """The reason of each item times `PHRASES` plus the number of a phrase."""

    def __init__(self, snapshot: Snapshot) -> None:
        super().__init__()
        self._items, self._phrases = snapshot.items, phrases_of(snapshot.card)

    def __missing__(self, named: int) -> Reason:
        item, number = divmod(named, PHRASES)
        if len(self) >= REMEMBERED:
            self.clear()
        phrase, item_id = self._phrases[number], self._items.item_id(item)
        text = phrase.words.format(short(self._items.title(item) or item_id))
        self[named] = Reason(kind=phrase.kind, text=text, item_id=item_id)
        return self[named]


def reasons_of(snapshot: Snapshot) -> Mapping[int, Reason]:
    """The reason that names an item in a phrase, by `PHRASES` times its row plus the phrase; made when asked for."""
    known = _known.get(snapshot.items)
    if known is None:
        known = _known[snapshot.items] = _Reasons(snapshot)
    return known


_known: WeakKeyDictionary[ItemTable, _Reasons] = WeakKeyDictionary()


def short(name: str) -> str:
    """A name that is not too long for a sentence."""
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"
