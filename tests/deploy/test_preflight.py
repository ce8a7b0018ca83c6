"""What is wrong with a kit on this machine is said before anything is started, with what to do about it."""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from federations import TEXT, provisioned
from typer.testing import CliRunner

from deploy.kit_files import Kits
from deploy.membership import Operator
from deploy.site_keys import install, request
from fedrank import cli
from fedrank.federation import preflight as looking
from fedrank.federation.flower import free_port
from fedrank.federation.preflight import Finding, Level, preflight
from fedrank.federation.preflight_connection import Greeting, NoConnection, greeting_of
from privacy.database import migrate as take
from privacy.database import opened, prepare
from privacy.schema import REVISIONS
from proto.federation import PROTOCOL

DAY = 86_400.0


@pytest.fixture
def kits(tmp_path: Path) -> Kits:
    """The kits of a federation of two merchants whose coordinator is on this machine."""
    return provisioned(tmp_path, TEXT.replace("hub.shops.example:9092", f"localhost:{free_port()}"))


def greet(**changes: Any) -> Callable[[str, int, Path], Greeting]:
    """A coordinator that is all right, with some of its words replaced."""

    def answer(_host: str, _port: int, _authority: Path) -> Greeting:
        words: dict[str, Any] = {"tls": "TLSv1.3", "date": float(int(time.time())), "protocol": PROTOCOL}
        return Greeting(**{**words, **changes})

    return answer


def found(folder: Path, **words: Any) -> dict[str, Finding]:
    """What preflight finds, by check."""
    return {one.check: one for one in preflight(folder, **{"greet": greet(), **words})}


def merchant(kits: Kits) -> Path:
    """One merchant's kit."""
    return kits.merchant("north")


def test_a_fresh_kit_on_a_good_machine_has_nothing_to_fix(kits: Kits) -> None:
    """Of every kind: all findings are good, and none names a fix."""
    for folder in (merchant(kits), kits.coordinator):
        findings = found(folder)
        assert {one.level for one in findings.values()} == {Level.GOOD}
        assert not any(one.fix for one in findings.values())
    assert {"node certificate", "data folder", "disk", "database", "connection", "clock", "protocol"} <= {
        *found(merchant(kits))
    }


def _revoke(kits: Kits) -> None:
    Operator.open(kits.root).revoke("north", datetime.now(UTC))


