"""The service over real channels: every promise and every refusal of `ranking.proto`."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proto.fedrank.ranking.v1 import ranking_pb2 as pb
from proto.fedrank.ranking.v1.ranking_pb2_grpc import RankingServiceStub
from server.errors import FeedbackUnavailable, ProfileUnavailable, StoreFull
from server.serving.engine import Engine
from server.serving.query import Events
from server.serving.service import ServiceRules

NOW = 1_700_000_000
CANARY = "canary-4711"


@pytest.fixture
def stub(address: str) -> Iterator[Any]:
    """The generated stub on a plain channel: nothing of our own client in between."""
    with grpc.insecure_channel(address) as channel:
        yield RankingServiceStub(channel)  # type: ignore[no-untyped-call]


def question(**changes: Any) -> pb.RankRequest:
    """A valid request for a home page, with changes."""
    return pb.RankRequest(**{"surface": pb.SURFACE_HOME, "k": 10, **changes})


def event(number: int, **changes: Any) -> pb.Event:
    """A valid interaction, with changes."""
    fields: dict[str, Any] = {
        "event_id": f"event-{number}",
        "shopper": CANARY,
        "item_id": f"item-{number % 60:02d}",
        "timestamp": {"seconds": NOW - 100 + number % 100},
    }
    if not {"impression", "interaction"} & changes.keys():
        fields["interaction"] = {"kind": pb.EVENT_KIND_VIEW}
    return pb.Event(**{**fields, **changes})


def messages(*events: pb.Event) -> Iterator[pb.RecordEventsRequest]:
    """A stream of one event per message."""
    return iter([pb.RecordEventsRequest(events=[one]) for one in events])


def refusal(call: Callable[[], Any]) -> tuple[grpc.StatusCode, dict[str, str], list[Any], str]:
    """The status of a failing call: code, violations by field, all details, and words."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    error: Any = caught.value
    status = rpc_status.from_call(error)
    fields: dict[str, str] = {}
    details = list(status.details) if status else []
    for detail in details:
        bad = error_details_pb2.BadRequest()
        if detail.Unpack(bad):
            fields |= {violation.field: violation.description for violation in bad.field_violations}
    return error.code(), fields, details, error.details()


def test_a_ranking_names_itself_its_version_and_a_reason_for_each_item(stub: Any, engine: Engine) -> None:
    """The answer to a history, field by field; scores stay inside by default."""
    history = pb.History(
        events=[{"item_id": "item-03", "kind": "EVENT_KIND_PURCHASE"}, {"item_id": "gone", "kind": 1}]
    )
    answer = stub.Rank(question(history=history), timeout=5)
    assert answer.ranking_id
    assert answer.model_version == engine.snapshot.version
    assert answer.profile_source == pb.PROFILE_SOURCE_HISTORY
    assert not answer.cold_start
    assert answer.unknown_history_items == 1
    assert [item.rank for item in answer.items] == list(range(1, 11))
    assert "item-03" not in {item.item_id for item in answer.items}
    for item in answer.items:
        assert item.merchant_id == f"merchant-{int(item.item_id[-2:]) % 3}"
        assert item.reason.kind != pb.REASON_KIND_UNSPECIFIED
        assert item.reason.text
        assert not item.HasField("score")


def test_scores_leave_only_an_endpoint_that_is_told_to_give_them(open_endpoint_in_thread: Any) -> None:
    """They are then the numbers that ordered the list."""
    with (
        open_endpoint_in_thread(rules=ServiceRules(show_scores=True)) as address,
        grpc.insecure_channel(address) as channel,
    ):
        answer = RankingServiceStub(channel).Rank(question(), timeout=5)  # type: ignore[no-untyped-call]
    scores = [item.score for item in answer.items]
    assert all(item.HasField("score") for item in answer.items)
    assert scores == sorted(scores, reverse=True)


