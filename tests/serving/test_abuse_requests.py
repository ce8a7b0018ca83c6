"""Well-formed calls with hostile contents, over the whole endpoint: the right status each, and nothing leaks."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from client.errors import StoreFull as NoRoom
from fedrank.shopper_events import ShopperEvents
from proto.fedrank.ranking.v1 import ranking_pb2 as pb
from server.errors import FeedbackUnavailable, StoreFull
from server.serving.authorisation import RANK, RECORD_EVENTS

NOW = 1_700_000_000
CANARY = "canary-4711"
INVALID, EXHAUSTED, NOT_FOUND = (
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.NOT_FOUND,
)
OUR_FAULT = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS}
FUZZED = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture
def channel(address: str) -> Iterator[Any]:
    """A channel over which bytes go as they are."""
    with grpc.insecure_channel(address, [("grpc.max_send_message_length", -1)]) as channel:
        yield channel


def outcome(channel: Any, method: str, bodies: list[bytes]) -> tuple[grpc.StatusCode, str]:
    """Status and everything that the caller is told."""
    try:
        answer = channel.stream_unary(method)(iter(bodies), timeout=10)
    except grpc.RpcError as error:
        refused: Any = error
        return refused.code(), f"{refused.details()} {refused.trailing_metadata()}"
    return grpc.StatusCode.OK, repr(answer)


def question(**changes: Any) -> bytes:
    """A request that would be answered, with changes."""
    return pb.RankRequest(**{"surface": pb.SURFACE_HOME, "k": 10, **changes}).SerializeToString()


def event(**changes: Any) -> bytes:
    """A stream's message that would be stored, with changes."""
    fields: dict[str, Any] = {
        "event_id": "event-1",
        "shopper": CANARY,
        "item_id": "item-01",
        "timestamp": {"seconds": NOW - 9},
        "interaction": {"kind": pb.EVENT_KIND_VIEW},
    }
    return pb.RecordEventsRequest(events=[pb.Event(**{**fields, **changes})]).SerializeToString()


LONG = CANARY * 40
HOSTILE: dict[str, tuple[bytes, grpc.StatusCode]] = {
    "no surface": (question(surface=0), INVALID),
    "a surface that does not exist": (question(surface=99), INVALID),
    "k = 0": (question(k=0), INVALID),
    "k = 2**32 - 1": (question(k=2**32 - 1), INVALID),
    "search without a query": (question(surface=pb.SURFACE_SEARCH), INVALID),
    "search for spaces": (question(surface=pb.SURFACE_SEARCH, query=" \t\n"), INVALID),
    "an overlong query": (question(surface=pb.SURFACE_SEARCH, query=CANARY * 99), INVALID),
    "an item that does not exist": (question(surface=pb.SURFACE_DETAIL, item_id=CANARY), NOT_FOUND),
    "a hidden list without end": (question(hidden_item_ids=[CANARY] * 1001), INVALID),
    "an embedding of nonsense": (
        question(user_embedding={"values": [float("nan")] * 8, "model_version": CANARY}),
        grpc.StatusCode.INVALID_ARGUMENT,
    ),
    "an overlong shopper": (question(shopper=LONG), INVALID),
    "an overlong request id": (question(request_id=LONG), INVALID),
    "two MiB": (question(shopper="s" * (2 << 20)), EXHAUSTED),
}


