"""`fedrank db`: what it prints and returns, in words and as JSON, and that damage has a name and an exit code."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from client.consent import Purpose
from client.errors import StoreUnavailable
from client.events import Event
from client.store import EventStore
from client.store_consent import Consents
from fedrank.exits import DATA, UNREACHABLE, USAGE
from privacy.database import migrate, open_engine, reading, writing
from privacy.keyring import Keyring
from privacy.ledger import Ledger
from privacy.ledger_records import Charge
from privacy.schema import accounts, charges, consents, events

Run = Callable[..., subprocess.CompletedProcess[str]]
SHOPPERS = 5


def answer(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The one JSON object that a command printed."""
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """The folder of a keyring."""
    return tmp_path / "keys"


@pytest.fixture
def shoppers(database_url: str, keys: Path) -> list[str]:
    """The pseudonyms of a store with five shoppers, of a merchant and a ledger in the same database."""
    with closing(Keyring.open(keys)) as keyring, EventStore.open(database_url, keyring, "shop") as store:
        names = sorted(keyring.holder("shop").pseudonymiser.of(f"shopper-{n}") for n in range(SHOPPERS))
        store.append(Event(shopper=name, item_id="i1", kind="view", timestamp=1) for name in names)
        Consents(store.access).record(names, [Purpose.TRAINING], granted=True, origin="a test")
        with closing(Ledger.open(database_url, keyring)) as ledger:
            ledger.reserve(CHARGE, names, 4.0)
    return names


CHARGE = Charge(
    release_id="r1",
    holder="shop",
    stage="gradient",
    round=1,
    noise_multiplier=2.0,
    clipping_norm=1.5,
    mu2=0.25,
)


def spoil(url: str, statement: Any) -> None:
    """Change rows behind fedrank's back."""
    engine = open_engine(url)
    with writing(engine) as connection:
        assert connection.execute(statement).rowcount == 1
    engine.dispose()


def test_a_backup_moves_into_a_database_of_the_other_kind_and_opens_there(
    fedrank: Run,
    shoppers: list[str],
    database_url: str,
    keys: Path,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    """Backup, restore, check with keys: every sealed row opens in its new place, and the ledger's chain holds."""
    file = str(tmp_path / "backup.db")
    to_sqlite = database_url.startswith("postgresql")
    other = str(tmp_path / "moved.db") if to_sqlite else request.getfixturevalue("postgres_database")
    done = fedrank("db", "backup", database_url, file)
    assert (done.returncode, done.stderr) == (0, "")
    assert "It holds no keys" in done.stdout and "fedrank keys rotate" in done.stdout
    assert fedrank("db", "restore", file, other).returncode == 0
    done = fedrank("db", "check", other, "--keys", str(keys))
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "No damage found.")
    with closing(Keyring.open(keys)) as keyring, EventStore.open(other, keyring, "shop") as store:
        assert store.shoppers() == shoppers
        assert store.history(shoppers[0])[0].item_id == "i1"


def test_json_says_the_same(
    fedrank: Run, shoppers: list[str], database_url: str, keys: Path, tmp_path: Path
) -> None:
    """One object each, with what a program wants to know."""
    file = str(tmp_path / "backup.db")
    copied = answer(fedrank("db", "backup", database_url, file, "--json"))
    assert {"source", "target", "taken_at", "revision", "rows"} == set(copied)
    assert (copied["target"], copied["revision"], copied["rows"]["events"]) == (file, "0002", SHOPPERS)
    restored = answer(fedrank("db", "restore", file, str(tmp_path / "new.db"), "--json"))
    assert (restored["source"], restored["rows"]) == (file, copied["rows"])
    health = answer(fedrank("db", "check", database_url, "--keys", str(keys), "--json"))
    assert (health["damage"], health["sealed_rows_opened"]) == ([], True)
    assert health["rows"]["shoppers"] == SHOPPERS
    moved = answer(fedrank("db", "migrate", str(tmp_path / "new.db"), "--to", "0001", "--discard", "--json"))
    assert (moved["before"], moved["revision"]) == ("0002", "0001")


def test_a_check_names_every_damaged_row_and_the_ledger(
    fedrank: Run, shoppers: list[str], database_url: str, keys: Path
) -> None:
    """A changed event, a changed consent and a changed account; without keys only the structure is looked at."""
    of_first = events.c.shopper == shoppers[0]
    spoil(database_url, update(events).where(of_first).values(sealed=bytes(200)))
    spoil(database_url, update(consents).where(consents.c.shopper == shoppers[1]).values(sealed=bytes(200)))
    spoil(database_url, update(accounts).where(accounts.c.subject == shoppers[2]).values(spent_mu2=0.0))
    done = fedrank("db", "check", database_url)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (
        0,
        "No damage found; sealed rows were not opened (--keys).",
    )
    done = fedrank("db", "check", database_url, "--keys", str(keys))
    damaged = [line for line in done.stdout.splitlines() if line.startswith("damaged: ")]
    assert done.returncode == DATA
    assert damaged[:2] == [
        f"damaged: holder shop: events/{shoppers[0]}/0",
        f"damaged: holder shop: consents/{shoppers[1]}",
    ]
    assert len(damaged) == 3 and "the accounts of holder 'shop'" in damaged[2]
    again = fedrank("db", "check", database_url, "--keys", str(keys), "--json")
    assert (again.returncode, [f"damaged: {line}" for line in answer(again)["damage"]]) == (DATA, damaged)


