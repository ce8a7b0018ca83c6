"""The words of a reason that names a cause; what is said again and again is kept, with its encoded bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from model.features import KINDS
from server.serving.items import ItemTable
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
DONE = [Phrase(ReasonKind.HISTORY, words) for words in _DONE.values()]
PUT_IN = [*_DONE].index("add_to_cart")
STRENGTH = [[*_DONE].index(kind) if kind in _DONE else len(_DONE) for kind in KINDS]
"""The place in `DONE` of each kind of event."""
SIMILAR = Phrase(ReasonKind.SIMILAR, "similar to {}")

_TOGETHER = {"view": "often viewed with {}", "add_to_cart": "often put in a cart with {}"}
"""By kind of event that baskets were learned from; the weaker goes before the stronger, for it is true of both."""


def together(card: Mapping[str, Any], *, in_cart: bool) -> Phrase:
    """What goes together by what a version's card says that its baskets were: bought only where all of them were."""
    kinds = (card.get("learned") or {}).get("basket_kinds") or []
    words = "often bought with {}" if kinds == ["purchase"] else "goes with {}"
    words = next((words for kind, words in _TOGETHER.items() if kind in kinds), words)
    return Phrase(ReasonKind.TOGETHER, words + " in your cart" * in_cart)


class _Reasons(dict[tuple[int, Phrase], Reason]):
    """The reason of each item and phrase."""

    def __init__(self, items: ItemTable) -> None:
        super().__init__()
        self._items = items

    def __missing__(self, cause: tuple[int, Phrase]) -> Reason:
        item, phrase = cause
        if len(self) >= REMEMBERED:
            self.clear()
        item_id = self._items.item_id(item)
        text = phrase.words.format(short(self._items.title(item) or item_id))
        self[cause] = Reason(kind=phrase.kind, text=text, item_id=item_id)
        return self[cause]


def reasons_of(snapshot: Snapshot) -> Mapping[tuple[int, Phrase], Reason]:
    """The reason that names an item in a phrase; made when it is asked for."""
    known = _known.get(snapshot.items)
    if known is None:
        known = _known[snapshot.items] = _Reasons(snapshot.items)
    return known


_known: WeakKeyDictionary[ItemTable, _Reasons] = WeakKeyDictionary()


def short(name: str) -> str:
    """A name that is not too long for a sentence."""
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"
