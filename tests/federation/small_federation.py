"""A federation of three small merchants as real processes, which tests of the whole share."""

from __future__ import annotations

import shlex
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import NameOID
from safetensors.numpy import load_file
from typer.testing import CliRunner

from client.ranking import ClientTls, RankingClient
from client.ranking_words import Interaction
from deploy.kit import CoordinatorKit, MerchantKit, open_kit
from deploy.kit_files import Kits
from evaluation.bench.federation_world import (
    LOOPBACK,
    Processes,
    Shop,
    described,
    events_file,
    free_port,
    processes,
    start,
)
from fedrank.cli import app
from privacy.secagg.identity import node_uri
from server.coordination.journal import finished_runs
from server.coordination.superlink import SuperLink

MERCHANTS = ("east", "north", "south")
FIRST = MERCHANTS[0]
"""Who has a ranking endpoint."""
SHOPPER = f"{FIRST}-shopper-00"
ITEMS, SHOPPERS, STEPS = 14, 15, 8
START, DAY = 1_700_000_000, 86_400
THINGS = ("tea", "lamp")


def fedrank(*words: str, code: int = 0) -> str:
    """Run `fedrank WORDS` in this process and return what it printed; `code` is the exit code that it must have."""
    done = CliRunner().invoke(app, list(words), catch_exceptions=code == 0)
    if code == 0 and done.exception is not None:
        raise done.exception
    assert done.exit_code == code, done.output
    return done.stdout


def shop(name: str) -> Shop:
    """A merchant with shoppers of its own, half of whom buy tea and half lamps."""
    items = pl.DataFrame(
        [
            {
                "item_id": f"{name}-{item:02d}",
                "title": f"{THINGS[item % 2]} number {item}",
                "category": THINGS[item % 2],
                "brand": f"brand {item % 3}",
                "price": 1.0 + item,
                "description": "",
            }
            for item in range(ITEMS)
        ]
    )
    events = pl.DataFrame(
        [
            {
                "user_id": f"{name}-shopper-{shopper:02d}",
                "item_id": f"{name}-{(2 * (shopper // 2 + step * step) + shopper) % ITEMS:02d}",
                "kind": "purchase",
                "timestamp": START + DAY * step + shopper,
            }
            for shopper in range(SHOPPERS)
            for step in range(STEPS)
        ]
    )
    return Shop(id=name, items=items, events=events)


@dataclass(frozen=True, kw_only=True)
class World:
    """A running federation; `endpoint` is where the rankings of the first merchant will be served."""

    kits: Kits
    started: Processes
    endpoint: str

    @property
    def coordinator(self) -> CoordinatorKit:
        """The coordinator's kit."""
        kit = open_kit(self.kits.coordinator)
        assert isinstance(kit, CoordinatorKit)
        return kit

    def merchant(self, name: str) -> MerchantKit:
        """A merchant's kit."""
        kit = open_kit(self.kits.merchant(name))
        assert isinstance(kit, MerchantKit)
        return kit

    def released(self) -> list[dict[str, Any]]:
        """What each round of the newest finished run released, in order."""
        run = finished_runs(self.coordinator.data / "journal")[-1]
        return [load_file(file) for file in sorted(run.glob("*.safetensors"))]

    @contextmanager
    def serving(self, merchant: str) -> Iterator[RankingClient]:
        """Serve a merchant's rankings by the words of its kit's unit; give a client with its storefront's pair."""
        self.started.begin("serving", *self._serve_words(merchant))
        self.started.ready("serving")
        callers = self.kits.callers(merchant)
        pair = ClientTls(
            authority=(callers / "ca.pem").read_bytes(),
            certificate=(callers / f"{merchant}-storefront.pem").read_bytes(),
            key=(callers / f"{merchant}-storefront.key").read_bytes(),
        )
        try:
            with RankingClient(self.endpoint, tls=pair, timeout=30.0) as client:
                yield client
        finally:
            self.started.stop("serving")

    def _serve_words(self, merchant: str) -> list[str]:
        unit = (self.kits.serving(merchant) / "systemd" / f"fedrank-serving-{merchant}.service").read_text()
        line = next(line for line in unit.splitlines() if line.startswith("ExecStart="))
        words = shlex.split(line.replace("/srv/fedrank", str(self.kits.root)))[1:]
        words[words.index("--metrics-port") + 1] = "0"
        return words

    def stored(self, merchant: str) -> bytes:
        """All bytes of a merchant's event store as they lie on the disk."""
        folder = self.merchant(merchant).data / "store"
        return b"".join(file.read_bytes() for file in sorted(folder.glob("events.db*")))

    def events(self, merchant: str) -> int:
        """Number of events in a merchant's store."""
        file = self.merchant(merchant).data / "store" / "events.db"
        with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as store:
            return int(store.execute("SELECT count(*) FROM events").fetchone()[0])


@contextmanager
def federation(
    folder: Path, *, words: Mapping[str, Any], merchants: tuple[str, ...] = MERCHANTS
) -> Iterator[World]:
    """Provision a federation, load every merchant's events, start all processes; end them with the block."""
    endpoint = f"{LOOPBACK}:{free_port()}"
    file = described(
        folder,
        [shop(name) for name in merchants],
        coordinator=f"{LOOPBACK}:{free_port()}",
        words={"epsilon": 8.0, "delta": 1e-4, "rounds": 3, "minimum_cohort": 2, **words},
        settings={"dim": 8, "seed": 7, "timeout": 120.0},
        serving={merchants[0]: endpoint},
    )
    kits = Kits(root=folder / "kits")
    fedrank("provision", str(file), "--out", str(kits.root))
    for name in merchants:
        events = str(events_file(folder, name))
        fedrank("merchant", "load", str(kits.merchant(name)), "--data", events, "--consent", "checkout")
    with processes(folder / "logs") as started:
        start(started, kits, merchants)
        yield World(kits=kits, started=started, endpoint=endpoint)


def alive(pids: tuple[int, ...]) -> list[str]:
    """What those of these processes run that are still there."""
    found = []
    for pid in pids:
        with suppress(OSError):
            found.append(Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " "))
    return [words for words in found if "fedrank" in words]


def bought(event_id: str) -> Interaction:
    """What a storefront tells of a purchase long after all that was loaded."""
    return Interaction(
        event_id=event_id,
        shopper=SHOPPER,
        item_id=f"{FIRST}-03",
        timestamp=START + 100 * DAY,
        kind="purchase",
    )


def leaving(world: World, merchants: tuple[str, ...]) -> dict[str, float]:
    """Wait until no node is connected, as the SuperLink knows it; return when each left (Unix seconds)."""
    left: dict[str, float] = {}
    while len(left) < len(merchants):
        with SuperLink.open(world.coordinator.data) as superlink:
            there = {node.merchant for node in superlink.nodes() if node.online}
        for merchant in merchants:
            if merchant not in there:
                left.setdefault(merchant, time.time())
        time.sleep(0.2)
    return left


def signing_request(kit: MerchantKit) -> bytes:
    """A request for another certificate of the key that a node has."""
    key = load_pem_private_key(kit.key.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    uri = x509.UniformResourceIdentifier(node_uri(kit.federation.domain, kit.merchant))
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, kit.merchant)])
    builder = x509.CertificateSigningRequestBuilder(subject_name=subject)
    named = builder.add_extension(x509.SubjectAlternativeName([uri]), critical=False)
    return named.sign(key, SHA256()).public_bytes(Encoding.PEM)
