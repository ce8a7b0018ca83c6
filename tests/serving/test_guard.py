"""Admission: by verified certificate, of the right merchant, valid at this moment, within the quota."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from certificates_world import DOMAIN, MERCHANT, Call, Pair, Pki, make_pki, name
from grpc_health.v1 import health_pb2_grpc

from server.errors import EndpointError, Forbidden, QuotaExceeded, Unauthenticated
from server.serving.admission import GuardedServer
from server.serving.authorisation import HEALTH, RANK, RECORD_EVENTS
from server.serving.guard import REMEMBERED, CertificateGuard, LocalGuard, Rules
from server.serving.identity import Role
from server.serving.quotas import STREAMS_AT_ONCE, Quota

DAY = 86_400


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    """An authority."""
    return make_pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def shop(pki: Pki) -> Pair:
    """The storefront of the merchant that is served."""
    return pki.role(Role.STOREFRONT)


def guard_of(
    *merchants: str,
    quota: Quota | None = None,
    clock: Callable[[], float] = time.time,
    revoked: Callable[[bytes, int], bool] = lambda issuer, serial: False,
    monotonic: Callable[[], float] = lambda: 0.0,
) -> CertificateGuard:
    """A guard with what a test changes."""
    rules = Rules(merchants=frozenset(merchants or (MERCHANT,)), domain=DOMAIN, quota=quota or Quota())
    return CertificateGuard(rules, revoked, clock, monotonic)


def test_a_caller_is_who_its_certificate_names(shop: Pair) -> None:
    """Merchant and role, and a call that is counted until it ends."""
    caller = guard_of().admit(Call(shop.certificate), RANK)
    assert (caller.merchant, caller.role) == (MERCHANT, Role.STOREFRONT)
    assert caller.account.in_progress == 1
    caller.leave()
    assert caller.account.in_progress == 0


def test_without_a_certificate_nobody_is_admitted() -> None:
    """Not even to the health check."""
    for method in (RANK, *HEALTH):
        with pytest.raises(Unauthenticated, match="no client certificate"):
            guard_of().admit(Call(None), method)


@pytest.mark.parametrize("version", [b"TLSv1.2", b"TLSv1.1", b""])
def test_a_connection_below_tls_1_3_is_refused(shop: Pair, version: bytes) -> None:
    """Where the process was started in a way that lets the handshake pass."""
    with pytest.raises(Unauthenticated, match=r"below 1\.3"):
        guard_of().admit(Call(shop.certificate, tls=version), RANK)


def test_a_certificate_that_names_no_caller_is_refused(pki: Pki) -> None:
    """That of the server, that of the authority, one of another domain, and bytes that are none."""
    strangers = (pki.server().certificate, pki.ca, pki.caller(name(domain="other")).certificate, b"noise")
    for stranger in strangers:
        with pytest.raises(Unauthenticated):
            guard_of().admit(Call(stranger), RANK)


def test_a_merchants_endpoint_admits_its_own_callers_alone(pki: Pki, shop: Pair) -> None:
    """Nor does a merchant's monitor look at another's health; a marketplace names whom it admits."""
    for role in Role:
        other = Call(pki.role(role, "pot-shop").certificate)
        with pytest.raises(Forbidden, match="callers of merchant pot-shop are not admitted here"):
            guard_of().admit(other, HEALTH[0])
        assert guard_of(MERCHANT, "pot-shop").admit(other, HEALTH[0]).merchant == "pot-shop"
    with pytest.raises(Forbidden):
        guard_of(MERCHANT.upper()).admit(Call(shop.certificate), RANK)


def test_a_certificate_that_expires_is_refused_from_the_next_call_on(shop: Pair) -> None:
    """Although its connection was opened before, and its bytes are remembered."""
    now = [time.time()]
    guard = guard_of(clock=lambda: now[0])
    guard.admit(Call(shop.certificate), RANK)
    now[0] += 2 * DAY
    with pytest.raises(Unauthenticated, match="expired"):
        guard.admit(Call(shop.certificate), RANK)


def test_a_certificate_of_the_future_is_not_valid_yet(pki: Pki) -> None:
    """Clocks may differ by minutes, not by days."""
    early = pki.caller(name(), ago=timedelta(days=-3))
    with pytest.raises(Unauthenticated, match="not valid yet"):
        guard_of().admit(Call(early.certificate), RANK)


def test_a_revoked_certificate_is_refused_from_the_next_call_on(shop: Pair, pki: Pki) -> None:
    """By issuer and serial, at once; another certificate of the same name goes on."""
    revoked: set[tuple[bytes, int]] = set()
    asked: list[tuple[bytes, int]] = []

    def is_revoked(issuer: bytes, serial: int) -> bool:
        asked.append((issuer, serial))
        return (issuer, serial) in revoked

    guard = guard_of(revoked=is_revoked)
    guard.admit(Call(shop.certificate), RANK)
    revoked.add(asked[-1])
    with pytest.raises(Unauthenticated, match="revoked"):
        guard.admit(Call(shop.certificate), RANK)
    again = pki.caller(name(), file="again")
    assert guard.admit(Call(again.certificate), RANK).merchant == MERCHANT


def test_two_certificates_of_one_name_share_one_quota_and_others_have_their_own(pki: Pki, shop: Pair) -> None:
    """More certificates or more connections give no more."""
    second = pki.caller(name(), file="second")
    guard = guard_of(quota=Quota(per_second=1, burst=2))
    guard.admit(Call(shop.certificate), RANK)
    guard.admit(Call(second.certificate), RANK)
    for pair in (shop, second):
        with pytest.raises(
            QuotaExceeded, match="storefront of merchant tea-house may have 1 calls per second"
        ):
            guard.admit(Call(pair.certificate), RANK)
    guard.admit(Call(pki.role(Role.READER).certificate), RANK)


def test_a_refused_call_costs_nothing_of_the_quota(pki: Pki) -> None:
    """Nobody is kept out by what they were not allowed to do."""
    guard = guard_of(quota=Quota(per_second=1, burst=1))
    monitor = Call(pki.role(Role.MONITOR).certificate)
    for _ in range(10):
        with pytest.raises(Forbidden):
            guard.admit(monitor, RANK)
    guard.admit(monitor, HEALTH[0])


def test_what_is_remembered_is_bounded_whatever_comes(pki: Pki, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither certificates nor accounts of refused merchants pile up."""
    monkeypatch.setattr("server.serving.guard.REMEMBERED", 8)
    guard = guard_of()
    for number in range(20):
        stranger = pki.caller(name(f"merchant-{number}")).certificate
        with pytest.raises(Forbidden):
            guard.admit(Call(stranger), RANK)
    assert len(guard._peers) <= 8 < REMEMBERED
    assert guard._callers == {}


