"""Questions from the wire: every field is checked, every bad one named, and events become columns."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.features import KINDS
from proto.fedrank.ranking.v1 import ranking_pb2 as pb
from proto.ranking_bounds import MAX_TIMESTAMP
from server.errors import InvalidRequest
from server.serving.kernels_wire import plain_history
from server.serving.query import NO_TIME, Events, Surface
from server.serving.wire import read_query

NOW = 1_700_000_000


def request(**fields: Any) -> pb.RankRequest:
    """A right question with some fields changed."""
    return pb.RankRequest(**{"surface": pb.SURFACE_HOME, "k": 10, **fields})


def violations(asked: pb.RankRequest) -> dict[str, str]:
    """Field -> problem of a refused question."""
    with pytest.raises(InvalidRequest) as refusal:
        read_query(asked, NOW)
    return {violation.field: violation.problem for violation in refusal.value.violations}


events = st.lists(
    st.tuples(
        st.text(max_size=5), st.integers(1, len(KINDS)), st.one_of(st.none(), st.integers(0, MAX_TIMESTAMP))
    ),
    max_size=20,
)


@settings(deadline=None)
@given(told=events, session=events)
def test_events_become_columns_in_the_order_sent(
    told: list[tuple[str, int, int | None]], session: list[tuple[str, int, int | None]]
) -> None:
    """A time that is absent is no time, one of 1970 is one; the session is read like the history."""
    asked = request(history=history(told), session=history(session))
    query = read_query(asked, NOW)
    for read, sent in ((query.history, told), (query.session, session)):
        assert isinstance(read, Events)
        assert list(read.item_ids) == [item for item, _, _ in sent]
        assert list(read.kinds) == [kind - 1 for _, kind, _ in sent]
        assert list(read.times) == [NO_TIME if time is None else time for _, _, time in sent]


def history(told: list[tuple[str, int, int | None]]) -> pb.History:
    """A history on the wire."""
    sent = pb.History()
    for item_id, kind, time in told:
        event = sent.events.add(item_id=item_id, kind=pb.EventKind.Name(kind))
        if time is not None:
            event.time.FromSeconds(time)
    return sent


def test_wire_numbers_of_kinds_are_the_towers_kinds() -> None:
    """A kind on the wire less one is its place in `KINDS`; the columns rely on it."""
    for place, kind in enumerate(KINDS):
        assert pb.EventKind.Value(f"EVENT_KIND_{kind.upper()}") - 1 == place


def test_every_bad_event_is_named_by_its_place() -> None:
    """Kinds that no tower knows, times before 1970 and after 9999, in history and session."""
    bad = history([("a", 1, 5), ("b", 2, None)])
    bad.events.add(item_id="c", kind=pb.EVENT_KIND_UNSPECIFIED).time.seconds = -1
    bad.events.add(item_id="d", kind=pb.EVENT_KIND_VIEW).time.seconds = MAX_TIMESTAMP + 1
    found = violations(request(history=bad, session=bad))
    assert set(found) == {
        "history.events[2].kind",
        "history.events[2].time",
        "history.events[3].time",
        "session.events[2].kind",
        "session.events[2].time",
        "session.events[3].time",
    }
    assert "EVENT_KIND_VIEW" in found["history.events[2].kind"]
    assert found["session.events[2].time"] == f"is -1; send 0 to {MAX_TIMESTAMP} seconds since 1970"


def test_too_many_events_are_refused_unread_and_one_fault_says_how_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """History and session count together; where they are too many, none is looked at, not even a bad one."""
    monkeypatch.setattr("server.serving.wire._events", None)
    flood = pb.History(events=[pb.HistoryEvent()] * 6_000)
    few = pb.History(events=[pb.HistoryEvent()] * 4_001)
    for fields, named in (
        ({"history": flood, "session": few}, "history.events"),
        ({"history": few, "session": flood}, "session.events"),
    ):
        found = violations(request(**fields))
        assert list(found) == [named]
        assert "10001" in found[named] and "at most the newest 10000" in found[named]


@pytest.mark.parametrize("size", [9, 10, 11, 10_000])
def test_of_many_faults_ten_are_told_and_the_others_counted(size: int) -> None:
    """Whether they are of one kind or two; `k` comes first, so it is told."""
    bad = pb.History(events=[pb.HistoryEvent(time={"seconds": -1})] * (size - size // 2))
    with pytest.raises(InvalidRequest) as refusal:
        read_query(request(k=0, history=bad, session={"events": bad.events[: size // 2]}), NOW)
    told = refusal.value.violations
    assert (len(told), told[0].field) == (10, "k")
    assert refusal.value.more == 2 * size + 1 - 10


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"k": 0}, "k"),
        ({"k": 201}, "k"),
        ({"surface": 0}, "surface"),
        ({"surface": 99}, "surface"),
        ({"surface": pb.SURFACE_SEARCH}, "query"),
        ({"surface": pb.SURFACE_SEARCH, "query": "   "}, "query"),
        ({"surface": pb.SURFACE_SEARCH, "query": "x" * 501}, "query"),
        ({"surface": pb.SURFACE_DETAIL}, "item_id"),
        ({"item_id": "x" * 257}, "item_id"),
        ({"request_id": "x" * 129}, "request_id"),
        ({"shopper": ""}, "shopper"),
        ({"shopper": "x" * 257}, "shopper"),
        ({"hidden_item_ids": ["x"] * 1001}, "hidden_item_ids"),
        ({"categories": ["x"] * 51}, "categories"),
        ({"merchant_ids": ["x"] * 51}, "merchant_ids"),
        ({"context": {"timestamp": {"seconds": -5}}}, "context.timestamp"),
        ({"user_embedding": {"values": [float("nan")], "model_version": "v"}}, "user_embedding.values"),
        ({"user_embedding": {"values": [1.0]}}, "user_embedding.model_version"),
    ],
)
def test_a_field_out_of_bounds_is_named_with_its_bound(fields: dict[str, Any], named: str) -> None:
    """And nothing else is."""
    assert list(violations(request(**fields))) == [named]


def test_the_new_words_of_a_question_arrive() -> None:
    """Session, segment, filters, no reasons, and what fixes chance."""
    query = read_query(
        request(
            request_id="again",
            context={"segment": 0},
            hidden_item_ids=["a", "b"],
            categories=["Tea"],
            merchant_ids=["m"],
            without_reasons=True,
            exclude_seen=False,
        ),
        NOW,
    )
    assert (query.surface, query.k, query.timestamp, query.segment) == (Surface.HOME, 10, NOW, 0)
    assert (list(query.hidden), list(query.categories), list(query.merchants)) == (["a", "b"], ["Tea"], ["m"])
    assert (query.reasons, query.exclude_seen, query.seed, query.history) == (False, False, "again", None)
    assert read_query(request(), NOW).segment is None


def test_ten_thousand_events_are_read() -> None:
    """A long history is no fault: the towers read the newest, and the rest says what was bought."""
    query = read_query(request(history=history([("item", 1, NOW)] * 10_000)), NOW)
    assert query.history is not None and len(query.history) == 10_000


@settings(max_examples=200, deadline=None)
@given(
    told=st.lists(
        st.tuples(
            st.one_of(st.text(max_size=5), st.text("abc-0", max_size=200)),
            st.integers(0, 9),
            st.one_of(st.none(), st.integers(-5, 2**40), st.integers(-(2**63), 2**63 - 1)),
            st.integers(-(2**31), 2**31 - 1),
        ),
        max_size=20,
    )
)
def test_events_read_from_bytes_are_those_that_protobuf_reads(
    told: list[tuple[str, int, int | None, int]],
) -> None:
    """Ids in any script, kinds and times that are wrong, absent or at their bounds, and nanoseconds."""
    history = pb.History()
    for item_id, kind, time, nanos in told:
        event = history.events.add(item_id=item_id, kind=cast(Any, kind))
        if time is not None:
            event.time.seconds, event.time.nanos = time, nanos
    columns = np.empty((4, len(told)), dtype=np.int64)
    content = history.SerializeToString()
    plain = plain_history(content, len(KINDS), MAX_TIMESTAMP, columns)
    assert plain == all(
        item_id.isascii()
        and 1 <= kind <= len(KINDS)
        and (time is None or (0 <= time <= MAX_TIMESTAMP and nanos >= 0))
        for item_id, kind, time, nanos in told
    )
    if plain:
        ids = [content[start:end].decode() for start, end in columns[:2].T.tolist()]
        assert ids == [item_id for item_id, _, _, _ in told]
        assert columns[2].tolist() == [kind - 1 for _, kind, _, _ in told]
        assert columns[3].tolist() == [NO_TIME if time is None else time for _, _, time, _ in told]


def test_a_field_of_a_newer_protocol_in_an_event_is_passed_over() -> None:
    """Events with one are read one by one, to the same columns."""
    event = pb.HistoryEvent(item_id="a", kind=pb.EVENT_KIND_VIEW).SerializeToString() + b"\x78\x05"
    content = b"\x0a" + bytes([len(event)]) + event
    request = pb.RankRequest(surface=pb.SURFACE_HOME, k=1, history=pb.History.FromString(content))
    history = read_query(request, 0).history
    assert isinstance(history, Events)
    assert (history.item_ids, list(history.kinds), list(history.times)) == (["a"], [0], [NO_TIME])
