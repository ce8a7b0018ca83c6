"""Which windows of which series were published: durable, so that no two windows of one series overlap.

Two figures over overlapping windows tell by their difference what happened in the part that only one covers,
however many shoppers each is about (Cox 1980; Hundepool et al., "Statistical Disclosure Control", 2012).
"""

from pathlib import Path
from typing import Final, Self

from sqlalchemy import BigInteger, Connection, Engine, String, exists, func, insert, literal, select

from privacy.coarse import Window
from privacy.database import open_engine, prepare, writing
from privacy.errors import WindowOverlaps
from privacy.schema import publications

_LOCK_SEED: Final = 0x70_75_62


class Publications:
    """The record of what was published; any number of processes may share one."""

    def __init__(self, engine: Engine) -> None:
        """Use an engine whose tables are there already; `Publications.open` makes one."""
        self._engine = engine

    @classmethod
    def open(cls, url: str | Path, *, create: bool = True) -> Self:
        """Open the record in the ledger at a URL or SQLite path; raises what `open_engine` and `prepare` do."""
        engine = open_engine(url, create=create)
        prepare(engine, create=create)
        return cls(engine)

    def claim(self, series: str, window: Window) -> None:
        """Note durably that `series` is published for `window`, or raise `WindowOverlaps` if any day of it was."""
        starts, ends = window.seconds()
        taken = publications.c
        overlapping = (taken.series == series, taken.starts < ends, taken.ends > starts)
        row = select(literal(series, String), literal(starts, BigInteger), literal(ends, BigInteger))
        row = row.where(~exists().where(*overlapping))
        with writing(self._engine) as connection:
            _one_at_a_time(connection, series)
            claim = (
                insert(publications).from_select(["series", "starts", "ends"], row).returning(taken.starts)
            )
            if connection.execute(claim).one_or_none() is not None:
                return
        raise WindowOverlaps(
            f"series {series!r} was published before for some days of {window}: their difference could tell about "
            "few shoppers; publish days that are not yet published"
        )

    def close(self) -> None:
        """Give the database connections back."""
        self._engine.dispose()


def _one_at_a_time(connection: Connection, series: str) -> None:
    # SQLite has one writer anyway. On PostgreSQL two inserts at once would not see each other's window.
    if connection.engine.name == "postgresql":
        lock = func.pg_advisory_xact_lock(func.hashtextextended(series, _LOCK_SEED))
        connection.execute(select(lock))