DAMAGE: dict[str, tuple[str, Level, str, Callable[[Kits], object]]] = {
    "manifest": (
        "kit",
        Level.FAILURE,
        "manifest",
        lambda kits: (merchant(kits) / "federation.json").write_bytes(
            (merchant(kits) / "federation.json").read_bytes().replace(b"8.0", b"9.0")
        ),
    ),
    "catalogue": (
        "kit",
        Level.FAILURE,
        "SHA-256",
        lambda kits: (merchant(kits) / "catalogue.parquet").write_bytes(b"another"),
    ),
    "key of another": (
        "node certificate",
        Level.FAILURE,
        "do not belong together",
        lambda kits: (merchant(kits) / "node.key").write_bytes(
            (kits.merchant("south") / "node.key").read_bytes()
        ),
    ),
    "key that others may read": (
        "node certificate",
        Level.FAILURE,
        "chmod 0600",
        lambda kits: (merchant(kits) / "node.key").chmod(0o644),
    ),
    "revoked": ("node certificate", Level.FAILURE, "revoked", _revoke),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_what_is_wrong_with_a_kit_is_named_with_its_fix(kits: Kits, name: str) -> None:
    """Manifest, catalogue, key, its mode, revocation: each is a failure of its own line."""
    check, level, words, act = DAMAGE[name]
    act(kits)
    one = found(merchant(kits))[check]
    assert one.level is level and words in one.found and one.fix


def test_a_kit_whose_key_is_made_at_the_site_is_told_the_step_that_is_missing(tmp_path: Path) -> None:
    """Request, approve, install: what comes next is the fix, and `start` says the same."""
    kits = provisioned(tmp_path, TEXT.replace("shoppers = 300", 'shoppers = 300\nkeys = "site"'))
    south = kits.merchant("south")
    one = found(south)["kit"]
    assert one.level is Level.FAILURE and one.found == f"the kit {south} lacks node.key"
    assert one.fix.startswith(f"make one with `fedrank merchant request {south}`")
    request(south)
    one = found(south)["kit"]
    assert "not here yet: send node.csr to the operator" in one.fix
    assert f"fedrank merchant install {south} FILE" in one.fix
    done = CliRunner().invoke(cli.app, ["merchant", "start", str(south)])
    assert str(done.exception) == f"{one.found}; {one.fix}"
    now = datetime.now(UTC)
    certificate, *_ = Operator.open(kits.root).approve("south", (south / "node.csr").read_bytes(), now)
    install(south, certificate, time.time)
    assert found(south)["node certificate"].level is Level.GOOD


@pytest.mark.parametrize(("days", "level"), [(0, Level.GOOD), (340, Level.WARNING), (366, Level.FAILURE)])
def test_a_certificate_warns_before_it_ends(kits: Kits, days: int, level: Level) -> None:
    """A year's certificate: good today, a warning in its last month, a failure after its end."""
    one = found(merchant(kits), now=lambda: time.time() + days * DAY)["node certificate"]
    assert one.level is level and bool(one.fix) is (level is not Level.GOOD)


def test_tables_of_an_older_revision_are_a_failure_that_names_the_command(kits: Kits, tmp_path: Path) -> None:
    """A new database is made at the first start; one of the newest revision is good; no byte is changed."""
    place = tmp_path / "events.db"
    assert "no tables yet" in found(merchant(kits), database=str(place))["database"].found
    assert not place.exists()
    with opened(place, create=True) as engine:
        prepare(engine)
    assert found(merchant(kits), database=str(place))["database"].level is Level.GOOD
    with opened(place) as engine:
        take(engine, REVISIONS[0])
    one = found(merchant(kits), database=str(place))["database"]
    assert one.level is Level.FAILURE and "fedrank db migrate" in one.fix
    broken = found(merchant(kits), database="postgresql://nobody@127.0.0.1:1/none?connect_timeout=2")[
        "database"
    ]
    assert broken.level is Level.FAILURE and broken.fix


@pytest.mark.parametrize(
    ("seconds", "level", "words"),
    [
        (0.0, Level.GOOD, "0 s"),
        (-3.5, Level.WARNING, "ahead of"),
        (-60.0, Level.FAILURE, "ahead of"),
        (30.0, Level.WARNING, "behind"),
        (600.0, Level.FAILURE, "behind"),
    ],
)
def test_a_clock_that_is_off_is_told_in_the_direction_in_which_it_is(
    kits: Kits, seconds: float, level: Level, words: str
) -> None:
    """A coordinator whose Date is so much later than this machine's clock; Flower bears less ahead than behind."""
    one = found(merchant(kits), greet=greet(date=float(int(time.time() + seconds))))["clock"]
    assert one.level is level and words in one.found


def test_little_disk_is_a_warning_and_none_a_failure(kits: Kits, monkeypatch: pytest.MonkeyPatch) -> None:
    """By free bytes where the data lie."""
    for free, level in (
        (looking.LITTLE_DISK, Level.GOOD),
        (looking.NO_DISK, Level.WARNING),
        (5, Level.FAILURE),
    ):
        usage = type("Usage", (), {"free": free})
        monkeypatch.setattr("shutil.disk_usage", lambda _folder, usage=usage: usage)
        assert found(merchant(kits))["disk"].level is level


def test_another_protocol_or_none_at_all_is_a_failure(kits: Kits) -> None:
    """The one names both versions; the other is no coordinator of fedrank."""
    other = found(merchant(kits), greet=greet(protocol="9"))["protocol"]
    assert other.level is Level.FAILURE and "version 9" in other.found
    none = found(merchant(kits), greet=greet(protocol=""))["protocol"]
    assert none.level is Level.FAILURE and "kit.toml" in none.fix


def test_a_coordinator_that_is_not_there_is_a_failure_for_a_merchant_and_a_warning_for_itself(
    kits: Kits,
) -> None:
    """It is started after the look; the exit codes are 2 and 1, and each bad line names a fix."""
    done = CliRunner().invoke(cli.app, ["preflight", str(merchant(kits))])
    assert done.exit_code == 2
    assert next(line for line in done.stdout.splitlines() if line.startswith("FAIL")).endswith(
        "has this port"
    )
    done = CliRunner().invoke(cli.app, ["preflight", str(kits.coordinator), "--json"])
    told = json.loads(done.stdout)
    assert done.exit_code == 1 and told["level"] == "warning"
    assert [one["fix"] for one in told["findings"] if one["level"] == "warning"] == [
        "start it: fedrank coordinator start KIT"
    ]


@pytest.fixture
def server(kits: Kits) -> Iterator[Callable[..., int]]:
    """Give a function that starts a TLS server with a kit's pair; it returns the port."""
    listening: list[socket.socket] = []

    def start(folder: Path, *, plain: bool = False) -> int:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "tls.pem", folder / "tls.key")
        sock = socket.create_server(("", 0))
        listening.append(sock)
        threading.Thread(target=_serve, args=(sock, None if plain else context), daemon=True).start()
        port: int = sock.getsockname()[1]
        return port

    yield start
    for sock in listening:
        sock.close()


def _serve(sock: socket.socket, context: ssl.SSLContext | None) -> None:
    answer = f"HTTP/1.1 404 Not Found\r\ndate: {formatdate(usegmt=True)}\r\nfedrank-protocol: {PROTOCOL}\r\n"
    while True:
        try:
            plain, _ = sock.accept()
            with plain if context is None else context.wrap_socket(plain, server_side=True) as connection:
                connection.recv(4096)
                connection.sendall(answer.encode() + b"content-length: 0\r\n\r\n")
        except ssl.SSLError:
            continue
        except OSError:
            return


def test_the_connection_is_checked_to_the_chain_and_the_name(
    kits: Kits, server: Callable[..., int], tmp_path: Path
) -> None:
    """The right pair is greeted; another authority, another name, no TLS, nobody there: each is told apart."""
    port = server(kits.coordinator)
    authority = kits.coordinator / "ca.pem"
    greeting = greeting_of("localhost", port, authority)
    assert greeting.tls == "TLSv1.3" and greeting.protocol == PROTOCOL
    assert abs((greeting.date or 0) - time.time()) < 60
    (tmp_path / "other").mkdir()
    other = provisioned(tmp_path / "other", TEXT)
    for host, port_, pem, check, words in (
        ("localhost", port, other.coordinator / "ca.pem", "TLS", "not trusted"),
        ("127.0.0.2", port, authority, "TLS", "IP address mismatch"),
        ("localhost", server(kits.coordinator, plain=True), authority, "TLS", "no TLS 1.3"),
        ("localhost", free_port(), authority, "connection", "nothing listens"),
        ("no-such-host.invalid", port, authority, "name", "no address"),
    ):
        with pytest.raises(NoConnection, match=words) as refused:
            greeting_of(host, port_, pem)
        assert refused.value.check == check and refused.value.fix
