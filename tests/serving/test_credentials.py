"""Mutual TLS over real connections: who gets in, who does not, and what changes without a restart."""

from __future__ import annotations

import logging
import os
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from certificates_world import DOMAIN, MERCHANT, Pair, Pki, make_pki, name
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status
from guarded_server import files_in, guard_for, serving

from proto.fedrank.ranking.v1 import ranking_pb2 as pb
from proto.fedrank.ranking.v1.ranking_pb2_grpc import RankingServiceStub
from server.errors import EndpointError
from server.serving import revocation
from server.serving.identity import Role
from server.serving.limits import TLS_1_3_ONLY
from server.serving.quotas import Quota
from server.serving.revocation import RevocationList

UNAVAILABLE, UNAUTHENTICATED, DENIED = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED,
)


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    """An authority with a server's pair."""
    made = make_pki(tmp_path_factory.mktemp("pki"))
    made.server()
    return made


@pytest.fixture(scope="module")
def port(pki: Pki) -> Iterator[int]:
    """A server that admits callers of one merchant, and heeds the revocation list."""
    folder = pki.authority.folder
    revoked = RevocationList(pki.revoked, folder / "ca.pem", time.monotonic)
    with serving(guard_for(is_revoked=revoked), files_in(folder)) as port:
        yield port


def channel(port: int, ca: bytes, pair: Pair | None) -> grpc.Channel:
    """A caller's connection; each has its own, for gRPC shares those of equal settings."""
    credentials = grpc.ssl_channel_credentials(
        ca, pair.key if pair else None, pair.certificate if pair else None
    )
    return grpc.secure_channel(f"127.0.0.1:{port}", credentials, [("grpc.use_local_subchannel_pool", 1)])


def ask(open_channel: grpc.Channel, **fields: Any) -> str:
    """Whom the server took the caller for."""
    request = pb.RankRequest(**fields)
    stub: Any = RankingServiceStub(open_channel)  # type: ignore[no-untyped-call]
    return str(stub.Rank(request, timeout=5).ranking_id)


def refusal(port: int, ca: bytes, pair: Pair | None) -> tuple[grpc.StatusCode, str]:
    """Code and words that a caller gets."""
    with channel(port, ca, pair) as opened, pytest.raises(grpc.RpcError) as caught:
        ask(opened)
    error: Any = caught.value
    return error.code(), error.details()


def test_a_caller_with_a_certificate_of_the_merchant_is_served_by_its_role(port: int, pki: Pki) -> None:
    """Over TLS with both sides known."""
    for role in (Role.STOREFRONT, Role.READER):
        with channel(port, pki.ca, pki.role(role)) as opened:
            assert ask(opened) == f"{MERCHANT}/{role}"


def test_at_the_handshake_strangers_are_turned_away(port: int, pki: Pki, tmp_path: Path) -> None:
    """No certificate, a self-signed one, another authority's of the same name, an expired one, the server's own."""
    other = make_pki(tmp_path / "other")
    self_signed = Pair(certificate=other.ca, key=(other.authority.folder / "ca.key").read_bytes())
    strangers = (
        None,
        self_signed,
        other.role(Role.STOREFRONT),
        pki.caller(name(), file="expired", ago=timedelta(days=2)),
        pki.server(file="server-as-caller"),
    )
    for stranger in strangers:
        code, words = refusal(port, pki.ca, stranger)
        assert code is UNAVAILABLE
        assert MERCHANT not in words


def test_a_plain_connection_is_no_connection(port: int) -> None:
    """Nothing is spoken in the clear."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as plain, pytest.raises(grpc.RpcError) as caught:
        ask(plain)
    error: Any = caught.value
    assert error.code() is UNAVAILABLE


def test_who_is_known_and_may_not_is_told_so(port: int, pki: Pki) -> None:
    """Another merchant's caller, a role without the method, a certificate that names nobody: each has its status."""
    nobody = pki.caller("https://shop.example/anna", file="nobody")
    for pair, code, words in (
        (pki.role(Role.STOREFRONT, "pot-shop"), DENIED, "callers of merchant pot-shop are not admitted"),
        (pki.role(Role.MONITOR), DENIED, "the role monitor may not call this method"),
        (pki.role(Role.DEVELOPER), DENIED, "the role developer may not call this method"),
        (pki.role(Role.RECORDER), DENIED, "the role recorder may not call this method"),
        (nobody, UNAUTHENTICATED, f"spiffe://{DOMAIN}/merchant/ID/ROLE"),
    ):
        found, told = refusal(port, pki.ca, pair)
        assert found is code
        assert words in told


