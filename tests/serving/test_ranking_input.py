"""What the typed client takes: nothing of a caller's making leaves it but as a `RankingError` with the next step."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from certificates_world import Pki, make_pki

from client.ranking import (
    ClientClosed,
    ClientTls,
    EndpointUnreachable,
    InvalidConnection,
    InvalidEvent,
    InvalidQuestion,
    RankingClient,
    RankingError,
    Retries,
)
from client.ranking_answers import Ranking
from client.ranking_words import (
    HistoryEvent,
    Impression,
    Interaction,
    Question,
    Surface,
    UserEmbedding,
    event_messages,
)
from proto.fedrank.ranking.v1 import ranking_pb2 as pb
from server.serving.identity import Role

HALF = "tea \ud83d"
SECRET = "secret-4711"
ONCE = Retries(attempts=1)


def question(**changes: Any) -> Question:
    """A question of surface home, with changes."""
    return Question(**{"surface": Surface.HOME, **changes})


def shown(**changes: Any) -> Impression:
    """An impression, with changes."""
    fields = {
        "event_id": "e",
        "shopper": SECRET,
        "item_id": "i",
        "timestamp": 5,
        "surface": "home",
        "rank": 1,
    }
    return Impression(**{**fields, **changes})


def done(**changes: Any) -> Interaction:
    """A view, with changes."""
    fields = {"event_id": "e", "shopper": SECRET, "item_id": "i", "timestamp": 5, "kind": "view"}
    return Interaction(**{**fields, **changes})


def past(**changes: Any) -> HistoryEvent:
    """A view in a history, with changes."""
    return HistoryEvent(**{"item_id": "i", "kind": "view", **changes})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"k": -5}, r"k of a question is -5; give 1 to 200"),
        ({"k": 0}, r"k of a question is 0"),
        ({"k": 2**32}, r"k of a question is 4294967296; give 1 to 200"),
        ({"k": "10"}, r"k of a question is of type str; give a whole number"),
        ({"k": True}, r"k of a question is of type bool"),
        ({"segment": -1}, r"segment of a question is -1; `fedrank models show`"),
        ({"segment": 2**32}, r"segment of a question is 4294967296"),
        ({"surface": "house"}, r"surface of a question is 'house'; use one of home, search"),
        ({"surface": None}, r"surface of a question is None"),
        ({"query": HALF}, r"query of a question holds half a character"),
        ({"query": 5}, r"query of a question is of type int; give text"),
        ({"item_id": 5}, r"item_id of a question is of type int"),
        ({"shopper": 4711}, r"shopper of a question is of type int"),
        ({"request_id": 5}, r"request_id of a question"),
        ({"timestamp": "now"}, r"timestamp of a question is of type str; give Unix seconds"),
        ({"timestamp": -1}, r"timestamp of a question is no time"),
        ({"timestamp": float("nan")}, r"timestamp of a question is no time"),
        ({"hidden": "item-1"}, r"hidden of a question is of type str; give a list"),
        ({"hidden": [5]}, r"hidden of a question is of type int; give text"),
        ({"categories": {"a"}}, r"categories of a question is of type set; give a list"),
        ({"history": [{"item_id": "a"}]}, r"history of a question holds more than objects of HistoryEvent"),
        ({"session": None}, r"session of a question is of type NoneType"),
        ({"embedding": [0.5]}, r"embedding of a question is of another type"),
        ({"reasons": "no"}, r"reasons of a question is of type str; give True or False"),
    ],
)
def test_a_question_that_no_request_can_carry_is_refused_where_it_is_made(
    changes: dict[str, Any], words: str
) -> None:
    """The field, what it is, the bound and the next step; one family with all other errors of a call."""
    with pytest.raises(InvalidQuestion, match=words) as refused:
        question(**changes)
    assert isinstance(refused.value, RankingError)
    assert "4711" not in str(refused.value)


@pytest.mark.parametrize(
    ("make", "changes", "words"),
    [
        (past, {"item_id": 5}, r"item_id of an event is of type int; give text"),
        (past, {"time": "yesterday"}, r"time of an event is of type str; give Unix seconds"),
        (past, {"time": datetime(2026, 1, 1, tzinfo=UTC)}, r"of type datetime; .*\.timestamp\(\)"),
        (past, {"time": 99999999999999999999}, r"time of an event is no time .* divide milliseconds"),
        (past, {"kind": ["view"]}, r"use one of view"),
        (shown, {"rank": -1}, r"rank of an event is -1; give the place, 1 for the first"),
        (shown, {"surface": "house"}, r"surface of an event is 'house'"),
        (shown, {"propensity": "0.5"}, r"propensity of an event is of type str; give a number"),
        (shown, {"shopper": None}, r"shopper of an event is of type NoneType"),
        (shown, {"event_id": HALF}, r"event_id of an event holds half a character"),
        (done, {"timestamp": None}, r"timestamp of an event is of type NoneType"),
        (done, {"price": float("inf")}, r"price of an event is not finite"),
        (done, {"quantity": "2"}, r"quantity of an event is of type str"),
    ],
)
def test_an_event_that_no_request_can_carry_is_refused_where_it_is_made(
    make: Callable[..., object], changes: dict[str, Any], words: str
) -> None:
    """The message holds neither shopper nor item."""
    with pytest.raises(InvalidEvent, match=words) as refused:
        make(**changes)
    assert isinstance(refused.value, RankingError)
    assert SECRET not in str(refused.value)


def test_things_that_are_no_events_and_vectors_that_are_none_are_refused() -> None:
    """Before anything is sent, in the same family."""
    for events in ([{"event_id": "e"}], "events", None):
        with pytest.raises(InvalidEvent):
            event_messages(events)  # type: ignore[arg-type]
    for values in (["a"], 5):
        with pytest.raises(InvalidQuestion, match="embedding of a question"):
            UserEmbedding(values=values, model_version="v")  # type: ignore[arg-type]


def test_times_with_a_fraction_surfaces_as_words_and_numbers_of_arrays_are_taken() -> None:
    """What `time.time()`, a JSON file and a data frame give; a fraction of a second is dropped."""
    wire = question(surface="search", query="tea", k=np.int64(3), timestamp=5.9).to_wire("r")
    assert (wire.surface, wire.k, wire.context.timestamp.seconds) == (pb.SURFACE_SEARCH, 3, 5)
    history = [past(time=7.9), past(time=np.float64(8.2)), past(time=time.time())]
    sent = question(history=history).to_wire("r").history.events
    assert [event.time.seconds for event in sent[:2]] == [7, 8]
    event = event_messages([shown(surface="cart", timestamp=9.99)])[0].events[0]
    assert (event.impression.surface, event.timestamp.seconds) == (pb.SURFACE_CART, 9)
    vector = question(embedding=UserEmbedding(values=np.ones(2, np.float32), model_version="v"))  # type: ignore[arg-type]
    assert list(vector.to_wire("r").user_embedding.values) == [1.0, 1.0]


def test_words_of_a_newer_endpoint_are_read_as_unspecified() -> None:
    """An enum value that this client does not know is no failure of the call."""
    answer = pb.RankResponse(profile_source=99, items=[{"rank": 1, "reason": {"kind": 99}}])  # type: ignore[arg-type]
    read = Ranking.from_wire(answer)
    assert (read.profile_source, read.items[0].reason_kind) == ("unspecified", "unspecified")


def test_a_closed_client_says_so(address: str) -> None:
    """In the family, and with what to do."""
    client = RankingClient(address)
    client.close()
    with pytest.raises(ClientClosed, match="make another RankingClient"):
        client.rank(question())


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "shop.example", "::1", "127.0.0.1:", ":8443", "a:b", "h:0", "h:65536", "a b:1", ""],
)
def test_an_address_without_host_or_port_is_refused(address: str) -> None:
    """gRPC would take port 443 in silence."""
    with pytest.raises(InvalidConnection, match="give HOST:PORT"):
        RankingClient(address)


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf")])
def test_a_timeout_that_never_ends_or_never_begins_is_refused(address: str, timeout: float) -> None:
    """At the client and at a call."""
    with pytest.raises(InvalidConnection, match="the timeout is"):
        RankingClient(address, timeout=timeout)
    with RankingClient(address) as client, pytest.raises(InvalidConnection, match="the timeout is"):
        client.rank(question(), timeout=timeout)
    with pytest.raises(InvalidConnection, match="at_once is 0"):
        RankingClient(address, at_once=0)


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    """An authority."""
    return make_pki(tmp_path_factory.mktemp("pki"))


def test_a_pair_that_does_not_fit_and_an_authority_that_is_none_are_found_before_connecting(pki: Pki) -> None:
    """The message speaks of certificate and key, and shows neither."""
    one, other = pki.role(Role.STOREFRONT), pki.role(Role.STOREFRONT)
    with pytest.raises(InvalidConnection, match="do not belong together"):
        RankingClient("h:1", tls=ClientTls(authority=pki.ca, certificate=one.certificate, key=other.key))
    with pytest.raises(InvalidConnection, match="this caller's certificate cannot be used"):
        RankingClient("h:1", tls=ClientTls(certificate=b"none", key=one.key))
    with pytest.raises(InvalidConnection, match=r"holds no certificate in PEM"):
        RankingClient("h:1", tls=ClientTls(authority=b"none"))


def test_a_failed_handshake_speaks_of_certificates(
    open_endpoint_in_thread: Any, pki: Pki, tmp_path: Path
) -> None:
    """None where one is needed, no TLS where it is needed, another authority; an endpoint without TLS."""
    from guarded_server import guard_for

    from server.serving.credentials import TlsFiles

    pair, mine = pki.server("127.0.0.1"), pki.role(Role.STOREFRONT)
    paths = [tmp_path / name for name in ("server.pem", "server.key", "ca.pem")]
    for path, content in zip(paths, (pair.certificate, pair.key, pki.ca), strict=True):
        path.write_bytes(content)
    files = TlsFiles(certificate=paths[0], key=paths[1], client_authorities=paths[2])
    (tmp_path / "other").mkdir()
    stranger = make_pki(tmp_path / "other").ca
    cases = (
        (None, "want TLS: give the certificate authority"),
        (ClientTls(authority=pki.ca), "want a valid certificate of an authority that it knows"),
        (
            ClientTls(authority=stranger, certificate=mine.certificate, key=mine.key),
            "has to be the one that signed",
        ),
    )
    with open_endpoint_in_thread(tls=files, guard=guard_for()) as address:
        for tls, words in cases:
            with (
                RankingClient(address, tls=tls, retries=ONCE) as client,
                pytest.raises(EndpointUnreachable, match=words),
            ):
                client.rank(question())
