"""The typed client: what it sends, when it tries again, and errors that say what to do."""

from __future__ import annotations

import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import client.ranking_words as client_words
from client.errors import ClientError, InvalidEvent
from client.ranking import (
    ClientTls,
    DeadlineExceeded,
    EndpointBusy,
    EndpointFailed,
    EndpointUnreachable,
    RankingClient,
    RequestRefused,
    Retries,
    is_loopback,
)
from client.ranking_answers import PrivacyStatement, Promotion, Ranking
from client.ranking_errors import InvalidQuestion
from client.ranking_words import (
    HistoryEvent,
    Impression,
    Interaction,
    Question,
    Surface,
    UserEmbedding,
    event_messages,
)
from model.features import KINDS, SURFACES
from proto.fedrank.ranking.v1 import ranking_pb2 as pb
from server.errors import FeedbackUnavailable
from server.serving import query as server_words

NOW = 1_700_000_000
HOME = Question(surface=Surface.HOME)


@pytest.fixture
def free_address() -> str:
    """An address of this machine where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{taken.getsockname()[1]}"


class Pauses:
    """A sleep that only notes how long it was asked for, and acts at a chosen pause."""

    def __init__(self, act: Callable[[int], None] = lambda number: None) -> None:
        """Note pauses; call `act` with the number of each."""
        self.taken: list[float] = []
        self._act = act

    def __call__(self, seconds: float) -> None:
        """Sleep no time at all."""
        self.taken.append(seconds)
        self._act(len(self.taken))


def test_both_rooms_and_the_model_use_the_same_surfaces_and_kinds() -> None:
    """The client's words, the server's words, the model's words and the wire's words are one set."""
    wire = {name.removeprefix("SURFACE_").lower() for name, _ in pb.Surface.items()} - {"unspecified"}
    assert {*map(str, client_words.Surface)} == {*map(str, server_words.Surface)} == {*SURFACES} == wire
    kinds = {name.removeprefix("EVENT_KIND_").lower() for name, _ in pb.EventKind.items()} - {"unspecified"}
    assert set(KINDS) == kinds


def test_a_ranking_comes_back_in_typed_form(address: str) -> None:
    """With its reason and cause; no score from an endpoint that keeps them."""
    history = [HistoryEvent(item_id="item-16", kind="purchase", time=NOW)]
    with RankingClient(address) as client:
        ranking = client.rank(Question(surface=Surface.HOME, k=3, history=history, timestamp=NOW))
    assert [item.rank for item in ranking.items] == [1, 2, 3]
    assert ranking.profile_source == "history"
    assert ranking.cold_start is False
    top = ranking.items[0]
    assert (top.reason_kind, top.cause, top.score) == ("history", "item-16", None)
    assert top.reason == "because you bought dark coffee 16"


def test_every_part_of_a_question_reaches_the_wire() -> None:
    """Each field, each profile; what is absent stays absent."""
    embedding = UserEmbedding(values=[0.5, -1.0], model_version="v")
    wire = Question(
        surface=Surface.SEARCH,
        k=7,
        embedding=embedding,
        query="tea",
        exclude_seen=False,
        timestamp=5,
        request_id="r",
    ).to_wire("unused")
    assert (wire.surface, wire.k, wire.query, wire.exclude_seen) == (pb.SURFACE_SEARCH, 7, "tea", False)
    assert (wire.context.timestamp.seconds, wire.request_id) == (5, "r")
    assert (list(wire.user_embedding.values), wire.user_embedding.model_version) == ([0.5, -1.0], "v")
    plain = Question(surface=Surface.DETAIL, item_id="i").to_wire("chosen")
    assert (plain.request_id, plain.item_id, plain.WhichOneof("profile")) == ("chosen", "i", None)
    assert not plain.HasField("context")
    assert Question(surface=Surface.HOME, shopper="s").to_wire("").shopper == "s"
    events = (
        Question(surface=Surface.HOME, history=[HistoryEvent(item_id="a", kind="view")]).to_wire("").history
    )
    assert (events.events[0].kind, events.events[0].HasField("time")) == (pb.EVENT_KIND_VIEW, False)
    assert Question(surface=Surface.HOME, history=[]).to_wire("").WhichOneof("profile") == "history"


def test_the_words_of_the_moment_reach_the_wire() -> None:
    """Session, segment, filters and whether reasons are wanted; absent by default."""
    wire = Question(
        surface=Surface.CART,
        session=[HistoryEvent(item_id="a", kind="add_to_cart", time=NOW)],
        segment=0,
        hidden=["h"],
        categories=["Tea"],
        merchants=["m"],
        reasons=False,
    ).to_wire("r")
    assert [(event.item_id, event.time.seconds) for event in wire.session.events] == [("a", NOW)]
    assert (wire.context.HasField("segment"), wire.context.segment) == (True, 0)
    assert (list(wire.hidden_item_ids), list(wire.categories), list(wire.merchant_ids)) == (
        ["h"],
        ["Tea"],
        ["m"],
    )
    assert wire.without_reasons
    plain = Question(surface=Surface.HOME).to_wire("r")
    assert not (plain.HasField("session") or plain.context.HasField("segment") or plain.without_reasons)


def test_an_answer_is_read_with_propensity_promotion_and_privacy() -> None:
    """What is absent is None, not nought."""
    promotion = {
        "promotion_id": "p",
        "kind": "coupon",
        "text": "2 for 1",
        "discount": 0.5,
        "ends": {"seconds": 9},
    }
    items = [
        {"rank": 1, "item_id": "a", "propensity": 0.25, "promotion": promotion},
        {"rank": 2, "item_id": "b"},
    ]
    wire = pb.RankResponse(items=items, privacy={"epsilon": 8.0, "delta": 1e-6, "unit": "shopper"})
    ranking = Ranking.from_wire(wire)
    first, second = ranking.items
    assert (first.propensity, second.propensity, second.promotion) == (0.25, None, None)
    assert first.promotion == Promotion(
        promotion_id="p", kind="coupon", text="2 for 1", discount=0.5, least_quantity=None, ends=9
    )
    assert ranking.privacy == PrivacyStatement(epsilon=8.0, delta=1e-6, unit="shopper")
    wire.privacy.ClearField("epsilon")
    unprotected = Ranking.from_wire(wire).privacy
    assert unprotected is not None
    assert unprotected.epsilon is None
    assert Ranking.from_wire(pb.RankResponse()).privacy is None


def test_mutual_tls_needs_both_halves() -> None:
    """A certificate without its key proves nothing, and the key is not shown where an object is printed."""
    with pytest.raises(ClientError, match="give both"):
        ClientTls(authority=b"a", certificate=b"c")
    assert "secret" not in repr(ClientTls(certificate=b"c", key=b"secret"))


def test_two_profiles_and_unknown_kinds_are_refused_before_a_call() -> None:
    """The message names the fields, not what they hold."""
    with pytest.raises(InvalidQuestion, match="shopper and history") as caught:
        Question(surface=Surface.HOME, shopper="secret", history=[])
    assert "secret" not in str(caught.value)
    with pytest.raises(InvalidEvent, match="'bought'"):
        HistoryEvent(item_id="a", kind="bought")
    with pytest.raises(InvalidEvent, match="'bought'"):
        Interaction(event_id="e", shopper="s", item_id="i", timestamp=1, kind="bought")


@given(st.integers(0, 1300))
def test_a_stream_keeps_the_order_of_events_and_the_bound_of_a_message(count: int) -> None:
    """No event is lost or repeated between messages."""
    events = [
        Impression(event_id=f"{n}", shopper="s", item_id="i", timestamp=n, surface=Surface.HOME, rank=n + 1)
        for n in range(count)
    ]
    sent = event_messages(events)
    assert [event.event_id for message in sent for event in message.events] == [str(n) for n in range(count)]
    assert all(1 <= len(message.events) <= 500 for message in sent)


def test_feedback_is_acknowledged_once_however_often_it_is_sent(address: str, store: Any) -> None:
    """Also events of both kinds in one stream."""
    shown = Impression(
        event_id="a", shopper="s", item_id="item-01", timestamp=NOW, surface=Surface.CART, rank=2
    )
    done = Interaction(
        event_id="b", shopper="s", item_id="item-01", timestamp=NOW, kind="purchase", price=2.5
    )
    with RankingClient(address) as client:
        first, again = client.record([shown, done]), client.record([shown, done])
    assert (first.acknowledged, first.duplicates) == (2, 0)
    assert (again.acknowledged, again.duplicates) == (2, 2)
    assert (store.events["a"].rank, store.events["b"].price) == (2, 2.5)


def test_nobody_at_the_address_is_a_clear_error_after_the_attempts(free_address: str) -> None:
    """Pauses grow and are jittered; the words say how to start an endpoint."""
    pauses = Pauses()
    client = RankingClient(free_address, timeout=60, uniform=lambda: 0.5, sleep=pauses)
    with client, pytest.raises(EndpointUnreachable, match=r"4 attempts.*fedrank serve") as caught:
        client.rank(HOME)
    assert isinstance(caught.value, ClientError)
    assert pauses.taken == [0.05, 0.1, 0.2]


@given(st.integers(1, 40), st.floats(0, 1, exclude_max=True), st.floats(0, 1, exclude_max=True))
def test_pauses_are_bounded_and_spread(failures: int, one: float, other: float) -> None:
    """Never above the longest, and proportional to the draw, so that clients do not return in step."""
    retries = Retries()
    bound = min(1.0, 0.1 * 2 ** (failures - 1))
    assert 0 <= retries.pause(failures, one) <= bound
    assert retries.pause(failures, one) * other == pytest.approx(retries.pause(failures, other) * one)


def test_a_call_beyond_those_under_way_fails_at_once_and_its_place_comes_back(
    address: str, store: Any
) -> None:
    """While one call waits for the store, a client of one place sends nothing; afterwards it does."""
    store.gate.clear()
    with RankingClient(address, at_once=1) as client, ThreadPoolExecutor(1) as aside:
        first = aside.submit(client.rank, Question(surface=Surface.HOME, shopper="s"), timeout=20)
        assert store.entered.wait(20)
        with pytest.raises(EndpointBusy, match="nothing was sent"):
            client.rank(HOME)
        store.gate.set()
        assert first.result().items
        assert client.rank(HOME).items


def test_no_pause_is_begun_that_would_pass_the_deadline(free_address: str) -> None:
    """With five seconds left and a pause of nine to come, the client gives up at once."""
    pauses = Pauses()
    retries = Retries(first=10.0, longest=10.0)
    client = RankingClient(free_address, timeout=5, retries=retries, uniform=lambda: 0.9, sleep=pauses)
    with client, pytest.raises(EndpointUnreachable, match="1 attempts"):
        client.rank(HOME)
    assert pauses.taken == []


def test_a_store_that_recovers_in_time_is_not_noticed(address: str, store: Any) -> None:
    """UNAVAILABLE is tried again with the same events, and the answer is the recovered one's."""
    store.fault = FeedbackUnavailable("locked")

    def recover(number: int) -> None:
        if number == 2:
            store.fault = None

    pauses = Pauses(recover)
    done = Interaction(event_id="a", shopper="s", item_id="item-01", timestamp=NOW, kind="view")
    with RankingClient(address, timeout=60, sleep=pauses) as client:
        assert client.record([done]).acknowledged == 1
    assert pauses.taken == [1.0, 1.0], "the endpoint said when to come again"
    assert store.events.keys() == {"a"}