def test_health_and_reflection_stand_behind_the_same_door(port: int, pki: Pki) -> None:
    """Other people's services are guarded too, and their streams as well."""
    everything = reflection_pb2.ServerReflectionRequest(list_services="")
    with channel(port, pki.ca, pki.role(Role.MONITOR)) as monitor:
        stub: Any = health_pb2_grpc.HealthStub(monitor)
        assert stub.Check(health_pb2.HealthCheckRequest(), timeout=5).status == 1
        watched = stub.Watch(health_pb2.HealthCheckRequest(), timeout=5)
        assert next(iter(watched)).status == 1
        watched.cancel()
        reflected: Any = reflection_pb2_grpc.ServerReflectionStub(monitor)
        with pytest.raises(grpc.RpcError) as caught:
            next(reflected.ServerReflectionInfo(iter([everything]), timeout=5))
        error: Any = caught.value
        assert error.code() is DENIED
    with channel(port, pki.ca, pki.role(Role.DEVELOPER)) as developer:
        reflected = reflection_pb2_grpc.ServerReflectionStub(developer)
        answer = next(reflected.ServerReflectionInfo(iter([everything]), timeout=5))
        assert answer.list_services_response.service[0].name == "fedrank.ranking.v1.RankingService"
    with (
        channel(port, pki.ca, pki.role(Role.MONITOR, "pot-shop")) as foreign,
        pytest.raises(grpc.RpcError) as caught,
    ):
        health_pb2_grpc.HealthStub(foreign).Check(health_pb2.HealthCheckRequest(), timeout=5)
    error = caught.value
    assert error.code() is DENIED


