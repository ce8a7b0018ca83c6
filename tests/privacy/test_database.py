"""The database under everything: how it is named, how durable it is, who waits for whom, and what its errors say."""

import logging
import os
import sqlite3
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from database_child import is_root, run_child, start_child
from database_rows import KEYRING_TABLES, content, fill
from sqlalchemy import create_engine, func, select

from privacy.backup_check import check
from privacy.database import (
    database_url,
    open_engine,
    open_read_only,
    prepare,
    reading,
    shown,
    snapshot,
    writing,
)
from privacy.database_errors import explained, explained_file
from privacy.errors import DatabaseDamaged, DatabaseError, DatabaseMissing, StorageFull
from privacy.schema import accounts, meta

SECRET = "canary-7f3a"

WRITER = """
import sys
from privacy.database import open_engine, prepare, writing
from privacy.schema import accounts
from sqlalchemy import update
url, turns = sys.argv[1], int(sys.argv[2])
for turn in range(turns):
    engine = open_engine(url)  # opened and closed each time: making and removing the log is where waiting is hard
    prepare(engine)
    with writing(engine) as connection:
        connection.execute(update(accounts).values(spent_mu2=accounts.c.spent_mu2 + 1))
    engine.dispose()
"""

AS_NOBODY = """
import os, sys
place = sys.argv[1]
from privacy.database import open_engine, prepare, reading, writing
from privacy.errors import DatabaseError
from privacy.schema import accounts
os.setgid(65534); os.setuid(65534)
try:
    engine = open_engine(place)
    prepare(engine)
except DatabaseError as error:
    print(error)
"""


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter and read."""
    with tempfile.TemporaryDirectory(prefix="fedrank-open-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.parametrize(
    ("place", "problem"),
    [
        ("://", "malformed"),
        ("postgresql://host:port/name", "malformed"),
        ("mysql://host/name", r"mysql://host/name cannot be used.*SQLite file or a PostgreSQL"),
        ("sqlite://", "must be kept"),
        ("sqlite:///:memory:", "must be kept"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_with_one_that_can(place: str, problem: str) -> None:
    """Malformed, another database system, or a database that forgets."""
    with pytest.raises(DatabaseError, match=problem) as caught:
        database_url(place)
    assert "\n" not in str(caught.value)


def test_no_message_shows_the_password_or_the_options_of_a_url() -> None:
    """Both may be secret."""
    url = database_url(f"postgresql://user:{SECRET}@host/name?sslpassword={SECRET}")
    assert shown(url) == "postgresql://user:***@host/name"


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("postgresql://localhost:1/x", "localhost:1/x does not answer: check host, port"),
        (f"postgresql://u:{SECRET}@localhost:99999/x", "does not answer: check host, port"),
        ("postgresql:///x?host=/nowhere", "does not answer"),
        ("postgresql://no.such.host.invalid/x", "does not answer"),
    ],
)
def test_a_server_that_is_not_there_is_one_clear_line(url: str, problem: str) -> None:
    """Nobody listens, the port is none, the socket's folder is not there."""
    with pytest.raises(DatabaseError, match=problem) as caught:
        prepare(open_engine(url))
    assert SECRET not in str(caught.value) and "\n" not in str(caught.value)


def test_a_database_or_role_that_the_server_does_not_know_is_named(postgres_url: str) -> None:
    """Both with the next step."""
    with pytest.raises(DatabaseError, match=r"/nothing does not exist on its server: .* createdb"):
        prepare(open_engine(postgres_url.replace("/postgres?", "/nothing?")))
    with pytest.raises(DatabaseError, match="does not know its user"):
        prepare(open_engine(postgres_url.replace("fedrank@", "nobody_at_all@")))


