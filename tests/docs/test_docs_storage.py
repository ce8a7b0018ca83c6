"""docs/storage.md from top to bottom: its commands run, in the order in which they stand, on a small run folder."""

from __future__ import annotations

import json
import shlex
from contextlib import closing
from pathlib import Path

import pytest
from test_docs_examples import ROOT, commands
from typer.testing import CliRunner

from client.events import Event
from client.store import EventStore
from fedrank.cli import app
from privacy.keyring import Keyring
from privacy.ledger import Ledger
from privacy.ledger_records import Charge

DOCUMENT = ROOT / "docs" / "storage.md"
SHOWN_URL = "postgresql://fedrank@db.example/fedrank"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with runs/demo as a run leaves it: one shopper's event, one charge, the keys."""
    run = tmp_path / "runs" / "demo"
    (run / "store").mkdir(parents=True)
    charge = Charge(
        release_id="r", holder="shop", stage="gradient", round=1, noise_multiplier=1, clipping_norm=1, mu2=1
    )
    with closing(Keyring.open(run / "keys")) as keyring:
        shopper = keyring.holder("shop").pseudonymiser.of("shopper")
        with EventStore.open(run / "store" / "events.db", keyring, "shop") as store:
            store.append([Event(shopper=shopper, item_id="i", kind="view", timestamp=1)])
        with closing(Ledger.open(run / "ledger.db", keyring)) as ledger:
            ledger.reserve(charge, [shopper], 4.0)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_commands_of_the_storage_page_run_in_their_order(folder: Path, postgres_database: str) -> None:
    """Each ends without an error, with the page's PostgreSQL replaced by one that is there; nothing is lost."""
    lines = [line for line in commands(DOCUMENT) if line.startswith("fedrank db ")]
    assert {line.split()[2] for line in lines} == {"migrate", "backup", "restore", "check"}
    output = ""
    for line in lines:
        words = shlex.split(line.replace(SHOWN_URL, postgres_database))[1:]
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, f"{line}: {done.output}"
        output += done.stdout
    assert "No damage found." in output
    done = CliRunner().invoke(
        app, ["db", "check", "events-restored.db", "--keys", "runs/demo/keys", "--json"]
    )
    health = json.loads(done.stdout)
    assert (health["damage"], health["rows"]["events"], health["sealed_rows_opened"]) == ([], 1, True)


def test_the_page_says_what_a_backup_says_of_itself(folder: Path) -> None:
    """A database where the page has one, refused where the page says so."""
    done = CliRunner().invoke(app, ["db", "backup", "runs/demo/keys/keys.db", "keys-backup.db"])
    assert done.exit_code != 0 and "would undo erasures" in str(done.exception)
    assert "a copy of it would undo\n  erasures" in DOCUMENT.read_text(encoding="utf-8")
    assert not (folder / "keys-backup.db").exists()
