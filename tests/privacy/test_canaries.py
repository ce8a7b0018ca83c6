"""A shop with canaries is taken through every command; afterwards none is found where nobody may read it."""

from __future__ import annotations

import json
import logging
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from canary_scan import Hit, scan
from canary_world import (
    EVENT,
    ORIGIN,
    PRIVATE,
    PUBLIC,
    QUERY,
    SHOPPER,
    START,
    TITLE,
    Running,
    Shop,
    shopper_id,
)

from client.ranking import RankingClient, RankingError
from client.ranking_words import HistoryEvent, Impression, Interaction, Question, Surface

SMALL = (
    "--rounds",
    "1",
    "--dim",
    "4",
    "--curve",
    "",
    "--minimum-cohort",
    "2",
    "--delta",
    "1e-3",
    "--epsilon",
    "4",
)
pytestmark = pytest.mark.slow
ANNA, NEW = shopper_id(7), f"{SHOPPER}.new+käufer@shop.example"


@dataclass(frozen=True, kw_only=True)
class Journey:
    """The shop after everything, and the hits that were seen on the way, when files were there that are not now."""

    shop: Running
    seen: list[Hit]

    def look(self) -> None:
        """Scan what is there now."""
        self.seen.extend(scan([self.shop.written], PRIVATE | PUBLIC))


@pytest.fixture(scope="module")
def journey(tmp_path_factory: pytest.TempPathFactory) -> Journey:
    """Every path of the product, one after another, with a scan after each."""
    closed = Shop(root=tmp_path_factory.mktemp("canaries"))
    with closed.opened() as shop, logging_to(shop.outputs / "client.log"):
        made = Journey(shop=shop, seen=[])
        for part in (learn, back_up, serve, kill, decide, rotate, restore, erase, fail):
            part(shop)
            made.look()
    return made


@contextmanager
def logging_to(file: Path) -> Iterator[None]:
    """Write every record of this process, at every level, into a file."""
    handler, root = logging.FileHandler(file), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(1)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


def learn(shop: Running) -> None:
    """Check and import the data, train, release."""
    shop.run("check", "data", "check", str(shop.data))
    shop.run(
        "simulate", "simulate", "--data", str(shop.data), "--out", str(shop.run_folder), "--json", *SMALL,
        "--participants", "both",
    )  # fmt: skip
    shop.run("budget", "privacy", "budget", "--run", str(shop.run_folder))


def back_up(shop: Running) -> None:
    """Copies of the databases and of the keyring."""
    for name in ("store/events.db", "ledger.db"):
        shop.run(
            f"backup-{Path(name).stem}",
            "db",
            "backup",
            str(shop.run_folder / name),
            f"before-{Path(name).name}",
        )
    shop.run("backup-keys", "keys", "backup", "before-keys", "--run", str(shop.run_folder))


def serve(shop: Running) -> None:
    """Ask and tell, rightly and wrongly, by every kind of shopper and on every surface."""
    with shop.serving("serve", "--show-scores") as address:
        ask = ("rank", "--address", address, "--timeout", "30", "--shopper", ANNA)
        shop.run("rank", *ask, "--json", tells=True)
        shop.run("search", *ask, "--surface", "search", "--query", f"tea {QUERY}", tells=True)
        with RankingClient(address, timeout=30) as client:
            record(client, ANNA, NEW)
            for surface in Surface:
                client.rank(Question(surface=surface, k=5, shopper=ANNA, query=QUERY, item_id="i03"))
            client.rank(Question(surface=Surface.HOME, history=[HistoryEvent(item_id="i03", kind="view")]))
            refuse(client, address)


def record(client: RankingClient, *shoppers: str) -> None:
    """Tell what was shown and done, with ids that are canaries; the same again changes nothing."""
    events: list[Interaction | Impression] = []
    for number, shopper in enumerate(shoppers):
        fields: dict[str, Any] = {"shopper": shopper, "item_id": "i03", "timestamp": START}
        events += [
            Interaction(event_id=f"{EVENT}-done-{number}", kind="view", **fields),
            Impression(event_id=f"{EVENT}-shown-{number}", surface=Surface.HOME, rank=1, **fields),
        ]
    assert client.record(events).unknown_items == 0
    assert client.record(events).duplicates == len(events)


def refuse(client: RankingClient, address: str) -> None:
    """Questions and events that the endpoint must refuse, each with canaries in it."""
    wrong = [
        Question(surface=Surface.HOME, k=5, shopper=ANNA * 100),
        Question(surface=Surface.SEARCH, k=5, shopper=ANNA, query=QUERY * 1000),
        Question(surface=Surface.DETAIL, k=5, shopper=ANNA, item_id=EVENT),
    ]
    for question in wrong:
        with pytest.raises(RankingError):
            client.rank(question)
    with pytest.raises(RankingError):
        client.record(
            [Interaction(event_id=EVENT, shopper=ANNA * 50, item_id="i03", timestamp=START, kind="view")]
        )
    with grpc.insecure_channel(address) as channel, pytest.raises(grpc.RpcError):
        channel.unary_unary("/fedrank.ranking.v1.RankingService/Rank", None, None)(ANNA.encode(), timeout=10)


def kill(shop: Running) -> None:
    """An endpoint that dies right after it has acknowledged events leaves the log of its database behind."""
    with shop.serving("killed", end=signal.SIGKILL) as address, RankingClient(address, timeout=30) as client:
        record(client, shopper_id(8), shopper_id(9))
    assert (shop.run_folder / "store" / "events.db-wal").stat().st_size > 0


