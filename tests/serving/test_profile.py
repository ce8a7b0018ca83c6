"""What is known of a shopper: which events count, in what order, and what is not listed again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ranking_world import HOME, NOW, bought, past_events, profile_of

from model.features import KINDS, Histories
from server.errors import InvalidRequest, UnknownItem
from server.serving.engine import Engine
from server.serving.past import known_events
from server.serving.query import NOTHING, Basis, Events, PastEvent, RankQuery, Surface, UserVector


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=st.lists(past_events, max_size=80), limit=st.integers(1, 20))
def test_the_tower_reads_what_the_trainer_reads_newest_first(
    engine: Engine, events: list[PastEvent], limit: int
) -> None:
    """Sorted by time, repetitions of an item and kind left out, cut at the limit: as `Histories.recent` has it."""
    table = engine.snapshot.items
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("server.serving.past.HISTORY_LIMIT", limit)
        found = known_events(table, [NOTHING], [Events.of(events)], np.array([NOW]))
    past, read = found.past_of(0), found.read_of(0)
    known = [event for event in events if event.item_id.startswith("item-") and event.item_id < "item-60"]
    times = [NOW if event.time is None else min(event.time, NOW) for event in known]
    order = sorted(range(len(known)), key=lambda place: times[place])
    history = Histories(
        np.array([0, len(known)]),
        np.array([int(known[place].item_id[5:]) for place in order], dtype=np.int32),
        np.array([KINDS.index(known[place].kind) for place in order], dtype=np.int8),
        np.array([times[place] for place in order], dtype=np.int64),
    ).recent(limit)
    assert len(past.items) == len(known)
    assert read.items.tolist() == history.items[::-1].tolist()
    assert read.kinds.tolist() == history.kinds[::-1].tolist()
    assert read.times.tolist() == history.times[::-1].tolist()


def test_a_time_that_is_absent_or_in_the_future_counts_as_now_in_the_order_sent(engine: Engine) -> None:
    """A shopper's fast clock does not put an event before or after what was sent with it."""
    times = [NOW + 500, None, NOW - 5, NOW + 9, NOW - 5]
    events = [PastEvent(item_id=f"item-0{place}", kind="view", time=time) for place, time in enumerate(times)]
    past = known_events(engine.snapshot.items, [NOTHING], [Events.of(events)], np.array([NOW])).past_of(0)
    assert past.items.tolist() == [3, 1, 0, 4, 2]
    assert past.times.tolist() == [NOW, NOW, NOW, NOW - 5, NOW - 5]


def test_the_session_is_newer_than_the_history_whatever_the_clocks_say(engine: Engine) -> None:
    """A session event with an old time comes before a history event of now; repetitions count once, as session."""
    history = [PastEvent(item_id="item-01", kind="view"), PastEvent(item_id="item-02", kind="view")]
    session = [
        PastEvent(item_id="item-02", kind="view", time=5),
        PastEvent(item_id="item-03", kind="view", time=9),
    ]
    read = profile_of(engine.snapshot, replace(HOME, history=history, session=session)).read
    assert read.items.tolist() == [3, 2, 1]
    assert read.session == 2


TOLD = bought(3, 8, kind="view")


@pytest.mark.parametrize(
    ("question", "basis"),
    [
        ({}, Basis.COLD_START),
        ({"history": []}, Basis.COLD_START),
        ({"history": [PastEvent(item_id="gone", kind="view")]}, Basis.COLD_START),
        ({"history": TOLD}, Basis.HISTORY),
        ({"history": TOLD, "stored": True}, Basis.STORED),
        ({"history": TOLD, "session": TOLD}, Basis.HISTORY),
        ({"session": TOLD}, Basis.SESSION),
        ({"history": [], "stored": True, "session": TOLD}, Basis.SESSION),
        ({"session": TOLD, "segment": 0}, Basis.SESSION),
        ({"segment": 0}, Basis.SEGMENT),
        ({"surface": Surface.DETAIL, "item_id": "item-01"}, Basis.NOT_USED),
        ({"surface": Surface.DETAIL, "item_id": "item-01", "history": TOLD}, Basis.HISTORY),
        ({"surface": Surface.CART, "item_id": "item-01"}, Basis.SESSION),
        ({"surface": Surface.CART, "item_id": "item-01", "history": TOLD}, Basis.HISTORY),
    ],
)
def test_an_answer_says_what_it_was_made_from(engine: Engine, question: dict[str, Any], basis: Basis) -> None:
    """Nothing, a history, what is kept, a session, a segment, or an item alone."""
    assert profile_of(engine.snapshot, replace(HOME, **question)).basis is basis


