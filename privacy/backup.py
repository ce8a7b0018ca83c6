"""Backups: one SQLite file of the same schema with one consistent state, whatever the source's kind.

A backup holds what the database holds: ciphertext, pseudonyms and what the ledger knows. It never holds a key:
those lie in the keyring, whose own database is refused here, because an old copy of it would undo erasures.
"""

import os
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, delete, insert, select

from privacy.backup_tables import copy_rows
from privacy.database import open_engine, open_read_only, reading, shown, snapshot, writing
from privacy.database_errors import explained, explained_file
from privacy.errors import DatabaseDamaged, DatabaseError, DatabaseMissing, NotABackup, NotEmpty
from privacy.revisions import change, revision_of, row_counts
from privacy.schema import STORE, data_keys, ledger_heads, meta

PART: Final = "backup"
"""The part of `meta` that says what a backup was taken from, and when."""


@dataclass(frozen=True, kw_only=True)
class Copied:
    """What was copied: from where to where, of which state (ISO 8601), in which revision, rows by table."""

    source: str
    target: str
    taken_at: str
    revision: str
    rows: dict[str, int]


def backup(engine: Engine, file: Path, *, now: datetime) -> Copied:
    """Write one consistent state of the database to `file`, which appears complete and checked or not at all.

    Reading and writing of the database go on meanwhile. The file has mode 0600. Raises `DatabaseError` if it
    is there already or if the database is a keyring's, `DatabaseMissing` if there is nothing to copy.
    """
    if file.exists():
        raise DatabaseError(f"{file} is there already; a backup never replaces a file, so name a new one")
    facts = {"source": shown(engine.url), "taken_at": now.isoformat(timespec="seconds")}
    with _written_beside(file) as unfinished:
        copy = _copy_file if engine.name == "sqlite" else _copy_tables
        revision, rows = copy(engine, unfinished)
        rows[meta.name] -= _seal(unfinished, facts)
        _compare(unfinished, revision, rows)
    return Copied(target=str(file), revision=revision, rows=rows, **facts)


def restore(file: Path, engine: Engine) -> Copied:
    """Copy a backup into a database without rows, of either kind, all or nothing.

    Raises `NotABackup` for a file that `backup` did not write, `NotEmpty` if the database has rows, and what
    `revision_of` raises. An older backup keeps its revision, and `fedrank db migrate` comes next.
    """
    source = open_read_only(file)
    try:
        with snapshot(source) as old:
            facts = _facts(old, file)
            revision, _ = _state(old)
            with writing(engine) as new:
                _refuse_rows(new)
                change(new, shown(engine.url), revision)
                rows = copy_rows(old, new)
                rows[meta.name] -= new.execute(delete(meta).where(meta.c.part == PART)).rowcount
    finally:
        source.dispose()
    return Copied(
        source=str(file),
        target=shown(engine.url),
        taken_at=facts["taken_at"],
        revision=revision,
        rows=rows,
    )


def _copy_file(engine: Engine, file: Path) -> tuple[str, dict[str, int]]:
    with reading(engine) as connection:
        state = _state(connection)
        driver: Any = connection.connection.driver_connection
        try:
            with closing(sqlite3.connect(file)) as copy:
                # All pages in one step: one state, without beginning anew whenever somebody writes.
                driver.backup(copy)
        except sqlite3.Error as error:
            raise explained(error, f"{shown(engine.url)} or its backup") from None
    return state


def _copy_tables(engine: Engine, file: Path) -> tuple[str, dict[str, int]]:
    copy = open_engine(file)
    try:
        with snapshot(engine) as old:
            revision, _ = _state(old)
            with writing(copy) as new:
                change(new, str(file), revision)
                rows = copy_rows(old, new)
    finally:
        copy.dispose()
    return revision, rows


def _state(connection: Connection) -> tuple[str, dict[str, int]]:
    where = shown(connection.engine.url)
    revision = revision_of(connection, where)
    if revision is None:
        raise DatabaseMissing(f"{where} holds no tables of fedrank, so there is nothing to back up")
    rows = row_counts(connection)
    _refuse_keys(rows, where)
    return revision, rows


def _refuse_keys(rows: dict[str, int], where: str) -> None:
    if rows[data_keys.name] or rows[ledger_heads.name]:
        raise DatabaseError(
            f"{where} is a keyring's database, and a copy of keys would undo erasures; "
            "keep the keyring as docs/keys.md says"
        )


def _refuse_rows(connection: Connection) -> None:
    where = shown(connection.engine.url)
    filled = [f"{count} of {name}" for name, count in row_counts(connection).items() if count]
    if revision_of(connection, where) is not None and filled:
        raise NotEmpty(
            f"{where} has rows already ({', '.join(filled)}), and a restored backup is never mixed with others; "
            "name a new database"
        )


def _facts(connection: Connection, file: Path) -> dict[str, str]:
    facts: dict[str, str] = {}
    if revision_of(connection, str(file)) is not None:
        noted = connection.execute(select(meta.c.name, meta.c.value).where(meta.c.part == PART))
        facts = {str(name): str(value) for name, value in noted}
    if "taken_at" not in facts:
        raise NotABackup(
            f"{file} was not written by `fedrank db backup`, so its state may be torn; give a backup"
        )
    return facts


def _seal(file: Path, facts: dict[str, str]) -> int:
    """Note where the backup comes from, and leave one file that needs no log beside it.

    A backup is not the store that it was taken from: that one's number goes. Returns how many rows that were.
    """
    engine = open_engine(file, create=False)
    try:
        with writing(engine) as connection:
            connection.execute(delete(meta).where(meta.c.part == PART))
            gone = connection.execute(delete(meta).where(meta.c.part == STORE)).rowcount
            rows = [{"part": PART, "name": name, "value": value} for name, value in facts.items()]
            connection.execute(insert(meta), rows)
        with engine.connect() as connection:
            connection.connection.driver_connection.execute("PRAGMA journal_mode=DELETE")  # type: ignore[union-attr]
    finally:
        engine.dispose()
    return gone


def _compare(file: Path, revision: str, rows: dict[str, int]) -> None:
    engine = open_read_only(file)
    try:
        with reading(engine) as connection:
            found = row_counts(connection)
            found[meta.name] = rows[meta.name]  # the backup's own facts are there besides
            sound = connection.exec_driver_sql("PRAGMA integrity_check").scalars().all() == ["ok"]
            if not sound or found != rows or revision_of(connection, str(file)) != revision:
                raise DatabaseDamaged(
                    f"the backup differs from its source and was not kept; check {file.parent}"
                )
    finally:
        engine.dispose()


@contextmanager
def _written_beside(file: Path) -> Iterator[Path]:
    """Give a private empty file in the folder of `file`; take it away, or rename it if the block succeeds."""
    unfinished = file.parent / f".{file.name}.{secrets.token_hex(4)}"
    try:
        os.close(os.open(unfinished, os.O_CREAT | os.O_EXCL, 0o600))
        yield unfinished
        _flush(unfinished)
        unfinished.rename(file)
        _flush(file.parent)
    except OSError as error:
        raise explained_file(error, f"backup {file}") from None
    finally:
        for leftover in file.parent.glob(f"{unfinished.name}*"):
            leftover.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
