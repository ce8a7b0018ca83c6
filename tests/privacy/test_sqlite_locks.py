"""What a process does with a database's file outside SQLite must not take SQLite's locks from it."""

import subprocess
import sys
from pathlib import Path

from sqlalchemy import text

from privacy.database import drop_deleted_bytes, holds_any, open_engine, reading, writing

_OTHER = """
import sqlite3, sys
other = sqlite3.connect(sys.argv[1])
other.execute("SELECT count(*) FROM numbers").fetchall()
other.close()  # the last to close removes the log; it must see that somebody else is there
"""


def test_a_database_that_is_opened_twice_keeps_its_log_while_another_process_comes_and_goes(
    tmp_path: Path,
) -> None:
    """POSIX drops all locks of a process on a file when any descriptor of it is closed; nothing may do that."""
    file = tmp_path / "t.db"
    engine = open_engine(file)
    with writing(engine) as connection:
        connection.execute(text("CREATE TABLE numbers (number INTEGER)"))
    open_engine(file).dispose()
    holds_any(engine, [b"0123456789abcdef"])
    subprocess.run([sys.executable, "-c", _OTHER, str(file)], check=True, timeout=60)
    assert Path(f"{file}-wal").exists()
    with writing(engine) as connection:
        connection.execute(text("INSERT INTO numbers VALUES (1)"))
    subprocess.run([sys.executable, "-c", _OTHER, str(file)], check=True, timeout=60)
    fresh = open_engine(file)
    with reading(fresh) as connection:
        assert connection.execute(text("SELECT count(*) FROM numbers")).scalar_one() == 1
    assert drop_deleted_bytes(engine)
