"""Who may name a shopper: callers of the merchant whose endpoint it is, or anybody where a simulation says so."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import grpc
import pytest
from certificates_world import MERCHANT, make_pki
from guarded_server import files_in, guard_for

from client.ranking import ClientTls, RankingClient, RequestRefused
from client.ranking_words import HistoryEvent, Impression, Interaction, Question, Surface
from fedrank.endpoint import doors_of, rules_of
from fedrank.endpoint_options import EndpointOptions
from proto.fedrank.ranking.v1 import ranking_pb2 as pb
from proto.fedrank.ranking.v1.ranking_pb2_grpc import RankingServiceStub
from server.serving.identity import Role
from server.serving.service import ServiceRules
from server.serving.stores import FeedbackEvent

NOW = 1_700_000_000
CANARY = "canary-4711"
ANNA = Question(surface=Surface.HOME, shopper=CANARY)
SEEN = Interaction(event_id="e", shopper=CANARY, item_id="item-01", timestamp=NOW, kind="view")


def test_an_endpoint_of_no_merchant_takes_no_shopper_and_no_event(
    open_endpoint_in_thread: Any, store: Any
) -> None:
    """The refusal says what to send instead; a history in the request is answered; nothing is stored."""
    with open_endpoint_in_thread(rules=ServiceRules()) as address, RankingClient(address) as client:
        for call in (lambda: client.rank(ANNA), lambda: client.record([SEEN])):
            with pytest.raises(RequestRefused, match=r"send `history`.*--stored-profiles") as caught:
                call()
            assert CANARY not in str(caught.value)
        history = [HistoryEvent(item_id="item-03", kind="view")]
        answer = client.rank(Question(surface=Surface.HOME, history=history))
    assert answer.profile_source == "history"
    assert store.events == {}


def test_a_merchants_own_endpoint_takes_its_shoppers(open_endpoint_in_thread: Any, store: Any) -> None:
    """Without TLS the one caller is on this machine, and is the merchant's."""
    rules = ServiceRules(merchant=MERCHANT, local=True)
    with open_endpoint_in_thread(rules=rules) as address, RankingClient(address) as client:
        assert client.record([SEEN]).acknowledged == 1
        assert client.rank(ANNA).profile_source == "stored"


def test_a_merchants_endpoint_that_others_reach_without_tls_takes_no_shopper(
    open_endpoint_in_thread: Any, store: Any
) -> None:
    """Nobody knows who calls through an open door; `--stored-profiles` has to be said there too."""
    for stored_profiles in (False, True):
        rules = ServiceRules(merchant=MERCHANT, stored_profiles=stored_profiles)
        with open_endpoint_in_thread(rules=rules) as address, RankingClient(address) as client:
            for call in (lambda: client.rank(ANNA), lambda: client.record([SEEN])):
                if stored_profiles:
                    call()
                else:
                    with pytest.raises(RequestRefused, match="over TLS or on its own machine"):
                        call()
    assert len(store.events) == 1


@pytest.mark.parametrize(
    ("options", "local"),
    [({}, True), ({"host": "::1"}, True), ({"host": "0.0.0.0", "insecure_any_interface": True}, False)],
)
def test_only_an_endpoint_on_loopback_takes_an_unchecked_caller_for_the_merchants(
    options: dict[str, Any], local: bool
) -> None:
    """As `fedrank serve --merchant` is started."""
    asked = EndpointOptions(run="run", store="store", keys="keys", merchant=MERCHANT, **options)
    assert rules_of(asked).local is local


def test_equal_request_ids_of_two_merchants_name_two_rankings(
    open_endpoint_in_thread: Any, tmp_path: Any
) -> None:
    """Feedback on one never joins the other; a retry by either joins its own."""
    pki = make_pki(tmp_path)
    pki.server("127.0.0.1")
    guard = guard_for(merchants=frozenset({MERCHANT, "pot-shop"}))
    asked = pb.RankRequest(surface=pb.SURFACE_HOME, k=3, request_id="order-1")
    named = []
    with open_endpoint_in_thread(guard=guard, tls=files_in(tmp_path)) as address:
        for merchant in (MERCHANT, "pot-shop", MERCHANT):
            pair = pki.role(Role.STOREFRONT, merchant)
            credentials = grpc.ssl_channel_credentials(pki.ca, pair.key, pair.certificate)
            with grpc.secure_channel(address, credentials) as channel:
                stub: Any = RankingServiceStub(channel)  # type: ignore[no-untyped-call]
                named.append(stub.Rank(asked, timeout=5).ranking_id)
    assert named[0] == named[2] != named[1]


