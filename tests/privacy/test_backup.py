"""Backups: one consistent, private file without keys, and the way back into a database of either kind."""

import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from database_child import run_child, start_child, was_killed
from database_rows import KEYRING_TABLES, NOW, content, fill, row_of
from sqlalchemy import Engine

from evaluation.bench import postgres
from privacy.backup import backup, restore
from privacy.backup_check import check
from privacy.database import migrate, open_engine, prepare, writing
from privacy.errors import DatabaseDamaged, DatabaseError, DatabaseMissing, NewerSchema, NotABackup, NotEmpty
from privacy.schema import REVISION_TABLE, accounts, data_keys, events, meta

ROWS = 1200
"""More than two pages of a copy."""

PAIRS = """
import sys
from privacy.database import open_engine, writing
from privacy.schema import accounts, events
from sqlalchemy import update
url, name = sys.argv[1:]
engine, number = open_engine(url), 0
print("ready", flush=True)
while True:
    number += 1
    with writing(engine) as connection:  # the sum of both accounts is zero at every commit
        for subject, more in (("plus", 1), ("minus", -1)):
            connection.execute(
                update(accounts)
                .where(accounts.c.holder == name, accounts.c.subject == subject)
                .values(spent_mu2=accounts.c.spent_mu2 + more)
            )
        connection.execute(events.insert().values(holder=name, shopper="s", number=number, sealed=bytes(500)))
"""
RESTORE = """
import sys
from pathlib import Path
import privacy.backup
from privacy.database import open_engine
copy = privacy.backup.copy_rows
def copy_and_die(old, new):
    copy(old, new)
    kill_at("now", 1)("now")
privacy.backup.copy_rows = copy_and_die
privacy.backup.restore(Path(sys.argv[1]), open_engine(sys.argv[2]))
"""
BACK_UP = """
import sys
from datetime import UTC, datetime
from pathlib import Path
import privacy.backup
from privacy.database import open_engine
privacy.backup._compare = lambda *words: kill_at("now", 1)("now")
privacy.backup.backup(open_engine(sys.argv[1]), Path(sys.argv[2]), now=datetime.now(UTC))
"""


@pytest.fixture
def engine(database_url: str) -> Engine:
    """A filled database of each kind."""
    engine = open_engine(database_url)
    prepare(engine)
    fill(engine, ROWS, without=KEYRING_TABLES)
    return engine


