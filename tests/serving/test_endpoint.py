"""The open endpoint: TLS, health, promotion while serving, and a stop that loses no call."""

from __future__ import annotations

import datetime
import ipaddress
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from grpc_health.v1 import health_pb2, health_pb2_grpc

from client.ranking import EndpointUnreachable, RankingClient, Retries
from client.ranking_words import Interaction, Question, Surface
from model.schema import Weights
from server.errors import EndpointError
from server.registry import Registry
from server.serving.endpoint import EndpointConfig, TlsFiles, is_loopback

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
def tls(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    """A self-signed certificate for 127.0.0.1, which is its own authority."""
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "fedrank test")])
    now = datetime.datetime.now(datetime.UTC)
    loopback = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([loopback]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = TlsFiles(certificate=folder / "server.pem", key=folder / "server.key")
    files.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    pem, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    files.key.write_bytes(key.private_bytes(serialization.Encoding.PEM, pem, plain))
    return files


@pytest.fixture
def health(address: str) -> Iterator[Any]:
    """The standard health client."""
    with grpc.insecure_channel(address) as channel:
        yield health_pb2_grpc.HealthStub(channel)


def test_over_tls_a_client_with_the_authority_is_served_and_others_are_not(
    open_endpoint_in_thread: Any, tls: TlsFiles
) -> None:
    """The system's authorities do not know the certificate, and a plain connection is no connection."""
    with open_endpoint_in_thread(tls=tls) as address:
        with RankingClient(address, tls_ca=tls.certificate.read_bytes()) as client:
            assert len(client.rank(HOME).items) == 10
        with RankingClient(address, retries=ONCE) as client, pytest.raises(EndpointUnreachable):
            client.rank(HOME)
        by_name = address.replace("127.0.0.1", "localhost")
        with RankingClient(by_name, tls_ca=tls.certificate.read_bytes(), retries=ONCE) as client:  # noqa: SIM117
            with pytest.raises(EndpointUnreachable):
                client.rank(HOME)


def test_a_tls_endpoint_may_listen_everywhere(open_endpoint_in_thread: Any, tls: TlsFiles) -> None:
    """With a certificate the refusal of other interfaces falls away."""
    with open_endpoint_in_thread(tls=tls, host="0.0.0.0") as address:
        port = address.rpartition(":")[2]
        with RankingClient(f"127.0.0.1:{port}", tls_ca=tls.certificate.read_bytes()) as client:
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
    with pytest.raises(EndpointError, match="use --port 0"):
        endpoint._bind(grpc.aio.server(options=[("grpc.so_reuseport", 0)]), config)


def test_a_missing_or_foreign_key_file_is_an_error_by_name(tls: TlsFiles, tmp_path: Path) -> None:
    """The path is named, never the content."""
    missing = TlsFiles(certificate=tls.certificate, key=tmp_path / "missing.key")
    with pytest.raises(EndpointError, match=r"missing\.key cannot be read: No such file"):
        missing.credentials()


def test_health_tells_that_the_service_is_serving(health: Any) -> None:
    """For the server as a whole and for the service by name; another name is unknown."""
    for name in ("", SERVICE):
        answer = health.Check(health_pb2.HealthCheckRequest(service=name), timeout=5)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(grpc.RpcError) as caught:
        health.Check(health_pb2.HealthCheckRequest(service="other"), timeout=5)
    error: Any = caught.value
    assert error.code() is grpc.StatusCode.NOT_FOUND


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
        first = client.rank(HOME).model_version
        newer = registry.add({**weights, "item_bias": weights["item_bias"][::-1]}, {}).version
        registry.promote(newer)
        eventually(lambda: client.rank(HOME).model_version == newer)
        path = run_folder / "registry" / "versions" / first / "card.json"
        card = path.read_text()
        path.write_text(card + " ")
        (run_folder / "registry" / "promoted").write_text(first)
        for _ in range(10):
            time.sleep(0.05)
            assert client.rank(HOME).model_version == newer
        path.write_text(card)
        eventually(lambda: client.rank(HOME).model_version == first)