def test_the_same_request_id_gives_the_same_ranking_id_and_none_a_fresh_one(stub: Any) -> None:
    """So a retried call joins its feedback to one ranking."""
    first, again, other = (
        stub.Rank(question(request_id=name), timeout=5).ranking_id for name in ("a", "a", "b")
    )
    fresh = {stub.Rank(question(), timeout=5).ranking_id for _ in range(3)}
    assert first == again != other
    assert len(fresh) == 3


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    surface=st.sampled_from([number for number in pb.Surface.values() if number]),
    k=st.integers(1, 200),
    items=st.lists(st.integers(-3, 63), max_size=150),
    kind=st.sampled_from([number for number in pb.EventKind.values() if number]),
    at=st.one_of(st.none(), st.integers(0, 2 * NOW)),
)
def test_any_valid_question_gets_unique_known_items_at_most_k(
    stub: Any, engine: Engine, surface: int, k: int, items: list[int], kind: int, at: int | None
) -> None:
    """Over the wire, for any surface, k and history, unknown items included."""
    time = None if at is None else {"seconds": at}
    events = [pb.HistoryEvent(item_id=f"item-{item:02d}", kind=kind, time=time) for item in items]  # type: ignore[arg-type]
    asked = question(surface=surface, k=k, history={"events": events}, query="tea 茶", item_id="item-08")
    answer = stub.Rank(asked, timeout=10)
    names = [item.item_id for item in answer.items]
    assert len(names) == len(set(names)) <= k
    assert (engine.snapshot.items.find(names) >= 0).all()
    assert answer.unknown_history_items == sum(not 0 <= item < 60 for item in items)
    if surface == pb.SURFACE_HOME and kind == pb.EVENT_KIND_PURCHASE:
        assert not {f"item-{item:02d}" for item in items} & set(names)


def test_a_call_without_a_deadline_is_refused_with_how_to_set_one(stub: Any) -> None:
    """Both methods; nobody waits for ever."""
    for call in (lambda: stub.Rank(question()), lambda: stub.RecordEvents(messages(event(1)))):
        code, fields, _, words = refusal(call)
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert "timeout=" in fields["deadline"]
        assert "no deadline" in words


LONG = "x" * 600
BAD_QUESTIONS: dict[str, tuple[dict[str, Any], str, str]] = {
    "k zero": ({"k": 0}, "k", "is 0; send 1 to 200"),
    "k large": ({"k": 201}, "k", "is 201; send 1 to 200"),
    "no surface": ({"surface": 0}, "surface", "is 0; send one of SURFACE_HOME"),
    "unknown surface": ({"surface": 99}, "surface", "is 99"),
    "empty query": (
        {"surface": pb.SURFACE_SEARCH, "query": "  "},
        "query",
        "has 0 characters; send 1 to 500",
    ),
    "long query": ({"surface": pb.SURFACE_SEARCH, "query": LONG}, "query", "has 600 characters"),
    "detail of nothing": ({"surface": pb.SURFACE_DETAIL}, "item_id", "has 0 characters; send 1 to"),
    "long item": ({"item_id": LONG}, "item_id", "has 600 characters"),
    "long request id": ({"request_id": LONG}, "request_id", "send 0 to 128"),
    "empty shopper": ({"shopper": ""}, "shopper", "has 0 characters"),
    "long shopper": ({"shopper": LONG}, "shopper", "has 600 characters; send 1 to 256"),
    "old moment": ({"context": {"timestamp": {"seconds": -1}}}, "context.timestamp", "is -1"),
    "history kind": ({"history": {"events": [{"kind": 1}, {"kind": 0}]}}, "history.events[1].kind", "is 0"),
    "history time": (
        {"history": {"events": [{"kind": 1, "time": {"seconds": -5}}]}},
        "history.events[0].time",
        "is -5",
    ),
    "nan embedding": (
        {"user_embedding": {"values": [1.0, float("nan")], "model_version": "v"}},
        "user_embedding.values",
        "NaN",
    ),
    "infinite embedding": (
        {"user_embedding": {"values": [float("inf")], "model_version": "v"}},
        "user_embedding.values",
        "magnitude above 1e+06",
    ),
    "embedding of no version": (
        {"user_embedding": {"values": [1.0]}},
        "user_embedding.model_version",
        "is empty",
    ),
}