def test_a_revoked_certificate_is_refused_on_its_open_connection(
    port: int, pki: Pki, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the first look at the changed list on; another certificate of the same name is not."""
    monkeypatch.setattr(revocation, "LOOK_SECONDS", 0.0)
    stolen = pki.caller(name(), file="stolen")
    with channel(port, pki.ca, stolen) as opened:
        assert ask(opened) == f"{MERCHANT}/storefront"
        pki.revoke(stolen)
        time.sleep(1.1)  # the look that was due a second after the last one
        with pytest.raises(grpc.RpcError) as caught:
            ask(opened)
        error: Any = caught.value
        assert error.code() is UNAUTHENTICATED
        assert "revoked" in error.details()
    with channel(port, pki.ca, pki.role(Role.STOREFRONT)) as opened:
        assert ask(opened) == f"{MERCHANT}/storefront"


def test_a_certificate_that_expires_is_refused_on_its_open_connection(pki: Pki) -> None:
    """A connection does not outlive it."""
    now = [time.time()]
    with serving(guard_for(clock=lambda: now[0]), files_in(pki.authority.folder)) as port:  # noqa: SIM117
        with channel(port, pki.ca, pki.caller(name(), file="short")) as opened:
            assert ask(opened)
            now[0] += 2 * 86400
            with pytest.raises(grpc.RpcError) as caught:
                ask(opened)
    error: Any = caught.value
    assert error.code() is UNAUTHENTICATED
    assert "expired" in error.details()


def test_a_used_up_quota_says_what_and_when_to_come_back(pki: Pki) -> None:
    """RESOURCE_EXHAUSTED with QuotaFailure and RetryInfo; after that time the caller is served."""
    guard = guard_for(quota=Quota(per_second=5, burst=2))
    with serving(guard, files_in(pki.authority.folder)) as port:  # noqa: SIM117
        with channel(port, pki.ca, pki.role(Role.READER)) as opened:
            ask(opened)
            with pytest.raises(grpc.RpcError) as caught:
                for _ in range(50):
                    ask(opened)
            error: Any = caught.value
            assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            retry, failure = error_details_pb2.RetryInfo(), error_details_pb2.QuotaFailure()
            details = list(rpc_status.from_call(error).details)
            assert any(detail.Unpack(retry) for detail in details)
            assert any(detail.Unpack(failure) for detail in details)
            assert failure.violations[0].subject == f"reader of merchant {MERCHANT}"
            pause = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9
            assert 0 < pause <= 0.2
            time.sleep(pause)
            assert ask(opened)


def served_serial(port: int, ca: bytes, pair: Pair, tmp_path: Path) -> str:
    """Serial number of the certificate that a new connection is shown."""
    context = ssl.create_default_context(cadata=ca.decode())
    context.set_alpn_protocols(["h2"])
    certificate, key = tmp_path / "c.pem", tmp_path / "c.key"
    certificate.write_bytes(pair.certificate)
    key.write_bytes(pair.key)
    context.load_cert_chain(certificate, key)
    with socket.create_connection(("127.0.0.1", port), 5) as plain:  # noqa: SIM117
        with context.wrap_socket(plain, server_hostname="127.0.0.1") as secured:
            return str((secured.getpeercert() or {})["serialNumber"])


def test_a_new_pair_on_disk_is_served_without_a_restart_and_a_bad_one_never(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Calls on the old connection go on; half a pair, noise and a missing file leave the old pair in service."""
    pki = make_pki(tmp_path / "pki")
    folder = pki.authority.folder
    pki.server()
    ca, shop = pki.ca, pki.role(Role.STOREFRONT)
    with serving(guard_for(), files_in(folder)) as port, channel(port, ca, shop) as old:
        first = served_serial(port, ca, shop, tmp_path)
        assert ask(old)
        pki.server()
        second = served_serial(port, ca, shop, tmp_path)
        assert second != first
        for spoil in (
            lambda: (folder / "server.key").write_bytes((folder / "ca.key").read_bytes()),
            lambda: (folder / "server.pem").write_bytes(b"noise"),
            lambda: (folder / "server.key").unlink(),
            lambda: (folder / "ca.pem").rename(folder / "ca.moved"),
        ):
            spoil()
            assert served_serial(port, ca, shop, tmp_path) == second
            assert ask(old)
        (folder / "ca.moved").rename(folder / "ca.pem")
        pki.server()
        assert served_serial(port, ca, shop, tmp_path) not in (first, second)
    complaints = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(complaints) == 3  # the last two spoil one after the other: the missing key is told once
    assert "PRIVATE KEY" not in caplog.text


def test_a_new_authority_on_disk_counts_from_the_next_connection_on(tmp_path: Path) -> None:
    """Both while both are in the file; then the new one alone."""
    old, new = make_pki(tmp_path / "old"), make_pki(tmp_path / "new")
    folder = old.authority.folder
    old.server()
    ca = old.ca
    with serving(guard_for(), files_in(folder)) as port:
        assert refusal(port, ca, new.role(Role.READER))[0] is UNAVAILABLE
        (folder / "ca.pem").write_bytes(ca + new.ca)
        for pki in (old, new):
            with channel(port, ca, pki.role(Role.READER)) as opened:
                assert ask(opened)
        (folder / "ca.pem").write_bytes(new.ca)
        assert refusal(port, ca, old.role(Role.READER))[0] is UNAVAILABLE
        with channel(port, ca, new.role(Role.READER)) as opened:
            assert ask(opened)


@pytest.mark.parametrize("broken", ["server.pem", "server.key", "ca.pem"])
def test_an_endpoint_does_not_start_on_bad_files(tmp_path: Path, broken: str) -> None:
    """The file is named, and its content never told."""
    pki = make_pki(tmp_path / "pki")
    pki.server()
    path = pki.authority.folder / broken
    path.write_bytes(b"secret noise")
    with pytest.raises(EndpointError, match=broken) as caught:
        files_in(pki.authority.folder).credentials()
    assert "secret noise" not in str(caught.value)
    path.unlink()
    with pytest.raises(EndpointError, match=f"{broken} cannot be read: No such file"):
        files_in(pki.authority.folder).credentials()


def test_a_bad_revocation_list_stops_a_start_and_leaves_a_running_endpoint_its_old_one(
    tmp_path: Path,
) -> None:
    """Nobody who was revoked comes back because a file was damaged or deleted."""
    pki = make_pki(tmp_path / "pki")
    pki.revoke(pki.role(Role.READER))
    now = [0.0]
    listed = RevocationList(pki.revoked, pki.authority.folder / "ca.pem", lambda: now[0])
    [(issuer, serial)] = listed._watched.value
    for spoil in (lambda: pki.revoked.write_bytes(b"noise"), pki.revoked.unlink):
        spoil()
        now[0] += 2
        assert listed(issuer, serial)
        assert not listed(issuer, serial + 1)
    with pytest.raises(EndpointError, match=r"revoked\.pem cannot be read"):
        RevocationList(pki.revoked, pki.authority.folder / "ca.pem", lambda: 0.0)


def test_a_process_that_is_started_as_fedrank_starts_speaks_tls_1_3_alone(pki: Pki, tmp_path: Path) -> None:
    """Python's gRPC has no option for it; the variable does it, and an older client is turned away."""
    child = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("guarded_server.py")), str(pki.authority.folder)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), TLS_1_3_ONLY[0]: TLS_1_3_ONLY[1]},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with child:
        assert child.stdout is not None
        port = int(child.stdout.readline())
        context = ssl.create_default_context(cadata=pki.ca.decode())
        context.set_alpn_protocols(["h2"])
        for version, taken in ((ssl.TLSVersion.TLSv1_2, False), (ssl.TLSVersion.TLSv1_3, True)):
            context.maximum_version = version
            with socket.create_connection(("127.0.0.1", port), 5) as plain:
                if taken:
                    with context.wrap_socket(plain, server_hostname="127.0.0.1") as secured:
                        assert secured.version() == "TLSv1.3"
                else:
                    with pytest.raises((ssl.SSLError, ConnectionError)):
                        context.wrap_socket(plain, server_hostname="127.0.0.1")
        with channel(port, pki.ca, pki.role(Role.READER)) as opened:
            assert ask(opened)
        child.communicate("")
