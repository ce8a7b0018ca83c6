"""The open endpoint: TLS, health, promotion while serving, and a stop that loses no call."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from certificates_world import Pki, make_pki
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from guarded_server import guard_for

from client.ranking import ClientTls, EndpointUnreachable, RankingClient, RequestRefused, Retries
from client.ranking_words import Interaction, Question, Surface
from model.schema import Weights
from server.errors import EndpointError
from server.registry import Registry
from server.serving.credentials import TlsFiles
from server.serving.endpoint import EndpointConfig, is_loopback
from server.serving.guard import CertificateGuard
from server.serving.identity import Role

HOME = Question(surface=Surface.HOME)
SERVICE = "fedrank.ranking.v1.RankingService"
ONCE = Retries(attempts=1)


def eventually(condition: Any, seconds: float = 20) -> None:
    """Wait until a condition holds; a generous bound, not a timing claim."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition never held"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    """An authority."""
    return make_pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture
def tls(pki: Pki, tmp_path: Path) -> TlsFiles:
    """An endpoint's pair for 127.0.0.1, in files."""
    pair = pki.server("127.0.0.1")
    files = {"server.pem": pair.certificate, "server.key": pair.key, "ca.pem": pki.ca}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    certificate, key, authorities = (tmp_path / name for name in files)
    return TlsFiles(certificate=certificate, key=key, client_authorities=authorities)


@pytest.fixture
def guard() -> CertificateGuard:
    """Admits callers of one merchant."""
    return guard_for()


def client_tls(pki: Pki) -> ClientTls:
    """What a storefront of the merchant has."""
    pair = pki.role(Role.STOREFRONT)
    return ClientTls(authority=pki.ca, certificate=pair.certificate, key=pair.key)


@pytest.fixture
def health(address: str) -> Iterator[Any]:
    """The standard health client."""
    with grpc.insecure_channel(address) as channel:
        yield health_pb2_grpc.HealthStub(channel)


def test_over_mutual_tls_a_known_caller_is_served_and_others_are_not(
    open_endpoint_in_thread: Any, tls: TlsFiles, guard: CertificateGuard, pki: Pki
) -> None:
    """A plain connection, one without a certificate, and one to a name that the certificate lacks are none."""
    with open_endpoint_in_thread(tls=tls, guard=guard) as address:
        with RankingClient(address, tls=client_tls(pki)) as client:
            assert len(client.rank(HOME).items) == 10
        strangers = ((address, None), (address, ClientTls(authority=pki.ca)))
        by_name = address.replace("127.0.0.1", "localhost")
        for wanted, shown in (*strangers, (by_name, client_tls(pki))):
            with RankingClient(wanted, tls=shown, retries=ONCE) as client, pytest.raises(EndpointUnreachable):
                client.rank(HOME)


def test_a_caller_of_a_role_that_may_not_is_refused_in_words(
    open_endpoint_in_thread: Any, tls: TlsFiles, guard: CertificateGuard, pki: Pki
) -> None:
    """It is a refusal that no retry changes, and the words of it say where to look."""
    pair = pki.role(Role.RECORDER)
    shown = ClientTls(authority=pki.ca, certificate=pair.certificate, key=pair.key)
    with (
        open_endpoint_in_thread(tls=tls, guard=guard) as address,
        RankingClient(address, tls=shown) as client,
        pytest.raises(RequestRefused, match=r"role recorder may not .* docs/serving-security\.md"),
    ):
        client.rank(HOME)


def test_a_tls_endpoint_may_listen_everywhere(
    open_endpoint_in_thread: Any, tls: TlsFiles, guard: CertificateGuard, pki: Pki
) -> None:
    """With a certificate the refusal of other interfaces falls away."""
    with open_endpoint_in_thread(tls=tls, guard=guard, host="0.0.0.0") as address:
        port = address.rpartition(":")[2]
        with RankingClient(f"127.0.0.1:{port}", tls=client_tls(pki)) as client:
            assert len(client.rank(HOME).items) == 10


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "shop.example"])
def test_without_tls_an_endpoint_stays_on_this_machine(host: str) -> None:
    """Private by default; the way out has a loud name."""
    with pytest.raises(EndpointError, match="--tls-cert and --tls-key"):
        EndpointConfig(host=host)
    assert EndpointConfig(host=host, insecure_any_interface=True).host == host


@pytest.mark.parametrize(
    ("host", "local"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("192.168.1.1", False), ("x", False)],
)
def test_loopback_is_told_from_other_addresses(host: str, local: bool) -> None:
    """Names other than localhost count as foreign."""
    assert is_loopback(host) is local


