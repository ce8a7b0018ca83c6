"""What a history can teach a surface: a question that could have been asked there, and the item that was taken.

* home: a moment, everything before it, and an item taken then that was new to the shopper;
* detail: an item, and the next other item of the same visit;
* cart: a basket without one of its items that was new to the shopper, and that item.

Every draw is a function of (seed, round, shopper), as in `model.sampling`. What nobody could have known at that
moment is in no reading, and a shopper whose history holds no such question has no example there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from client.baskets import visits_of
from model.features import KINDS, SURFACES, Histories, Moments, context_codes
from model.sampling import POSITIVE

Ints = NDArray[np.int64]

_NOTHING = np.zeros(0, dtype=np.int64)
_SEEN_AS = {"detail": KINDS.index("view"), "cart": KINDS.index("add_to_cart")}
"""Surfaces that ask for what goes with the session's items, and what kind of event these are there."""


class Chosen(NamedTuple):
    """Numbers of the events that a question is made of: what came before, the session, and what was taken then."""

    history: Ints
    session: Ints
    taken: int


@dataclass(frozen=True)
class Questions:
    """The questions of one surface that some shoppers' histories hold.

    Attributes:
        shoppers: (n,) rows of the cohort.
        histories, sessions: what the user tower reads, one row per question.
        barred: events whose items the surface would not list again.
        anchors: items that something is to go with, of each question.
        moments: when it was asked.
        taken: (n,) the item that was taken.
    """

    shoppers: Ints
    histories: Histories
    sessions: Histories
    barred: Histories
    anchors: list[Ints]
    moments: Moments
    taken: Ints


@dataclass(frozen=True)
class Shopper:
    """One shopper's events, oldest first, with the numbers of their visits.

    Attributes:
        in_basket: which events are of a kind that makes a basket.
        draw: a number in [0, 1).
    """

    items: Ints
    kinds: Ints
    times: Ints
    visits: Ints
    in_basket: NDArray[np.bool_]
    draw: float

    @property
    def new(self) -> NDArray[np.bool_]:
        """Which events want an item that no earlier moment's event has."""
        _, first, place = np.unique(self.items, return_index=True, return_inverse=True)
        return np.asarray(POSITIVE[self.kinds] & (self.times[first[place]] == self.times))


def home(one: Shopper) -> Chosen | None:
    """A moment after the first, what came before it, and what of that came in the same visit."""
    event = _one_of(np.flatnonzero(one.new & (one.times > one.times[:1])), one.draw)
    if event is None:
        return None
    before = np.flatnonzero(one.times < one.times[event])
    return Chosen(before, before[one.visits[before] == one.visits[event]], event)


def detail(one: Shopper) -> Chosen | None:
    """An item that was looked at or taken, and the next other one of the visit; the history is what came before."""
    wanted = np.flatnonzero(POSITIVE[one.kinds])
    here, later = wanted[:-1], wanted[1:]
    follows = (one.visits[here] == one.visits[later]) & (one.items[here] != one.items[later])
    place = _one_of(np.flatnonzero(follows), one.draw)
    if place is None:
        return None
    return Chosen(np.arange(here[place]), here[place : place + 1], int(later[place]))


def cart(one: Shopper) -> Chosen | None:
    """A basket without one new item of it: the others are what lies in the cart, and the newest events."""
    hidden = _one_of(np.flatnonzero(one.new & one.in_basket & _in_company(one)), one.draw)
    if hidden is None:
        return None
    inside = one.in_basket & (one.visits == one.visits[hidden]) & (one.items != one.items[hidden])
    others = np.flatnonzero(inside)
    before = np.flatnonzero(one.visits < one.visits[hidden])
    return Chosen(np.concatenate([before, others]), others, hidden)


def _in_company(one: Shopper) -> NDArray[np.bool_]:
    """Return which events lie in a basket with another item."""
    least, most = (np.full(int(one.visits.max(initial=-1)) + 1, end) for end in (np.iinfo(np.int64).max, -1))
    at = one.visits[one.in_basket]
    np.minimum.at(least, at, one.items[one.in_basket])
    np.maximum.at(most, at, one.items[one.in_basket])
    return np.asarray((least < most)[one.visits])


def _one_of(numbers: Ints, draw: float) -> int | None:
    return int(numbers[int(draw * len(numbers))]) if len(numbers) else None


_ASKED: dict[str, Callable[[Shopper], Chosen | None]] = {"home": home, "detail": detail, "cart": cart}


def questions(
    histories: Histories,
    draws: NDArray[np.float64],
    basket_kinds: frozenset[str],
    *,
    surface: str,
    clock: bool,
) -> Questions:
    """Return the questions of a surface: at most one for each shopper.

    Args:
        histories: all train events of the shoppers.
        draws: (shoppers,) numbers in [0, 1).
        basket_kinds: event kinds that make a basket.
        surface: `home`, `detail` or `cart`.
        clock: whether times are seconds; without it nobody knows what is one visit, and home alone is asked.
    """
    visits = visits_of(histories) if clock else np.arange(len(histories.items), dtype=np.int64)
    in_basket = np.isin(histories.kinds, [KINDS.index(kind) for kind in basket_kinds])
    shoppers, chosen = [], []
    for row, (first, last) in enumerate(zip(histories.indptr[:-1], histories.indptr[1:], strict=True)):
        if first < last:
            found = _ASKED[surface](_shopper(histories, visits, in_basket, slice(first, last), draws[row]))
            if found is not None:
                shoppers.append(row)
                chosen.append(Chosen(*(numbers + first for numbers in found)))
    return _assembled(histories, np.array(shoppers, dtype=np.int64), chosen, surface, clock=clock)


def _shopper(
    histories: Histories, visits: Ints, in_basket: NDArray[np.bool_], span: slice, draw: float
) -> Shopper:
    return Shopper(
        histories.items[span].astype(np.int64),
        histories.kinds[span].astype(np.int64),
        histories.times[span],
        visits[span] - visits[span][0],
        in_basket[span],
        float(draw),
    )


def _assembled(
    histories: Histories, shoppers: Ints, chosen: list[Chosen], surface: str, *, clock: bool
) -> Questions:
    """Put the questions that were found into arrays."""
    taken = np.array([one.taken for one in chosen], dtype=np.int64)
    times = histories.times[taken] if clock else np.full(len(taken), -1, dtype=np.int64)
    surfaces = np.full(len(taken), SURFACES.index(surface), dtype=np.int64)
    sessions = _events(histories, [one.session for one in chosen])
    if surface in _SEEN_AS:
        sessions = replace(sessions, kinds=np.full_like(sessions.kinds, _SEEN_AS[surface]))
    anchored = [histories.items[one.session] if surface in _SEEN_AS else _NOTHING for one in chosen]
    before = _events(histories, [one.history for one in chosen])
    return Questions(
        shoppers,
        before.recent(),
        sessions.recent(),
        sessions if surface == "detail" else before,
        [np.unique(items).astype(np.int64) for items in anchored],
        Moments(times, context_codes(times, surfaces)),
        histories.items[taken].astype(np.int64),
    )


def _events(histories: Histories, chosen: list[Ints]) -> Histories:
    """Return the chosen events of each question as its history."""
    indptr = np.concatenate([[0], np.cumsum([len(numbers) for numbers in chosen])]).astype(np.int64)
    events = np.concatenate([_NOTHING, *chosen])
    return Histories(indptr, histories.items[events], histories.kinds[events], histories.times[events])