@pytest.mark.parametrize(("body", "status"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_question_gets_the_right_status_and_tells_nothing_back(
    channel: Any, caplog: pytest.LogCaptureFixture, body: bytes, status: grpc.StatusCode
) -> None:
    """Neither the refusal with all its details nor any log line repeats what was sent."""
    with caplog.at_level(logging.DEBUG):
        code, told = outcome(channel, RANK, [body])
    assert code is status
    assert CANARY not in told
    assert CANARY not in caplog.text


@pytest.mark.parametrize("surface", [number for number in pb.Surface.values() if number])
def test_more_than_the_catalogue_holds_is_all_that_there_is(channel: Any, surface: int) -> None:
    """k = 200 of 60 items: no item twice, on any surface."""
    body = question(surface=surface, k=200, query="tea", item_id="item-01")
    answer = pb.RankResponse.FromString(channel.unary_unary(RANK)(body, timeout=10))
    names = [item.item_id for item in answer.items]
    assert len(names) == len(set(names)) <= 60


def test_a_history_of_ten_thousand_events_is_answered_and_says_what_was_not_read(channel: Any) -> None:
    """Of 60 items and two kinds, 120 events differ; of items that are not here, each is counted."""
    for prefix, dropped, unknown in (("item", 9880, 0), ("gone", 0, 10_000)):
        events = [
            {
                "item_id": f"{prefix}-{place % 60:02d}",
                "kind": 1 + place % 120 // 60,
                "time": {"seconds": NOW - place},
            }
            for place in range(10_000)
        ]
        body = question(history={"events": events})
        answer = pb.RankResponse.FromString(channel.unary_unary(RANK)(body, timeout=10))
        assert (answer.dropped_history_events, answer.unknown_history_items) == (dropped, unknown)
        assert len(answer.items) == 10


@FUZZED
@given(st.binary(max_size=200))
def test_no_bytes_at_all_are_a_fault_of_the_endpoint(channel: Any, body: bytes) -> None:
    """As a question and as a message of events."""
    for method in (RANK, RECORD_EVENTS):
        code, _ = outcome(channel, method, [body])
        assert code not in OUR_FAULT


@FUZZED
@given(
    base=st.sampled_from(
        [
            question(shopper=CANARY, session={"events": [{"item_id": "item-03", "kind": 1}]}),
            question(surface=2, query="tea", categories=["Grocery"], context={"segment": 3}),
            question(user_embedding={"values": [0.5] * 8, "model_version": "x"}, hidden_item_ids=["item-01"]),
            event(),
        ]
    ),
    edits=st.lists(st.tuples(st.integers(0, 400), st.binary(max_size=4), st.integers(0, 4)), max_size=6),
)
def test_a_good_message_with_bytes_changed_is_no_fault_and_tells_no_name_back(
    channel: Any, base: bytes, edits: list[tuple[int, bytes, int]]
) -> None:
    """Near misses reach deeper than noise."""
    body = base
    for place, inserted, removed in edits:
        where = place % (len(body) + 1)
        body = body[:where] + inserted + body[where + removed :]
    for method in (RANK, RECORD_EVENTS):
        code, told = outcome(channel, method, [body])
        assert code not in OUR_FAULT
        assert CANARY not in told


wild_text = st.text(max_size=40)
wild_number = st.integers(-(2**31), 2**31 - 1)


@FUZZED
@given(
    surface=st.integers(-3, 9),
    k=st.integers(0, 2**32 - 1),
    texts=st.tuples(wild_text, wild_text, wild_text),
    names=st.lists(wild_text, max_size=60),
    events=st.lists(st.tuples(wild_text, wild_number, st.integers(-(2**63), 2**63 - 1)), max_size=8),
    values=st.lists(st.floats(width=32), max_size=10),
    segment=st.integers(0, 2**32 - 1),
)
def test_any_values_in_any_fields_are_answered_or_refused(
    channel: Any,
    surface: int,
    k: int,
    texts: tuple[str, str, str],
    names: list[str],
    events: list[tuple[str, int, int]],
    values: list[float],
    segment: int,
) -> None:
    """Every field at once, far out of bounds; and again with what refuses most of them made good."""
    told: list[Any] = [{"item_id": name, "kind": kind, "time": {"seconds": at}} for name, kind, at in events]
    wild: dict[str, Any] = {
        "query": texts[0],
        "item_id": texts[1],
        "request_id": texts[2],
        "hidden_item_ids": names,
        "categories": names,
        "merchant_ids": names,
        "session": {"events": told},
        "context": {"segment": segment},
    }
    for body in (
        question(surface=surface, k=k, history={"events": told}, **wild),
        question(surface=surface % 7, user_embedding={"values": values, "model_version": texts[0]}, **wild),
        question(
            surface=surface % 6 + 1, session={"events": told}, categories=names[:5], query=texts[0] or "x"
        ),
    ):
        code, _ = outcome(channel, RANK, [body])
        assert code not in OUR_FAULT


def test_a_store_without_room_is_told_from_one_that_is_locked() -> None:
    """The word of the store's room becomes the word of the endpoint's."""

    class Full:
        """A store that is full."""

        access = None

        def append(self, events: Any) -> int:
            """No room."""
            raise NoRoom("nothing more can be stored")

    events = ShopperEvents.__new__(ShopperEvents)
    events._store = Full()  # type: ignore[assignment]
    with pytest.raises(StoreFull) as caught:
        events.record([])
    assert isinstance(caught.value, FeedbackUnavailable)