def decide(shop: Running) -> None:
    """Consent, and the person's own copy."""
    run = ("--run", str(shop.run_folder))
    purposes = ("--purpose", "training", "--purpose", "profile", "--origin", f"page {ORIGIN}")
    shop.run("withdraw", "consent", "withdraw", ANNA, *run, *purposes)
    shop.run("grant", "consent", "grant", ANNA, *run, *purposes, "--holder", "devices")
    shop.run("show", "consent", "show", ANNA, *run, tells=True)
    shop.run("export", "subject", "export", ANNA, *run, tells=True)
    shop.run("export-new", "subject", "export", NEW, *run, "--out", str(shop.told / "new.json"))


def rotate(shop: Running) -> None:
    """All layers of keys, while an endpoint answers."""
    with shop.serving("rotating") as address, RankingClient(address, timeout=30) as client:
        shop.run("rotate", "keys", "rotate", "--run", str(shop.run_folder), "--online")
        record(client, shopper_id(10))
        client.rank(Question(surface=Surface.HOME, k=5, shopper=ANNA))


def restore(shop: Running) -> None:
    """A copy of the database as it is now is put elsewhere, and looked through."""
    store = str(shop.run_folder / "store" / "events.db")
    shop.run("backup", "db", "backup", store, "copy.db")
    shop.run("restore", "db", "restore", "copy.db", "restored.db")
    shop.run("looked-through", "db", "check", "restored.db", "--keys", str(shop.run_folder / "keys"))


def erase(shop: Running) -> None:
    """Erasure with a receipt, twice, and what is too old."""
    run = ("--run", str(shop.run_folder))
    for name, shopper in (("receipt", ANNA), ("again", ANNA), ("stranger", shopper_id(99))):
        shop.run(name, "subject", "erase", shopper, *run, "--receipt", f"{name}.json", "--yes")
    shop.run("verify", "subject", "verify", "receipt.json", *run)
    shop.run("export-erased", "subject", "export", ANNA, *run, tells=True)
    shop.run("retention", "retention", *run, "--older-than", "52w")


def fail(shop: Running) -> None:
    """Commands that cannot do what they are asked, about a shopper, over a damaged database, with lost keys."""
    broken = shop.written / "broken"
    shutil.copytree(shop.run_folder, broken)
    store = broken / "store" / "events.db"
    store.write_bytes(store.read_bytes()[:4096] + bytes(range(256)) * 100)
    run = ("--run", str(broken))
    shop.run("damaged-export", "subject", "export", ANNA, *run, expect=None)
    shop.run("damaged-erase", "subject", "erase", ANNA, *run, "--receipt", "none.json", "--yes", expect=None)
    shop.run("damaged-consent", "consent", "grant", ANNA, *run, "--purpose", "training", expect=None)
    shop.run("damaged-check", "db", "check", str(store), expect=None)
    shop.run("wrong-url", "subject", "export", ANNA, "--store", "mysql://x", *run, expect=None)
    for file in (broken / "keys").glob("holder-*"):
        file.write_bytes(b"{}")
    shop.run("lost-keys", "subject", "export", ANNA, *run, expect=None)
    shop.run(
        "nobody-listens", "rank", "--shopper", ANNA, "--address", "127.0.0.1:9", "--timeout", "1", expect=None
    )


def test_no_shopper_search_event_id_or_origin_is_in_anything_that_was_written(journey: Journey) -> None:
    """Databases and their logs, keys, registry, checkpoints, report, backups, receipts, outputs, temporary files."""
    assert [hit for hit in journey.seen if hit.canary in PRIVATE] == []


def test_item_titles_are_in_the_public_catalogue_and_what_is_prepared_of_it_alone(journey: Journey) -> None:
    """The run folder's catalogue is public, as is what an endpoint prepares of it; their copies in the broken run
    folder are the test's own.
    """
    where = {
        hit.file.relative_to(journey.shop.written).as_posix() for hit in journey.seen if hit.canary in PUBLIC
    }
    prepared = {file for file in where if file.split("/")[1] == "serving"}
    assert where - prepared == {"run/catalogue.parquet", "broken/catalogue.parquet"}


def test_the_person_is_told_what_is_held_and_nothing_after_the_erasure(journey: Journey) -> None:
    """The copy names events and decisions, so the canaries did go in; the receipt does not name the person."""
    told = journey.shop.told
    before, after = (json.loads((told / f"{name}.out").read_text()) for name in ("export", "export-erased"))
    assert any(
        event.get("event_id", "").startswith(EVENT) for one in before["holders"] for event in one["events"]
    )
    assert ORIGIN in (told / "export.out").read_text() and TITLE in (told / "rank.out").read_text()
    assert sum(len(one["events"]) + len(one["consents"]) for one in after["holders"]) == 0
    receipts = json.loads((journey.shop.written / "receipt.json").read_text())
    assert sum(one["keys_destroyed"] for one in receipts) >= 1


def test_libraries_talked_and_logs_of_databases_had_content(journey: Journey) -> None:
    """Silence would prove nothing: statements of the databases and of the endpoint are in the logs."""
    logs = {path.name: path.read_text(errors="replace") for path in journey.shop.outputs.glob("*.log")}
    assert "INSERT INTO events" in logs["serve.log"] and "sqlalchemy" in logs["receipt.log"]


def test_the_scanner_finds_a_shopper_planted_in_each_single_file_of_the_journey(
    journey: Journey, tmp_path: Path
) -> None:
    """A copy of everything, with the id at the end of every file: every one of them is named."""
    copy = tmp_path / "copy"
    shutil.copytree(journey.shop.written, copy)
    files = [path for path in copy.rglob("*") if path.is_file()]
    for file in files:
        with file.open("ab") as opened:
            opened.write(f"\n{ANNA}\n".encode())
    assert len(files) > 60
    assert {hit.file for hit in scan([copy], PRIVATE)} == set(files)