def test_calls_that_last_are_fewer_at_once_and_take_nothing_from_rankings(shop: Pair) -> None:
    """Streams of events and watches of health: 64 of an identity at a worker, whatever is free for other calls."""
    guard = guard_of()
    for method in (RECORD_EVENTS, HEALTH[1]):
        for _ in range(STREAMS_AT_ONCE):
            guard.admit(Call(shop.certificate), method)
        with pytest.raises(QuotaExceeded, match="64 calls in progress at once"):
            guard.admit(Call(shop.certificate), method)
    assert guard.admit(Call(shop.certificate), RANK).account.in_progress == 1


def test_the_unchecked_caller_has_a_quota_too() -> None:
    """It keeps one runaway script from taking the endpoint down."""
    guard = LocalGuard(Quota(per_second=1, burst=1), lambda: 0.0)
    assert guard.admit(Call(None), RANK).role is None
    with pytest.raises(QuotaExceeded, match="local"):
        guard.admit(Call(None), RANK)


def test_rules_that_would_admit_nobody_are_refused() -> None:
    """With how to name somebody."""
    with pytest.raises(EndpointError, match="--merchant, or name those of the marketplace with --admit"):
        Rules(merchants=frozenset(), domain=DOMAIN, quota=Quota())
    with pytest.raises(EndpointError, match="cannot stand in a certificate"):
        Rules(merchants=frozenset({"a b"}), domain=DOMAIN, quota=Quota())


def test_a_handler_that_chooses_its_methods_call_by_call_is_not_registered() -> None:
    """Nobody could list what it serves, so nothing of it is; methods by name are, each behind the guard."""
    registered: dict[str, dict[str, Any]] = {}

    class Server:
        """Takes note."""

        def add_registered_method_handlers(self, service: str, handlers: dict[str, Any]) -> None:
            """By name."""
            registered[service] = handlers

        def add_generic_rpc_handlers(self, handlers: Any) -> None:
            """Never called."""
            raise AssertionError

    door = GuardedServer(Server(), guard_of())
    health_pb2_grpc.add_HealthServicer_to_server(health_pb2_grpc.HealthServicer(), door)
    [(service, handlers)] = registered.items()
    assert service == "grpc.health.v1.Health"
    assert handlers.keys() >= {"Check", "Watch"}
    assert all(
        handler.request_streaming and handler.request_deserializer is None for handler in handlers.values()
    )