@pytest.mark.parametrize(("changes", "field", "words"), BAD_QUESTIONS.values(), ids=BAD_QUESTIONS)
def test_a_bad_question_is_refused_naming_the_field_and_the_bound(
    stub: Any, changes: dict[str, Any], field: str, words: str
) -> None:
    """Each with INVALID_ARGUMENT and a BadRequest detail, and without repeating a text that was sent."""
    code, fields, _, _ = refusal(lambda: stub.Rank(question(**changes), timeout=5))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert fields.keys() == {field}
    assert words in fields[field]
    assert LONG not in fields[field]


def test_every_bad_field_is_named_at_once_and_a_flood_of_them_is_cut(stub: Any) -> None:
    """Two faults give two violations; ten thousand give ten and the number of the rest."""
    _, fields, _, _ = refusal(lambda: stub.Rank(question(k=0, surface=77), timeout=5))
    assert fields.keys() == {"k", "surface"}
    flood = pb.History(events=[pb.HistoryEvent()] * 10_000)
    code, fields, _, words = refusal(lambda: stub.Rank(question(history=flood), timeout=10))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert len(fields) == 10
    assert words.endswith("and 9990 more")


def test_stored_events_become_columns_in_the_thread_of_the_store(
    stub: Any, store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many there are, other callers do not wait for it."""
    threads = []
    read, columns = store.history, Events.of

    def history(shopper: str) -> Any:
        threads.append(threading.get_ident())
        return read(shopper)

    def of(events: Any) -> Events:
        threads.append(threading.get_ident())
        return columns(events)

    assert stub.RecordEvents(messages(event(1), event(2)), timeout=5).acknowledged == 2
    monkeypatch.setattr(store, "history", history)
    monkeypatch.setattr(Events, "of", of)
    answer = stub.Rank(question(shopper=CANARY), timeout=5)
    assert answer.profile_source == pb.PROFILE_SOURCE_STORED
    assert len(threads) == 2 and len(set(threads)) == 1


def test_ten_thousand_events_of_history_are_answered_from_the_newest(stub: Any) -> None:
    """A long history is cut, and the answer says how."""
    events = [
        {"item_id": f"item-{number % 60:02d}", "kind": 1 + number % 2, "time": {"seconds": NOW - number}}
        for number in range(10_000)
    ]
    answer = stub.Rank(question(history={"events": events}), timeout=10)
    assert len(answer.items) == 10
    assert answer.dropped_history_events == 10_000 - 60


def test_an_oversize_request_is_refused_before_it_is_read(stub: Any) -> None:
    """More than 1 MiB: RESOURCE_EXHAUSTED from the transport; the next call is answered."""
    code, _, _, _ = refusal(lambda: stub.Rank(question(query="x" * (1 << 20)), timeout=5))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert len(stub.Rank(question(), timeout=5).items) == 10


def test_an_embedding_must_be_of_this_version_and_length(stub: Any, engine: Engine) -> None:
    """The right one is answered; another version is FAILED_PRECONDITION, another length INVALID_ARGUMENT."""
    version = engine.snapshot.version
    values = np.ones(engine.snapshot.dim).tolist()
    right = question(user_embedding={"values": values, "model_version": version})
    assert stub.Rank(right, timeout=5).profile_source == pb.PROFILE_SOURCE_USER_EMBEDDING
    other = question(user_embedding={"values": values, "model_version": "0" * 16})
    code, _, details, words = refusal(lambda: stub.Rank(other, timeout=5))
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert version in words
    info = error_details_pb2.ErrorInfo()
    assert details[0].Unpack(info)
    assert info.reason == "WRONG_MODEL_VERSION"
    short = question(user_embedding={"values": values[:-1], "model_version": version})
    code, fields, _, _ = refusal(lambda: stub.Rank(short, timeout=5))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert f"has 7 values; model version {version} has 8" in fields["user_embedding.values"]


def test_detail_of_an_unknown_item_is_not_found(stub: Any) -> None:
    """The one surface that cannot be answered without its item."""
    code, _, _, _ = refusal(lambda: stub.Rank(question(surface=pb.SURFACE_DETAIL, item_id="gone"), timeout=5))
    assert code is grpc.StatusCode.NOT_FOUND


def test_an_unknown_shopper_gets_the_cold_start_list_and_a_known_one_their_own(stub: Any, store: Any) -> None:
    """Feedback that was acknowledged shapes the very next ranking."""
    before = stub.Rank(question(shopper=CANARY), timeout=5)
    assert before.cold_start
    assert before.profile_source == pb.PROFILE_SOURCE_COLD_START
    assert before.items[0].reason.kind == pb.REASON_KIND_POPULAR
    bought = before.items[0].item_id
    told = event(
        1, item_id=bought, ranking_id=before.ranking_id, interaction={"kind": pb.EVENT_KIND_PURCHASE}
    )
    assert stub.RecordEvents(messages(told), timeout=5).acknowledged == 1
    after = stub.Rank(question(shopper=CANARY), timeout=5)
    assert not after.cold_start
    assert after.profile_source == pb.PROFILE_SOURCE_STORED
    assert bought not in {item.item_id for item in after.items}
    assert store.events["event-1"].ranking_id == before.ranking_id
    assert stub.Rank(question(shopper="another"), timeout=5).cold_start


def test_recording_is_idempotent_by_event_id(stub: Any, store: Any) -> None:
    """The same stream again: acknowledged again, stored once; an unknown item is counted and not stored."""
    stream = [event(number) for number in range(5)] + [event(9, item_id="gone")]
    first = stub.RecordEvents(messages(*stream), timeout=5)
    again = stub.RecordEvents(iter([pb.RecordEventsRequest(events=stream)]), timeout=5)
    assert (first.acknowledged, first.duplicates, first.unknown_items) == (5, 0, 1)
    assert (again.acknowledged, again.duplicates, again.unknown_items) == (5, 5, 1)
    assert len(store.events) == 5


def test_an_impression_and_an_interaction_reach_the_store_with_every_field(stub: Any, store: Any) -> None:
    """The merchant comes from the catalogue, not from the caller."""
    shown = event(1, impression={"surface": pb.SURFACE_CART, "rank": 3}, ranking_id="r")
    done = event(2, interaction={"kind": pb.EVENT_KIND_PURCHASE, "quantity": 2, "price": 3.5})
    stub.RecordEvents(messages(shown, done), timeout=5)
    impression, interaction = store.events["event-1"], store.events["event-2"]
    assert (impression.kind, impression.surface, impression.rank) == (None, "cart", 3)
    assert (impression.merchant_id, impression.ranking_id, impression.timestamp) == (
        "merchant-1",
        "r",
        NOW - 99,
    )
    assert (interaction.kind, interaction.quantity, interaction.price) == ("purchase", 2.0, 3.5)
    assert (interaction.surface, interaction.rank, interaction.ranking_id) == (None, None, "")
    assert [past.kind for past in store.history(CANARY)] == ["purchase"]


BAD_EVENTS: dict[str, tuple[dict[str, Any], str]] = {
    "no event id": ({"event_id": ""}, "event_id"),
    "no shopper": ({"shopper": ""}, "shopper"),
    "no item": ({"item_id": ""}, "item_id"),
    "long ranking id": ({"ranking_id": LONG}, "ranking_id"),
    "no time": ({"timestamp": None}, "timestamp"),
    "future": ({"timestamp": {"seconds": NOW + 2 * 86400}}, "timestamp"),
    "rank zero": ({"impression": {"surface": 1, "rank": 0}}, "impression.rank"),
    "a propensity of nonsense": (
        {"impression": {"surface": 1, "rank": 1, "propensity": float("nan")}},
        "impression.propensity",
    ),
    "impression nowhere": ({"impression": {"surface": 0, "rank": 1}}, "impression.surface"),
    "unknown kind": ({"interaction": {"kind": 44}}, "interaction.kind"),
    "nan price": ({"interaction": {"kind": 1, "price": float("nan")}}, "interaction.price"),
    "negative quantity": ({"interaction": {"kind": 1, "quantity": -1}}, "interaction.quantity"),
}


@pytest.mark.parametrize(("changes", "field"), BAD_EVENTS.values(), ids=BAD_EVENTS)
def test_a_bad_event_is_named_by_its_place_and_what_came_before_it_is_kept(
    stub: Any, store: Any, changes: dict[str, Any], field: str
) -> None:
    """The third message of a stream is bad: two events are stored, none of the third, and a person can find it."""
    code, fields, _, _ = refusal(
        lambda: stub.RecordEvents(messages(event(1), event(2), event(3, **changes)), timeout=5)
    )
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert fields.keys() == {f"events[2].{field}"}
    assert store.events.keys() == {"event-1", "event-2"}


def test_an_event_that_is_neither_shown_nor_done_and_an_empty_or_huge_message_are_refused(stub: Any) -> None:
    """The bounds of a message and of `what`."""
    neither = event(1)
    neither.ClearField("interaction")
    for batch, field in (([neither], "events[0]"), ([], "events"), ([event(1)] * 1001, "events")):
        stream = iter([pb.RecordEventsRequest(events=batch)])
        code, fields, _, _ = refusal(lambda stream=stream: stub.RecordEvents(stream, timeout=5))  # type: ignore[misc]
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert fields.keys() == {field}


def test_a_store_that_cannot_write_is_unavailable_with_when_to_retry(stub: Any, store: Any) -> None:
    """Nothing is acknowledged; rankings go on; where and why stands in the log alone."""
    for fault, expected, pause in (
        (FeedbackUnavailable("events.db is locked"), grpc.StatusCode.UNAVAILABLE, 1),
        (StoreFull("events.db is full"), grpc.StatusCode.RESOURCE_EXHAUSTED, 60),
    ):
        store.fault = fault
        code, _, details, words = refusal(lambda: stub.RecordEvents(messages(event(1)), timeout=5))
        assert code is expected
        assert "events.db" not in words
        retry = error_details_pb2.RetryInfo()
        assert any(detail.Unpack(retry) for detail in details)
        assert retry.retry_delay.seconds == pause
    assert len(stub.Rank(question(), timeout=5).items) == 10


def test_a_store_that_cannot_read_gives_a_cold_start_list_that_says_so(stub: Any, store: Any) -> None:
    """A shop's page is not empty because a database is down."""
    store.fault = ProfileUnavailable("the event store is locked")
    answer = stub.Rank(question(shopper=CANARY), timeout=5)
    assert answer.cold_start
    assert len(answer.items) == 10
    assert "stored events cannot be read" in answer.notices[0]


def test_an_unforeseen_fault_tells_neither_caller_nor_log_what_it_was_about(
    stub: Any, store: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The words of a foreign exception may hold a shopper: the answer is INTERNAL, the log names type and place."""
    store.fault = RuntimeError(f"no row for {CANARY}")
    with caplog.at_level(logging.DEBUG):
        code, _, _, words = refusal(lambda: stub.Rank(question(shopper=CANARY), timeout=5))
    assert code is grpc.StatusCode.INTERNAL
    assert CANARY not in words
    told = [getattr(record, "fields", {}) for record in caplog.records]
    assert {"RuntimeError"} == {fields["error"] for fields in told if "place" in fields}
    assert any(fields.get("place", "").startswith("MemoryStore._pass:") for fields in told)
    assert CANARY not in caplog.text


def test_no_log_line_at_any_level_holds_what_a_caller_sent(
    stub: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Shopper, query and history stay out of the logs, of good calls and of refused ones."""
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("planted").debug("%s is found by this test", CANARY)
        stub.Rank(question(shopper=CANARY), timeout=5)
        stub.RecordEvents(messages(event(1)), timeout=5)
        refusal(lambda: stub.RecordEvents(messages(event(1, item_id="")), timeout=5))
        refusal(lambda: stub.Rank(question(surface=2, query=CANARY * 90), timeout=5))
    assert caplog.text.count(CANARY) == 1