def test_a_user_without_rights_is_told_so(postgres_database: str) -> None:
    """PostgreSQL: a role that may log in and may not make tables."""
    with writing(open_engine(postgres_database)) as connection:
        connection.exec_driver_sql("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
        connection.exec_driver_sql("DROP ROLE IF EXISTS visitor")
        connection.exec_driver_sql("CREATE ROLE visitor LOGIN")
    with pytest.raises(DatabaseError, match="does not permit this to its user: grant the right"):
        prepare(open_engine(postgres_database.replace("fedrank@", "visitor@")))


@pytest.mark.skipif(not is_root(), reason="only root can become another user")
@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_a_file_of_another_user_is_refused_with_one_line(open_folder: Path, mode: int) -> None:
    """SQLite: neither readable, or readable and not writable."""
    file = open_folder / "other.db"
    engine = open_engine(file)
    prepare(engine)
    engine.dispose()
    file.chmod(mode)
    done = run_child(AS_NOBODY, str(file))
    assert done.stdout.count("\n") == 1 and str(file) in done.stdout, done.stdout + done.stderr
    assert "permission" in done.stdout.lower()


def test_a_file_that_is_no_database_is_refused_and_stays_as_it_is(tmp_path: Path) -> None:
    """Text in place of a database."""
    file = tmp_path / "notes.txt"
    file.write_text("not a database, " * 100)
    with pytest.raises(DatabaseError, match=r"notes\.txt is not an SQLite database: check the path"):
        prepare(open_engine(file))
    assert file.read_text() == "not a database, " * 100


def test_a_damaged_file_is_called_damaged(tmp_path: Path) -> None:
    """Pages overwritten: the error says what to do, and a check names the table and goes on to the others."""
    engine = open_engine(tmp_path / "store.db")
    prepare(engine)
    fill(engine, 2000)
    with reading(engine) as connection:
        root = connection.exec_driver_sql(
            "SELECT rootpage FROM sqlite_master WHERE name='events'"
        ).scalar_one()
        page = connection.exec_driver_sql("PRAGMA page_size").scalar_one()
    engine.dispose()
    with (tmp_path / "store.db").open("r+b") as file:
        file.seek((root - 1) * page)
        file.write(b"\xff" * page)
    with pytest.raises(DatabaseDamaged, match=r"is damaged: .* `fedrank db check`.*restore a backup"):
        content(engine)
    health = check(engine)
    assert "events" not in health.rows
    assert health.rows["consents"] == 2000
    assert any(line.startswith("table events cannot be read to its end") for line in health.damage)


def test_a_missing_file_is_not_made_where_one_should_be(tmp_path: Path) -> None:
    """Nor is its folder ever."""
    for place, create in ((tmp_path / "none.db", False), (tmp_path / "none" / "none.db", True)):
        with pytest.raises(DatabaseMissing, match=r"there is no database file .*none\.db"):
            open_engine(place, create=create)
    with pytest.raises(DatabaseMissing):
        open_read_only(tmp_path / "none.db")
    assert list(tmp_path.iterdir()) == []


def test_an_error_never_shows_a_stored_value(database_url: str, caplog: pytest.LogCaptureFixture) -> None:
    """A repeated key and a value of the wrong type: neither error nor log at DEBUG quotes the row."""
    caplog.set_level(logging.DEBUG)
    engine = open_engine(database_url)
    prepare(engine)
    row = {"part": SECRET, "name": SECRET, "value": SECRET}
    for bad in ([row, row], [{**row, "value": None}]):
        with pytest.raises(DatabaseError) as caught, writing(engine) as connection:
            connection.execute(meta.insert(), bad)
        assert SECRET not in str(caught.value)
    with pytest.raises(DatabaseError) as caught, writing(engine) as connection:
        connection.exec_driver_sql(
            f"INSERT INTO accounts SELECT '{SECRET}', CAST('{SECRET}' AS integer), json('{SECRET}')"
        )
    assert SECRET not in str(caught.value)
    assert SECRET not in caplog.text


def test_errors_of_the_drivers_themselves_are_translated_too(database_url: str) -> None:
    """Bulk paths go past SQLAlchemy; what they raise is one line as well."""
    engine = open_engine(database_url)
    with pytest.raises(DatabaseError, match="failed"), reading(engine) as connection:
        connection.connection.driver_connection.cursor().execute("SELECT nonsense FROM nowhere")  # type: ignore[union-attr]


@pytest.mark.parametrize("number", ["ENOSPC", "EDQUOT", "EFBIG"])
def test_a_file_that_cannot_grow_is_a_full_storage(number: str) -> None:
    """Whether the disk, the quota or a limit says so."""
    code = getattr(__import__("errno"), number)
    assert isinstance(explained_file(OSError(code, os.strerror(code)), "file x"), StorageFull)
    assert not isinstance(explained_file(PermissionError(13, "Permission denied"), "file x"), StorageFull)


@pytest.mark.parametrize("words", ["could not extend file: No space left on device", "File too large"])
def test_words_of_a_server_without_a_state_are_understood(words: str) -> None:
    """PostgreSQL names some causes only in words."""
    assert isinstance(explained(RuntimeError(words), "x"), StorageFull)


def test_sqlite_is_durable_private_and_forgets_what_was_deleted(tmp_path: Path) -> None:
    """The settings that the promises rest on, on every connection, and mode 0600 on every file."""
    engine = open_engine(tmp_path / "store.db")
    prepare(engine)
    with reading(engine) as one, reading(engine) as other:
        for connection in (one, other):
            values = {
                name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
                for name in ("journal_mode", "synchronous", "secure_delete", "temp_store", "busy_timeout")
            }
            assert values == {
                "journal_mode": "wal",
                "synchronous": 2,
                "secure_delete": 1,
                "temp_store": 2,
                "busy_timeout": 30_000,
            }
        files = sorted(tmp_path.iterdir())
        assert [file.name for file in files] == ["store.db", "store.db-shm", "store.db-wal"]
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_postgresql_commits_wait_for_the_disk(postgres_database: str) -> None:
    """Also where the server's default is another."""
    with writing(open_engine(postgres_database)) as connection:
        name = connection.engine.url.database
        connection.exec_driver_sql(f"ALTER DATABASE {name} SET synchronous_commit TO off")
    with reading(open_engine(postgres_database)) as connection:
        assert connection.exec_driver_sql("SHOW synchronous_commit").scalar_one() == "on"


def test_writers_in_several_processes_wait_for_each_other(database_url: str) -> None:
    """Three that open, add one and close, twenty-five times each: no error, and nothing is lost."""
    engine = open_engine(database_url)
    prepare(engine)
    with writing(engine) as connection:
        connection.execute(accounts.insert().values(holder="h", subject="s", spent_mu2=0.0))
    engine.dispose()
    children = [start_child(WRITER, database_url, "25") for _ in range(3)]
    assert [child.communicate(timeout=120)[1] for child in children] == [""] * 3
    with reading(engine) as connection:
        assert connection.execute(select(accounts.c.spent_mu2)).scalar_one() == 75.0


def test_a_snapshot_sees_one_state_while_others_write(database_url: str) -> None:
    """And it cannot write itself on PostgreSQL; a reader after it sees the new state."""
    engine = open_engine(database_url)
    prepare(engine)
    fill(engine, 5, without=KEYRING_TABLES)
    count = select(func.count()).select_from(meta)
    with snapshot(engine) as connection:
        before = connection.execute(count).scalar_one()
        with writing(engine) as other:
            other.execute(meta.insert().values(part="p", name="n", value="v"))
        assert connection.execute(count).scalar_one() == before
    with reading(engine) as connection:
        assert connection.execute(count).scalar_one() == before + 1


def test_reading_only_changes_no_byte(tmp_path: Path) -> None:
    """Not even the mode of the journal, and a write is refused."""
    plain = create_engine(f"sqlite:///{tmp_path / 'plain.db'}")
    with plain.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE meta (part TEXT)")
    before = (tmp_path / "plain.db").read_bytes()
    engine = open_read_only(tmp_path / "plain.db")
    with reading(engine) as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM meta").scalar_one() == 0
    with pytest.raises(DatabaseError, match=r"plain\.db may not be written"), writing(engine) as connection:
        connection.exec_driver_sql("DELETE FROM meta")
    assert (tmp_path / "plain.db").read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["plain.db"]


def test_a_locked_database_is_named_after_the_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wait is shortened here; the message says who holds it up."""
    monkeypatch.setattr("privacy.sqlite.BUSY_SECONDS", 0.05)
    engine = open_engine(tmp_path / "store.db")
    prepare(engine)
    holder = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with (
        pytest.raises(DatabaseError, match="is kept locked by another process: wait for it"),
        writing(engine),
    ):
        pass
    holder.execute("ROLLBACK")
    holder.close()
    with writing(engine) as connection:
        connection.execute(meta.insert().values(part="p", name="n", value="v"))