def test_a_taken_port_is_an_error_with_the_next_step(open_endpoint_in_thread: Any, address: str) -> None:
    """Two endpoints never share a port by accident, which would split the callers between two models."""
    from server.serving import endpoint

    config = EndpointConfig(port=int(address.rpartition(":")[2]))

    async def bind_again() -> None:
        endpoint._bind(grpc.aio.server(options=[("grpc.so_reuseport", 0)]), config)

    with pytest.raises(EndpointError, match="use --port 0"):
        asyncio.run(bind_again())


def test_health_tells_that_the_service_is_serving(health: Any) -> None:
    """For the server as a whole and for the service by name; another name is unknown."""
    for name in ("", SERVICE):
        answer = health.Check(health_pb2.HealthCheckRequest(service=name), timeout=5)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(grpc.RpcError) as caught:
        health.Check(health_pb2.HealthCheckRequest(service="other"), timeout=5)
    error: Any = caught.value
    assert error.code() is grpc.StatusCode.NOT_FOUND


def test_health_says_not_serving_from_the_stop_on_while_calls_are_still_taken(
    open_endpoint_in_thread: Any,
) -> None:
    """So a balancer that looks now and then sends its callers elsewhere before any of them is refused."""
    asked = health_pb2.HealthCheckRequest(service=SERVICE)
    with ThreadPoolExecutor(1) as threads:
        endpoint = open_endpoint_in_thread(notice_seconds=1.0)
        address = endpoint.__enter__()
        with RankingClient(address, timeout=20) as client, grpc.insecure_channel(address) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            stopped = threads.submit(endpoint.__exit__, None, None, None)
            not_serving = health_pb2.HealthCheckResponse.NOT_SERVING
            eventually(lambda: health.Check(asked, timeout=5).status == not_serving)
            assert len(client.rank(HOME).items) == 10
            stopped.result(20)


def test_the_protocol_is_described_to_those_who_ask_only_where_that_is_switched_on(
    open_endpoint_in_thread: Any,
) -> None:
    """grpcurl can list and call without the .proto file; by default nobody learns what is served."""

    def services(address: str) -> set[str]:
        with grpc.insecure_channel(address) as channel:
            stub = reflection_pb2_grpc.ServerReflectionStub(channel)
            (answer,) = stub.ServerReflectionInfo(
                iter([reflection_pb2.ServerReflectionRequest(list_services="")]), timeout=5
            )
            return {service.name for service in answer.list_services_response.service}

    with open_endpoint_in_thread(reflection=True) as address:
        assert SERVICE in services(address)
    with open_endpoint_in_thread() as address, pytest.raises(grpc.RpcError) as caught:
        services(address)
    error: Any = caught.value
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_stop_lets_a_call_in_progress_finish_and_refuses_new_ones(
    open_endpoint_in_thread: Any, store: Any
) -> None:
    """An acknowledged event is stored even if the stop came in between."""
    told = [Interaction(event_id="e", shopper="s", item_id="item-01", timestamp=1_700_000_000, kind="view")]
    store.gate.clear()
    with ThreadPoolExecutor(2) as threads:
        endpoint = open_endpoint_in_thread()
        address = endpoint.__enter__()
        with RankingClient(address, timeout=20) as client:
            in_progress = threads.submit(client.record, told)
            assert store.entered.wait(20)
            stopped = threads.submit(endpoint.__exit__, None, None, None)
            eventually(lambda: not _answers(address))
            assert not stopped.done()
            assert not in_progress.done()
            store.gate.set()
            assert in_progress.result(20).acknowledged == 1
            stopped.result(20)
    assert store.events.keys() == {"e"}


def _answers(address: str) -> bool:
    with RankingClient(address, retries=ONCE) as client:
        try:
            client.rank(HOME)
        except EndpointUnreachable:
            return False
    return True


def test_a_promoted_version_is_served_without_a_stop_and_a_bad_one_is_not(
    open_endpoint_in_thread: Any, registry: Registry, weights: Weights, run_folder: Path
) -> None:
    """The endpoint watches the registry; a corrupt promotion leaves the old version answering."""
    with open_endpoint_in_thread(refresh_seconds=0.05) as address, RankingClient(address) as client:
        newer = registry.add({**weights, "item_bias": weights["item_bias"][::-1]}, {}).version
        registry.promote(newer)
        eventually(lambda: client.rank(HOME).model_version == newer)
        newest = registry.add({**weights, "gain": weights["gain"] * 2}, {}).version
        path = run_folder / "registry" / "versions" / newest / "card.json"
        card = path.read_text()
        path.write_text(card + " ")
        (run_folder / "registry" / "promoted").write_text(newest)
        for _ in range(10):
            time.sleep(0.05)
            assert client.rank(HOME).model_version == newer
        path.write_text(card)
        eventually(lambda: client.rank(HOME).model_version == newest)
