"""The kinds of events, and the names under which public sets and shops write them."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class Kind(StrEnum):
    """What a shopper did with an item."""

    VIEW = "view"
    ADD_TO_CART = "add_to_cart"
    PURCHASE = "purchase"
    SEARCH = "search"
    RATING = "rating"
    DISMISS = "dismiss"
    RETURN = "return"


KINDS: tuple[str, ...] = tuple(kind.value for kind in Kind)

BASKET_KINDS: tuple[str, ...] = (Kind.ADD_TO_CART.value, Kind.PURCHASE.value)
"""What makes a basket where a shop says of each event what it was, and does not say what makes one."""

_SYNONYMS: dict[str, str] = {
    "click": Kind.VIEW,
    "cart": Kind.ADD_TO_CART,
    "addtocart": Kind.ADD_TO_CART,
    "add-to-cart": Kind.ADD_TO_CART,
    "add to cart": Kind.ADD_TO_CART,
    "buy": Kind.PURCHASE,
    "order": Kind.PURCHASE,
    "transaction": Kind.PURCHASE,
}


def basket_kinds_of(kind: str | None) -> tuple[str, ...]:
    """Return what makes a basket where every event is of this kind, or where a column says of which (None).

    Views go together in a visit; ratings are given one by one and make no basket. No row is looked at.
    """
    if kind is None:
        return BASKET_KINDS
    return (kind,) if kind in (*BASKET_KINDS, Kind.VIEW) else ()


def kind_table(mapped: Mapping[str, str]) -> dict[str, str]:
    """Return written kind (lower case) -> canonical kind; `mapped` goes before the usual synonyms."""
    return {**_SYNONYMS, **{written.strip().lower(): kind for written, kind in mapped.items()}}