def test_a_refusal_is_not_tried_again_and_names_the_fields(address: str) -> None:
    """A bad request stays bad."""
    pauses = Pauses()
    with (
        RankingClient(address, sleep=pauses) as client,
        pytest.raises(RequestRefused, match="send 1 to 200") as caught,
    ):
        client.rank(Question(surface=Surface.HOME, k=900))
    assert caught.value.violations == (("k", "is 900; send 1 to 200 items"),)
    assert pauses.taken == []


def test_a_slow_endpoint_ends_with_the_deadline(address: str, store: Any) -> None:
    """The time given is in the message; the endpoint stays usable."""
    store.gate.clear()
    with RankingClient(address, timeout=30) as client:
        with pytest.raises(DeadlineExceeded, match=r"within 0\.2 s"):
            client.rank(Question(surface=Surface.HOME, shopper="s"), timeout=0.2)
        store.gate.set()
        assert client.rank(Question(surface=Surface.HOME, shopper="s")).cold_start


def test_a_fault_of_the_endpoint_is_told_from_a_fault_of_the_request(address: str, store: Any) -> None:
    """INTERNAL is an `EndpointFailed`."""
    store.fault = RuntimeError("anything")
    with RankingClient(address) as client, pytest.raises(EndpointFailed, match="INTERNAL"):
        client.rank(Question(surface=Surface.HOME, shopper="s"))


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("127.0.0.1:1", True),
        ("[::1]:1", True),
        ("localhost:1", True),
        ("10.0.0.1:1", False),
        ("shop.example:443", False),
    ],
)
def test_only_loopback_is_spoken_to_without_tls(address: str, local: bool) -> None:
    """Any other address gets TLS, with or without an authority of one's own."""
    assert is_loopback(address) is local
