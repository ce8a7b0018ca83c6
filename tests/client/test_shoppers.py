"""The event store as arrays: everything that is known, in order, and every shopper with a key of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from shopper_world import ITEMS, Event, cohorts, shoppers_of

from client import events as stored
from client.shoppers import Shoppers, load_shoppers
from client.store import EventStore
from model.features import KINDS
from privacy.keyring import Keyring
from privacy.pseudonyms import Pseudonymiser

INDEX = {"mug": 0, "tea": 1, "pot": 2}
_PSEUDONYMS = Pseudonymiser(b"k" * 32)
ANNA, BERTA, CLARA = sorted(_PSEUDONYMS.of(name) for name in ("anna", "berta", "clara"))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EventStore]:
    """An empty encrypted store."""
    with EventStore.open(tmp_path / "events.db", Keyring.open(tmp_path / "keys"), "devices") as store:
        yield store


def put(store: EventStore, *rows: tuple[str, str, str, int]) -> None:
    """Store events (shopper, item, kind, time)."""
    store.append(stored.Event(shopper=s, item_id=i, kind=k, timestamp=t) for s, i, k, t in rows)


def lists(shoppers: Shoppers) -> list[list[Event]]:
    """Histories as lists of (item, kind, time)."""
    histories = shoppers.histories
    flat = zip(histories.items.tolist(), histories.kinds.tolist(), histories.times.tolist(), strict=True)
    events = [(item, KINDS[kind], time) for item, kind, time in flat]
    return [events[a:b] for a, b in zip(histories.indptr[:-1], histories.indptr[1:], strict=True)]


def test_histories_come_from_the_store_oldest_first_by_pseudonym(store: EventStore) -> None:
    """Items become catalogue indices and kinds become numbers; equal times keep the order of storing."""
    put(store, (BERTA, "tea", "purchase", 9), (ANNA, "pot", "view", 5), (ANNA, "mug", "view", 5))
    put(store, (ANNA, "tea", "dismiss", 3), (BERTA, "tea", "return", 12))
    shoppers = load_shoppers(store, INDEX, None)
    assert shoppers.pseudonyms == (ANNA, BERTA)
    assert lists(shoppers) == [
        [(1, "dismiss", 3), (2, "view", 5), (0, "view", 5)],
        [(1, "purchase", 9), (1, "return", 12)],
    ]
    histories = shoppers.histories
    assert [array.dtype.name for array in (histories.items, histories.kinds, histories.times)] == [
        "int32",
        "int8",
        "int64",
    ]


def test_only_the_shoppers_that_were_asked_for_are_read(store: EventStore) -> None:
    """A node carries its own devices and never looks at the others; order and repetition do not matter."""
    put(store, *((name, "mug", "view", 1) for name in (ANNA, BERTA, CLARA)))
    assert load_shoppers(store, INDEX, [CLARA, ANNA, CLARA]).pseudonyms == (ANNA, CLARA)
    assert load_shoppers(store, INDEX, []).pseudonyms == ()
    assert load_shoppers(store, INDEX, None).pseudonyms == (ANNA, BERTA, CLARA)


def test_items_that_left_the_catalogue_and_unknown_kinds_are_left_out(store: EventStore) -> None:
    """The shopper stays, with an empty history if nothing else is known of it, so that rows never shift."""
    put(store, (ANNA, "gone", "view", 1), (ANNA, "mug", "impression", 2))
    put(store, (BERTA, "gone", "view", 1), (BERTA, "pot", "view", 2), (BERTA, "pot", "hovered", 3))
    put(store, (CLARA, "gone", "purchase", 1))
    shoppers = load_shoppers(store, INDEX, None)
    assert shoppers.pseudonyms == (ANNA, BERTA, CLARA)
    assert lists(shoppers) == [[], [(2, "view", 2)], []]
    assert len(shoppers.keys) == 3


def test_a_store_without_events_has_no_shoppers(store: EventStore) -> None:
    """Nobody: empty arrays that every later step can take."""
    shoppers = load_shoppers(store, INDEX, None)
    assert len(shoppers) == 0 and len(shoppers.histories) == 0 and len(shoppers.keys) == 0
    assert shoppers.incidence(np.arange(3), 3).shape == (0, 3)
    rows, items = shoppers.liked
    assert len(rows) == len(items) == 0


def test_a_shopper_has_the_same_key_in_every_cohort_and_nobody_shares_it(store: EventStore) -> None:
    """The key is the first half of the pseudonym, so draws depend on the shopper and not on its row."""
    put(store, *((name, "mug", "view", 1) for name in (ANNA, BERTA, CLARA)))
    everyone, alone = load_shoppers(store, INDEX, None), load_shoppers(store, INDEX, [BERTA])
    assert everyone.keys.dtype == np.uint64
    assert alone.keys.tolist() == [everyone.keys[1]] == [int(BERTA[:16], 16)]
    assert len(set(everyone.keys.tolist())) == 3


def test_times_before_1970_and_at_the_end_of_time_survive(store: EventStore) -> None:
    """The store takes any 64-bit time; so do the arrays."""
    put(store, (ANNA, "mug", "view", -(2**63)), (ANNA, "tea", "view", 2**63 - 1), (ANNA, "pot", "view", -1))
    assert lists(load_shoppers(store, INDEX, None)) == [
        [(0, "view", -(2**63)), (2, "view", -1), (1, "view", 2**63 - 1)]
    ]


@settings(max_examples=60, deadline=None)
@given(cohorts)
def test_liked_pairs_are_the_distinct_items_that_were_not_only_refused(events: list[list[Event]]) -> None:
    """Once per (shopper, item) however often it happened; a refusal takes nothing away and adds nothing."""
    shoppers = shoppers_of(events)
    expected = {
        (row, item)
        for row, history in enumerate(events)
        for item, kind, _ in history
        if kind not in ("dismiss", "return")
    }
    rows, items = shoppers.liked
    pairs = list(zip(rows.tolist(), items.tolist(), strict=True))
    assert sorted(pairs) == sorted(expected)
    chosen = np.array([4, 1, 6])
    dense = shoppers.incidence(chosen, ITEMS).toarray()
    assert dense.shape == (len(events), 3)
    assert {(int(r), int(chosen[c])) for r, c in np.argwhere(dense)} == {
        p for p in expected if p[1] in chosen
    }
    assert set(np.unique(dense)) <= {0.0, 1.0}