def test_a_check_follows_the_ledgers_chain(
    fedrank: Run, shoppers: list[str], database_url: str, keys: Path
) -> None:
    """A charge that was made cheaper does not pass."""
    assert shoppers
    spoil(database_url, update(charges).values(mu2=0.125))
    done = fedrank("db", "check", database_url, "--keys", str(keys))
    assert done.returncode == DATA
    assert "damaged: the ledger" in done.stdout


def test_a_check_with_other_keys_says_so(
    fedrank: Run, shoppers: list[str], database_url: str, tmp_path: Path
) -> None:
    """Keys that know no such holder, and keys of a holder of the same name."""
    assert shoppers
    Keyring.open(tmp_path / "other").close()
    done = fedrank("db", "check", database_url, "--keys", str(tmp_path / "other"))
    assert (done.returncode, "holder shop: the keyring has no keys" in done.stdout) == (DATA, True)
    with closing(Keyring.open(tmp_path / "other")) as keyring:
        keyring.holder("shop")
    done = fedrank("db", "check", database_url, "--keys", str(tmp_path / "other"))
    assert (done.returncode, "were stored with other keys" in done.stdout) == (DATA, True)


def test_a_file_without_structure_is_not_read_row_by_row(fedrank: Run, tmp_path: Path, keys: Path) -> None:
    """A page overwritten: named as damage, exit code 3, no stack trace."""
    file = tmp_path / "store.db"
    with closing(Keyring.open(keys)) as keyring, EventStore.open(file, keyring, "shop") as store:
        name = keyring.holder("shop").pseudonymiser.of("x")
        store.append(Event(shopper=name, item_id="i", kind="view", timestamp=n) for n in range(5000))
    engine = open_engine(file)
    with reading(engine) as connection:
        statement = "SELECT rootpage FROM sqlite_master WHERE name = 'events'"
        root = connection.exec_driver_sql(statement).scalar_one()
    engine.dispose()
    with file.open("r+b") as damaged:
        damaged.seek((root - 1) * 4096)
        damaged.write(b"\xff" * 4096)
    done = fedrank("db", "check", str(file), "--keys", str(keys))
    assert (done.returncode, done.stderr) == (DATA, "")
    assert "damaged: table events cannot be read to its end" in done.stdout


def test_migrate_tells_what_it_did_and_refuses_to_lose_rows(
    fedrank: Run, shoppers: list[str], database_url: str
) -> None:
    """Down without permission is one line; the way of a database is told in revisions."""
    assert shoppers
    done = fedrank("db", "migrate", database_url)
    assert (done.returncode, done.stdout.strip().endswith("is at revision 0002 already.")) == (0, True)
    done = fedrank("db", "migrate", database_url, "--to", "0001")
    assert (done.returncode, done.stderr.count("\n")) == (UNREACHABLE, 1)
    assert f"{SHOPPERS} of consents" in done.stderr and "--discard" in done.stderr
    done = fedrank("db", "migrate", database_url, "--to", "0001", "--discard")
    assert "went from revision 0002 to 0001." in done.stdout
    assert "run `fedrank db migrate`" in fedrank("db", "check", database_url).stdout
    assert "went from revision 0001 to 0002." in fedrank("db", "migrate", database_url).stdout


def test_an_older_database_is_named_with_the_command_that_migrates_it(
    fedrank: Run, database_url: str, keys: Path
) -> None:
    """By the check, and by whatever would use the database."""
    migrate(open_engine(database_url), "0001")
    done = fedrank("db", "check", database_url)
    assert (done.returncode, "newest revision is 0002" in done.stdout) == (0, True)
    with closing(Keyring.open(keys)) as keyring, pytest.raises(StoreUnavailable, match="fedrank db migrate"):
        EventStore.open(database_url, keyring, "shop")


@pytest.mark.parametrize("command", [("check",), ("migrate",), ("backup",)])
@pytest.mark.parametrize(
    ("place", "problem"),
    [
        ("mysql://host/name", "cannot be used; give an SQLite file or a PostgreSQL database"),
        ("postgresql://localhost:1/nothing", "does not answer: check host, port"),
        ("postgresql://host:port/name", "malformed"),
        ("none/none.db", "there is no database file"),
        ("text.db", "is not an SQLite database: check the path"),
    ],
)
def test_a_wrong_place_is_one_clear_line(
    fedrank: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: tuple[str],
    place: str,
    problem: str,
) -> None:
    """No stack trace, exit code 5, and nothing is made."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.db").write_text("text, " * 500)
    more = ["backup.db"] if command == ("backup",) else []
    done = fedrank("db", *command, place, *more)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (UNREACHABLE, "", 1)
    assert done.stderr.startswith("fedrank: ") and problem in done.stderr
    assert [one.name for one in tmp_path.iterdir()] == ["text.db"]


def test_words_that_are_missing_are_wrong_usage(fedrank: Run) -> None:
    """A command without its place, and one without its file."""
    assert fedrank("db", "check").returncode == USAGE
    assert fedrank("db", "backup", "x.db").returncode == USAGE
