"""Shoppers at the edges: no event, one event, a million events, and items that left the catalogue."""

from __future__ import annotations

import logging
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from client import events as stored
from client import shoppers as module
from client import store_reading
from client.contribution import HeadHistories, count_share, gram_share
from client.shoppers import load_shoppers, shoppers_from
from client.store import EventStore
from client.store_reading import empty_columns
from model.features import HISTORY_LIMIT, Histories
from model.head import Head
from privacy.keyring import Keyring
from privacy.pseudonyms import Pseudonymiser

INDEX = {"mug": 0, "tea": 1, "pot": 2}
_PSEUDONYMS = Pseudonymiser(b"k" * 32)
ANNA, BERTA, CLARA = sorted(_PSEUDONYMS.of(name) for name in ("anna", "berta", "clara"))
MANY = 1_000_000


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EventStore]:
    """An empty encrypted store."""
    with EventStore.open(tmp_path / "events.db", Keyring.open(tmp_path / "keys"), "devices") as store:
        yield store


def put(store: EventStore, *rows: tuple[str, str, str, int]) -> None:
    """Store events (shopper, item, kind, time)."""
    store.append(stored.Event(shopper=s, item_id=i, kind=k, timestamp=t) for s, i, k, t in rows)


def test_only_the_newest_events_of_a_shopper_are_used(
    store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By time, not by order of storing; events that are left out anyway do not crowd others out."""
    monkeypatch.setattr(module, "EVENT_LIMIT", 2)
    put(store, (ANNA, "pot", "view", 9), (ANNA, "mug", "view", 1), (ANNA, "tea", "purchase", 5))
    put(store, (ANNA, "gone", "view", 99), (ANNA, "mug", "impression", 98))
    put(store, (BERTA, "mug", "view", 1), (BERTA, "tea", "view", 2))
    histories = load_shoppers(store, INDEX, None).histories
    assert histories.indptr.tolist() == [0, 2, 4]
    assert histories.items.tolist() == [1, 2, 0, 1]
    assert histories.times.tolist() == [5, 9, 1, 2]


def test_the_log_of_the_participant_counts_what_was_left_out_and_names_nobody(
    store: EventStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Three counts, no shopper and no item; silence where nothing was left out."""
    monkeypatch.setattr(module, "EVENT_LIMIT", 2)
    caplog.set_level(logging.INFO, logger="fedrank.participant")
    put(store, (BERTA, "mug", "view", 1), (BERTA, "tea", "view", 2))
    load_shoppers(store, INDEX, None)
    assert caplog.messages == []
    put(store, *((ANNA, "pot", "view", time) for time in range(3)))
    put(store, (ANNA, "gone", "view", 7), (CLARA, "gone", "view", 8), (CLARA, "mug", "impression", 9))
    load_shoppers(store, INDEX, None)
    words = " ".join(caplog.messages)
    assert "2 events are left out: their item is not in the catalogue" in words
    assert "1 events are left out: this version does not know their kind" in words
    assert "1 shoppers have more than" in words
    assert not any(name in words for name in (ANNA, BERTA, CLARA, "gone", "pot"))


def test_shoppers_of_several_pages_are_read_as_of_one(
    store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store is read page by page, also within a shopper; nobody is lost between pages, and no event."""
    put(store, (BERTA, "tea", "view", 3), (ANNA, "pot", "view", 5), (CLARA, "mug", "view", 1))
    put(store, (ANNA, "mug", "purchase", 2), (BERTA, "gone", "view", 4))
    whole = load_shoppers(store, INDEX, None)
    monkeypatch.setattr(store_reading, "PAGE_ROWS", 1)
    assert len(list(store.pages())) > len(whole)
    paged = load_shoppers(store, INDEX, None)
    assert paged.pseudonyms == whole.pseudonyms == (ANNA, BERTA, CLARA)
    assert paged.keys.tolist() == whole.keys.tolist()
    for name in ("indptr", "items", "kinds", "times"):
        np.testing.assert_array_equal(getattr(paged.histories, name), getattr(whole.histories, name))


def test_a_million_events_of_one_shopper_become_a_bounded_history() -> None:
    """The newest limit of them, in arrays that take a hundred bytes an event while they are made."""
    columns = empty_columns()
    columns.shopper.extend([ANNA] * MANY)
    columns.item_id.extend(["mug", "tea"] * (MANY // 2))
    columns.kind.extend(["view"] * MANY)
    columns.timestamp.extend(range(MANY, 0, -1))
    left_out = Counter[str]()
    tracemalloc.start()
    shoppers = shoppers_from([columns], INDEX, left_out)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(shoppers.histories.items) == module.EVENT_LIMIT
    assert shoppers.histories.times.tolist() == list(range(1, MANY + 1))[-module.EVENT_LIMIT :]
    assert +left_out == {module._CAPPED: 1}
    assert peak <= 100 * MANY


def test_the_share_of_a_shopper_with_endless_events_has_the_length_of_anybody_elses() -> None:
    """Counts and Gram of one shopper have norm C, for one event as for a million."""
    rng = np.random.default_rng(0)
    items = rng.integers(0, 500, MANY).astype(np.int32)
    head = Head(np.arange(500), rng.gamma(2.0, size=500) + 0.1)
    for events in (1, MANY):
        histories = Histories(
            np.array([0, events]), items[:events], np.zeros(events, np.int8), np.arange(events)
        )
        shopper = module.Shoppers((ANNA,), histories, np.zeros(1, np.uint64))
        assert np.linalg.norm(count_share(shopper, 500, 1.5)) == pytest.approx(1.5)
        histories_in_head = HeadHistories.of(shopper, head, 500)
        assert np.linalg.norm(gram_share(histories_in_head, 1.5)) == pytest.approx(1.5)
        assert len(histories.recent().items) <= HISTORY_LIMIT
