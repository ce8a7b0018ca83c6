"""A full disk: a clear error, nothing damaged, reading goes on, and so does writing when space returns."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from database_child import is_root, run_child
from sqlalchemy import Engine, func, select

from privacy.backup import backup
from privacy.backup_check import check
from privacy.database import open_engine, prepare, reading, writing
from privacy.errors import StorageFull
from privacy.schema import events

SQLITE_BYTES, POSTGRESQL_BYTES = 2 << 20, 24 << 20

LIMITED = """
import resource, sys
from pathlib import Path
from privacy.database import open_engine, prepare, reading, writing
from privacy.schema import events
from sqlalchemy import func, select
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
engine = open_engine(Path(sys.argv[1]))
prepare(engine)
row = {"holder": "h", "shopper": "s", "sealed": bytes(10_000)}
try:
    for number in range(1000):
        with writing(engine) as connection:
            connection.execute(events.insert().values({**row, "number": number}))
except Exception as error:
    with reading(engine) as connection:
        kept = connection.execute(select(func.count()).select_from(events)).scalar_one()
    print(type(error).__name__, kept == number > 0, error)
"""


def add(engine: Engine, first: int, count: int = 50) -> None:
    """Store `count` rows of 2 KB in one transaction."""
    row = {"holder": "h", "shopper": "s", "sealed": os.urandom(2000)}
    with writing(engine) as connection:
        connection.execute(events.insert(), [row | {"number": first + number} for number in range(count)])


def count(engine: Engine) -> int:
    """The number of rows of events."""
    with reading(engine) as connection:
        return connection.execute(select(func.count()).select_from(events)).scalar_one()


def write_until_full(engine: Engine) -> tuple[int, str]:
    """Store rows until there is no space; return how many were acknowledged, and the error's text."""
    for first in range(0, 10_000_000, 50):
        try:
            add(engine, first)
        except StorageFull as error:
            return first, str(error)
    raise AssertionError("the disk never became full")


@pytest.fixture
def small_disk(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A small file system of its own; its size in bytes is the test's parameter."""
    # Not below tmp_path, whose parents pytest closes to the account that PostgreSQL runs as.
    folder = Path(tempfile.mkdtemp(prefix="fedrank-disk-"))
    mount = ["mount", "-t", "tmpfs", "-o", f"size={request.param},mode=0755", "tmpfs", str(folder)]
    if not is_root() or subprocess.run(mount, capture_output=True).returncode:
        folder.rmdir()
        pytest.skip("this user may mount no file system, so there is no small disk to fill; run as root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
        folder.rmdir()


@pytest.fixture
def small_postgresql(small_disk: Path, postgres_url: str) -> Iterator[str]:
    """A PostgreSQL database whose tables lie on the small file system, and the server's log does not."""
    shutil.chown(small_disk, "postgres")
    with psycopg.connect(postgres_url, autocommit=True) as server:
        server.execute(f"CREATE TABLESPACE small LOCATION '{small_disk}'")
        server.execute("CREATE DATABASE small TABLESPACE small")
        try:
            yield postgres_url.replace("/postgres?", "/small?")
        finally:
            server.execute("DROP DATABASE small WITH (FORCE)")
            server.execute("DROP TABLESPACE small")


def check_full_and_free(engine: Engine, disk: Path) -> None:
    """Fill the disk by writing beside a file that then makes room."""
    prepare(engine)
    filler = disk / "filler"
    filler.write_bytes(bytes(SQLITE_BYTES // 2))
    stored, message = write_until_full(engine)
    assert "has no space left" in message
    assert "nothing of this change was stored and reading goes on; free space" in message
    assert count(engine) == stored > 0
    with pytest.raises(StorageFull):
        add(engine, stored, count=1000)
    assert (check(engine).damage, count(engine)) == ((), stored)
    filler.unlink()
    add(engine, stored)
    assert (check(engine).damage, count(engine)) == ((), stored + 50)


@pytest.mark.parametrize("small_disk", [SQLITE_BYTES], indirect=True, ids=["2MB"])
def test_sqlite_on_a_full_disk_refuses_and_goes_on_when_space_returns(small_disk: Path) -> None:
    """Every acknowledged row is there, the file is sound, and no row of the refused writes is."""
    engine = open_engine(small_disk / "store.db")
    check_full_and_free(engine, small_disk)
    engine.dispose()


@pytest.mark.parametrize("small_disk", [POSTGRESQL_BYTES], indirect=True, ids=["24MB"])
def test_postgresql_on_a_full_disk_refuses_and_goes_on_when_space_returns(
    small_disk: Path, small_postgresql: str
) -> None:
    """The same where the server's table space is full."""
    engine = open_engine(small_postgresql)
    check_full_and_free(engine, small_disk)
    engine.dispose()


@pytest.mark.parametrize("small_disk", [SQLITE_BYTES], indirect=True, ids=["2MB"])
def test_another_process_reads_a_database_on_a_full_disk(small_disk: Path) -> None:
    """While one process holds the database open, one that starts on the full disk can read it."""
    engine = open_engine(small_disk / "store.db")
    prepare(engine)
    stored, _ = write_until_full(engine)
    program = "import sys; from test_disk_full import count; from privacy.database import open_engine\n"
    program += "print(count(open_engine(sys.argv[1], create=False)))"
    program = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n" + program
    done = run_child(program, str(small_disk / "store.db"))
    assert (done.stdout.strip(), done.stderr) == (str(stored), "")
    engine.dispose()


@pytest.mark.parametrize("small_disk", [SQLITE_BYTES], indirect=True, ids=["2MB"])
def test_a_new_database_on_a_full_disk_is_refused_and_not_half_made(small_disk: Path) -> None:
    """The tables are there or not; when there is space again, they are made."""
    fill_up(small_disk / "filler")
    with pytest.raises(StorageFull, match=r"new\.db"):
        prepare(open_engine(small_disk / "new.db"))
    (small_disk / "filler").unlink()
    engine = open_engine(small_disk / "new.db")
    prepare(engine)
    assert (count(engine), check(engine).damage) == (0, ())
    engine.dispose()


@pytest.mark.parametrize("small_disk", [SQLITE_BYTES], indirect=True, ids=["2MB"])
def test_a_backup_that_finds_no_space_leaves_no_file(small_disk: Path, database_url: str) -> None:
    """The error names the backup, and neither a part of it nor its temporary file stays."""
    engine = open_engine(database_url)
    prepare(engine)
    add(engine, 0, count=2 * SQLITE_BYTES // 2000)
    with pytest.raises(StorageFull, match="backup"):
        backup(engine, small_disk / "backup.db", now=datetime(2026, 1, 1, tzinfo=UTC))
    assert list(small_disk.iterdir()) == []
    engine.dispose()


def test_a_limit_on_the_size_of_files_is_a_full_disk(tmp_path: Path) -> None:
    """RLIMIT_FSIZE in a process of its own, where nobody may mount: refused, all acknowledged rows kept."""
    done = run_child(LIMITED, str(tmp_path / "store.db"))
    assert done.stdout.startswith("StorageFull True "), done.stdout + done.stderr
    engine = open_engine(tmp_path / "store.db")
    assert check(engine).damage == ()
    add(engine, 100_000)
    engine.dispose()


def fill_up(file: Path) -> None:
    """Take all space that there is."""
    handle = os.open(file, os.O_CREAT | os.O_WRONLY)
    with suppress(OSError):
        while True:
            os.write(handle, bytes(4096))
    os.close(handle)