def test_an_embedding_stands_for_history_and_moment_and_bars_what_the_session_bought(engine: Engine) -> None:
    """The history reading is empty, the moment is in the embedding, and the session is read beside it."""
    vector = UserVector(values=np.ones(8, np.float32), model_version=engine.snapshot.version)
    profile = profile_of(engine.snapshot, replace(HOME, embedding=vector, session=bought(7)))
    assert profile.basis is Basis.USER_EMBEDDING
    assert set(profile.reading.context) == {-1}
    assert not profile.reading.codes[0].any() and profile.reading.codes[1].all()
    assert profile.barred.tolist() == [7]
    short = replace(vector, values=np.ones(3, np.float32))
    with pytest.raises(InvalidRequest, match="has 3 values"):
        profile_of(engine.snapshot, replace(HOME, embedding=short))


def test_a_segment_that_the_version_lacks_is_refused_with_the_bound(engine: Engine) -> None:
    """The number came from another version, as a rule."""
    for number in (len(engine.snapshot.segments), 4_000_000_000):
        with pytest.raises(InvalidRequest, match="this model version has segments 0 to"):
            profile_of(engine.snapshot, replace(HOME, segment=number))


@pytest.mark.parametrize(
    ("question", "basket"),
    [
        ({"session": bought(4, kind="add_to_cart"), "history": TOLD}, [4]),
        ({"session": bought(4, kind="view"), "history": TOLD, "item_id": "item-09"}, [9, 4]),
        ({"history": bought(3, 8, kind="add_to_cart")}, [8, 3]),
        ({"history": bought(3, 8, kind="add_to_cart"), "item_id": "item-09"}, [9]),
        ({"history": bought(3, kind="add_to_cart"), "stored": True}, [3]),
        ({"history": [*bought(2, 3, kind="add_to_cart"), *bought(3)], "stored": True}, []),
        (
            {
                "session": [
                    *bought(4, kind="view"),
                    *bought(4, kind="add_to_cart"),
                    *bought(5, kind="dismiss"),
                ]
            },
            [4],
        ),
        ({}, []),
    ],
)
def test_the_basket_is_the_session_or_else_what_was_put_in_and_not_bought(
    engine: Engine, question: dict[str, Any], basket: list[int]
) -> None:
    """A history that is sent is the basket whole; of stored events those since the last purchase count."""
    profile = profile_of(engine.snapshot, replace(HOME, surface=Surface.CART, **question))
    assert profile.basket is not None
    assert profile.read.items[profile.basket].tolist() == basket
    weights = profile.reading.anchors[profile.basket]
    np.testing.assert_allclose(weights, 1 / np.sqrt(max(len(basket), 1)), rtol=1e-6)
    assert set(basket) <= set(profile.barred.tolist())


def test_what_is_bought_dismissed_hidden_or_looked_at_is_barred(engine: Engine) -> None:
    """By the surface; what is hidden stays hidden even where seen items are wanted."""
    events = [*bought(1), *bought(2, kind="dismiss"), *bought(3, kind="view"), *bought(4, kind="add_to_cart")]
    told = replace(HOME, history=events, hidden=["item-09", "unknown"])

    def barred(query: RankQuery) -> list[int]:
        return [item for item in profile_of(engine.snapshot, query).barred.tolist() if item >= 0]

    asked = {surface: replace(told, surface=surface, item_id="item-05", words="tea") for surface in Surface}
    assert barred(asked[Surface.HOME]) == [1, 2, 9]
    assert barred(asked[Surface.SEARCH]) == [2, 9]
    assert barred(asked[Surface.DETAIL]) == [2, 5, 9]
    assert barred(asked[Surface.CART]) == [2, 4, 5, 9]
    assert barred(replace(told, exclude_seen=False)) == [9]


def test_detail_of_an_item_that_is_not_here_is_refused(engine: Engine) -> None:
    """The message names the size of the catalogue and the next step, and not the id."""
    with pytest.raises(UnknownItem, match="60 items") as refusal:
        profile_of(engine.snapshot, replace(HOME, surface=Surface.DETAIL, item_id="secret-7"))
    assert "secret-7" not in str(refusal.value)


def test_a_basket_is_read_as_put_in_whatever_the_events_are_called(engine: Engine) -> None:
    """As the fusion has learned it: the same session reading for views and for purchases."""
    readings = [
        profile_of(
            engine.snapshot, replace(HOME, surface=Surface.CART, session=bought(3, 8, kind=kind))
        ).reading
        for kind in ("add_to_cart", "purchase", "view")
    ]
    assert readings[0].codes[1].tolist() == readings[1].codes[1].tolist() == readings[2].codes[1].tolist()
    assert readings[0].codes[0].tolist() != readings[1].codes[0].tolist()


def test_an_empty_basket_is_no_session(engine: Engine) -> None:
    """What was only dismissed in this session is in no basket, and nothing is read as one."""
    query = replace(HOME, surface=Surface.CART, session=bought(3, kind="dismiss"), history=bought(8))
    profile = profile_of(engine.snapshot, query)
    assert profile.reading.codes[0].all()
    assert not profile.reading.codes[1].any() and not profile.reading.anchors.any()