@pytest.fixture(params=["sqlite", "postgresql"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """A second database, empty, of each kind."""
    if request.param == "sqlite":
        yield open_engine(tmp_path / "restored.db")
        return
    with postgres.database(request.getfixturevalue("postgres_url")) as url:
        engine = open_engine(url)
        yield engine
        engine.dispose()


def test_every_value_survives_a_backup_and_the_way_back(
    engine: Engine, target: Engine, tmp_path: Path
) -> None:
    """From each kind into each kind: floats to the last bit, bytes, NULL and odd texts."""
    copied = backup(engine, tmp_path / "backup.db", now=NOW)
    before = content(engine)
    assert copied.rows == {name: len(rows) for name, rows in before.items()}
    assert restore(tmp_path / "backup.db", target).rows == copied.rows
    assert content(target) == before
    assert check(target).damage == ()


def test_a_backup_is_one_private_file_that_says_what_it_is(engine: Engine, tmp_path: Path) -> None:
    """Mode 0600, no log beside it, its source without options, its time and its revision."""
    file = tmp_path / "copies" / "backup.db"
    file.parent.mkdir()
    backup(engine, file, now=NOW)
    assert [one.name for one in file.parent.iterdir()] == ["backup.db"]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with sqlite3.connect(file) as plain:
        facts = dict(plain.execute("SELECT name, value FROM meta WHERE part = 'backup'"))
        assert plain.execute(f"SELECT version_num FROM {REVISION_TABLE}").fetchall() == [("0002",)]
        assert plain.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    assert facts["taken_at"] == NOW.isoformat()
    assert facts["source"].startswith(engine.name) and "?" not in facts["source"]


def test_an_older_database_is_backed_up_and_restored_in_its_revision(
    database_url: str, target: Engine, tmp_path: Path
) -> None:
    """A backup comes before a migration, so it must not need one."""
    engine = open_engine(database_url)
    migrate(engine, "0001")
    fill(engine, 10, without=KEYRING_TABLES)
    assert backup(engine, tmp_path / "old.db", now=NOW).revision == "0001"
    assert restore(tmp_path / "old.db", target).revision == "0001"
    assert content(target) == content(engine)
    assert migrate(target) == "0001"


def test_a_restored_database_can_be_backed_up_and_restored_again(engine: Engine, tmp_path: Path) -> None:
    """The facts of one backup do not get into the next, nor among the rows."""
    first, second = tmp_path / "first.db", tmp_path / "second.db"
    backup(engine, first, now=NOW)
    again = open_engine(tmp_path / "again.db")
    restore(first, again)
    copied = backup(again, second, now=NOW)
    assert copied.source.endswith("again.db")
    assert restore(second, open_engine(tmp_path / "third.db")).rows == copied.rows


def test_a_backup_taken_while_others_write_is_one_state(
    engine: Engine, database_url: str, tmp_path: Path
) -> None:
    """Two writers keep sums at zero in every commit: a copy that mixes states would show a sum that is not."""
    with writing(engine) as connection:
        rows = [
            {"holder": name, "subject": subject, "spent_mu2": 0.0}
            for name in ("one", "two")
            for subject in ("plus", "minus")
        ]
        connection.execute(accounts.insert(), rows)
    writers = [start_child(PAIRS, database_url, name) for name in ("one", "two")]
    try:
        for writer in writers:
            assert writer.stdout is not None and writer.stdout.readline() == "ready\n"
        reached = [sums(engine, tmp_path / f"backup-{turn}.db") for turn in range(4)]
    finally:
        for writer in writers:
            writer.kill()
            writer.communicate()
    assert reached == sorted(reached) and reached[0] < reached[-1]


def sums(engine: Engine, file: Path) -> int:
    """Take a backup, check that it is one state, and return how far the writers had come."""
    backup(engine, file, now=NOW)
    with sqlite3.connect(file) as plain:
        for name in ("one", "two"):
            own = "SELECT sum(spent_mu2), max(spent_mu2) FROM accounts WHERE holder = ?"
            total, reached = plain.execute(own, (name,)).fetchone()
            rows, highest = plain.execute(
                "SELECT count(*), coalesce(max(number), 0) FROM events WHERE holder = ?", (name,)
            ).fetchone()
            assert (total, rows, highest) == (0, reached, reached)
        return int(plain.execute("SELECT count(*) FROM events").fetchone()[0])


def test_a_killed_backup_leaves_no_backup(database_url: str, engine: Engine, tmp_path: Path) -> None:
    """kill -9 when all rows are written: the name is not there, and the next attempt succeeds."""
    assert was_killed(run_child(BACK_UP, database_url, str(tmp_path / "backup.db")))
    assert not (tmp_path / "backup.db").exists()
    backup(engine, tmp_path / "backup.db", now=NOW)


def test_a_killed_restore_leaves_an_empty_database(database_url: str, tmp_path: Path) -> None:
    """kill -9 when all rows are copied: none of them is there, and the next attempt succeeds."""
    source = open_engine(tmp_path / "source.db")
    prepare(source)
    fill(source, ROWS, without=KEYRING_TABLES)
    backup(source, tmp_path / "backup.db", now=NOW)
    assert was_killed(run_child(RESTORE, str(tmp_path / "backup.db"), database_url))
    target = open_engine(database_url)
    assert content(target) == {}
    restore(tmp_path / "backup.db", target)
    assert content(target) == content(source)


def test_a_restore_that_fails_half_way_leaves_nothing(engine: Engine, target: Engine, tmp_path: Path) -> None:
    """A damaged backup is refused after rows were copied, and none of them stays."""
    file = tmp_path / "backup.db"
    backup(engine, file, now=NOW)
    with sqlite3.connect(file) as plain:
        (root,) = plain.execute("SELECT rootpage FROM sqlite_master WHERE name = 'charges'").fetchone()
        (page,) = plain.execute("PRAGMA page_size").fetchone()
    with file.open("r+b") as damaged:
        damaged.seek((root - 1) * page)
        damaged.write(b"\xff" * page)
    with pytest.raises(DatabaseDamaged, match=r"backup\.db is damaged"):
        restore(file, target)
    assert content(target) == {}


def test_rows_are_never_mixed_with_others(engine: Engine, tmp_path: Path) -> None:
    """A database with rows takes no backup, not even its own; one with tables and no rows does."""
    backup(engine, tmp_path / "backup.db", now=NOW)
    before = content(engine)
    with pytest.raises(NotEmpty, match=f"{ROWS} of events.*name a new database"):
        restore(tmp_path / "backup.db", engine)
    assert content(engine) == before
    empty = open_engine(tmp_path / "empty.db")
    prepare(empty)
    restore(tmp_path / "backup.db", empty)
    assert content(empty) == before


def test_a_file_is_never_replaced(engine: Engine, tmp_path: Path) -> None:
    """Whatever it is."""
    (tmp_path / "backup.db").write_text("precious")
    with pytest.raises(DatabaseError, match="is there already; a backup never replaces a file"):
        backup(engine, tmp_path / "backup.db", now=NOW)
    assert (tmp_path / "backup.db").read_text() == "precious"


@pytest.mark.parametrize("table", sorted(KEYRING_TABLES))
def test_keys_are_never_backed_up(engine: Engine, tmp_path: Path, table: str) -> None:
    """A database with rows of the keyring is refused, whole."""
    with writing(engine) as connection:
        connection.execute(
            data_keys.metadata.tables[table].insert(), row_of(data_keys.metadata.tables[table], 1)
        )
    with pytest.raises(
        DatabaseError, match="is a keyring's database, and a copy of keys would undo erasures"
    ):
        backup(engine, tmp_path / "backup.db", now=NOW)
    assert not (tmp_path / "backup.db").exists()


def test_only_a_backup_is_restored(tmp_path: Path) -> None:
    """Not a live database, no other file, nothing that is not there; each refusal says what it is."""
    live, target = open_engine(tmp_path / "live.db"), open_engine(tmp_path / "target.db")
    prepare(live)
    with writing(live) as connection:
        connection.execute(meta.insert().values(part="ledger", name="id", value="x"))
    live.dispose()
    (tmp_path / "notes.txt").write_text("notes, " * 200)
    (tmp_path / "empty").touch()
    for name, kind in (
        ("live.db", NotABackup),
        ("empty", NotABackup),
        ("none.db", DatabaseMissing),
        ("notes.txt", DatabaseError),
    ):
        with pytest.raises(kind, match=name):
            restore(tmp_path / name, target)
    assert content(target) == {}


def test_a_backup_of_a_newer_version_is_refused(engine: Engine, tmp_path: Path) -> None:
    """What this version does not know it does not copy."""
    file = tmp_path / "backup.db"
    backup(engine, file, now=NOW)
    with sqlite3.connect(file) as plain:
        plain.execute(f"UPDATE {REVISION_TABLE} SET version_num = '0099'")
    with pytest.raises(NewerSchema, match="0099"):
        restore(file, open_engine(tmp_path / "target.db"))


def test_an_empty_database_has_nothing_to_back_up(database_url: str, tmp_path: Path) -> None:
    """An empty backup would only look like safety."""
    with pytest.raises(DatabaseMissing, match="nothing to back up"):
        backup(open_engine(database_url), tmp_path / "backup.db", now=NOW)
    assert not (tmp_path / "backup.db").exists()


def test_a_folder_that_is_not_there_is_named(engine: Engine, tmp_path: Path) -> None:
    """The target's folder is never made."""
    with pytest.raises(DatabaseError, match=r"backup .*nowhere.* cannot be used: No such file"):
        backup(engine, tmp_path / "nowhere" / "backup.db", now=NOW)


def test_what_was_deleted_is_in_no_backup(tmp_path: Path) -> None:
    """SQLite copies pages whole: those that held deleted rows hold zeros."""
    engine, canary = open_engine(tmp_path / "store.db"), b"canary-of-an-erased-row-" * 20
    prepare(engine)
    with writing(engine) as connection:
        rows = [{"holder": "h", "shopper": "s", "number": n, "sealed": canary} for n in range(200)]
        connection.execute(events.insert(), rows)
    with writing(engine) as connection:
        connection.execute(events.delete())
    backup(engine, tmp_path / "backup.db", now=NOW)
    assert canary[:24] not in (tmp_path / "backup.db").read_bytes()