def test_callers_of_another_merchant_take_no_shopper_of_this_one(
    open_endpoint_in_thread: Any, tmp_path: Any
) -> None:
    """Even where both are admitted: whose events are kept here is the merchant's alone."""
    pki = make_pki(tmp_path)
    pki.server("127.0.0.1")
    guard = guard_for(merchants=frozenset({MERCHANT, "pot-shop"}))
    told = []
    with open_endpoint_in_thread(
        rules=ServiceRules(merchant=MERCHANT), guard=guard, tls=files_in(tmp_path)
    ) as address:
        for merchant in (MERCHANT, "pot-shop"):
            pair = pki.role(Role.STOREFRONT, merchant)
            shown = ClientTls(authority=pki.ca, certificate=pair.certificate, key=pair.key)
            with RankingClient(address, tls=shown) as client:
                assert len(client.rank(Question(surface=Surface.HOME)).items) == 10
                try:
                    told.append(client.rank(ANNA).profile_source)
                except RequestRefused as refusal:
                    told.append(type(refusal).__name__)
    assert told == ["cold_start", "RequestRefused"]


def test_a_profile_is_read_while_events_wait_for_a_slow_store(
    address: str, store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ranking does not stand in line behind a stream of events."""
    begun, released = threading.Event(), threading.Event()

    def slowly(batch: Sequence[FeedbackEvent]) -> int:
        """Store nothing before it is told to."""
        begun.set()
        assert released.wait(20)
        return len(batch)

    with RankingClient(address) as client, ThreadPoolExecutor(1) as shop:
        client.record([SEEN])
        monkeypatch.setattr(store, "record", slowly)
        recording = shop.submit(client.record, [SEEN])
        try:
            assert begun.wait(20)
            assert client.rank(ANNA).profile_source == "stored"
            assert not recording.done()
        finally:
            released.set()
        assert recording.result(20).acknowledged == 1


def test_the_endpoint_reads_its_store_while_it_waits_to_write_to_it(stocked: Path) -> None:
    """Profiles have a store of their own beside the one that events go to; at the end both are closed."""
    database = stocked / "store" / "events.db"
    options = EndpointOptions(run=str(stocked), keys=str(stocked / "keys"), store=str(database))
    seen = FeedbackEvent(
        event_id="e",
        ranking_id="",
        shopper=CANARY,
        item_id="item-01",
        merchant_id="m",
        timestamp=NOW,
        kind="view",
    )
    with ExitStack() as stack, closing(sqlite3.connect(database, isolation_level=None)) as other:
        doors = doors_of(options, stack)
        other.execute("BEGIN IMMEDIATE")
        recording = doors.feedback_thread.submit(doors.feedback.record, [seen])
        reading = doors.profile_thread.submit(doors.profiles.history, CANARY)
        assert reading.result(20) is None
        assert not recording.done()
        other.execute("ROLLBACK")
        assert recording.result(20) == 1
    for thread in (doors.profile_thread, doors.feedback_thread):
        with pytest.raises(RuntimeError, match="after shutdown"):
            thread.submit(print)


def test_an_impression_brings_its_propensity_to_the_store(address: str, store: Any) -> None:
    """A share above 1 or at 0 is a wrong field, named by its place."""
    fields: dict[str, Any] = {
        "shopper": CANARY,
        "item_id": "item-01",
        "timestamp": NOW,
        "surface": Surface.HOME,
    }
    with RankingClient(address) as client:
        shown = Impression(event_id="a", rank=1, propensity=0.25, **fields)
        plain = Impression(event_id="b", rank=2, **fields)
        assert client.record([shown, plain]).acknowledged == 2
        for wrong in (0.0, 1.5):
            with pytest.raises(RequestRefused) as caught:
                client.record([Impression(event_id="c", rank=1, propensity=wrong, **fields)])
            assert [field for field, _ in caught.value.violations] == ["events[0].impression.propensity"]
    assert (store.events["a"].propensity, store.events["b"].propensity) == (0.25, None)
