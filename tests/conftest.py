"""Fixtures for all tests: databases of both kinds, SQLite in a file and a real PostgreSQL server."""

import gc
import multiprocessing
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from evaluation.bench import postgres

MEMORY, ROOM = Path("/dev/shm"), 8 << 30


def use_memory_for_temporary_files() -> None:
    """Let databases of tests lie in memory where it has room: each of their thousands of commits waits for the disk.

    No test pulls the plug of the machine, which is all that the wait is for.
    """
    if "TMPDIR" in os.environ or not os.access(MEMORY, os.W_OK):
        return
    if shutil.disk_usage(MEMORY).free >= ROOM and not os.statvfs(MEMORY).f_flag & os.ST_NOEXEC:
        os.environ["TMPDIR"] = tempfile.tempdir = str(MEMORY)


LOADED_BY_CHILDREN = (
    "pytest",
    "hypothesis",
    "psycopg",
    "alembic.command",
    "sqlalchemy.dialects.postgresql.psycopg",
    "client.store_rotation",
    "client.store_retention",
    "privacy.key_rotation",
    "privacy.ledger_place",
    "privacy.migrations",
)
"""What processes that tests fork from a server of their own find loaded: hundreds of them use a database."""

use_memory_for_temporary_files()
multiprocessing.set_forkserver_preload(list(LOADED_BY_CHILDREN))
gc.disable()  # until all tests are collected: what is imported until then stays
settings.register_profile("fedrank", deadline=None)
settings.load_profile(
    "fedrank"
)  # a slow machine is no fault of the code: no test asserts how long something took


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put files with a slow test first, so that no worker is left alone with one at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop() -> None:
    """Spare every later collection of garbage the million objects of libraries and tests, which all stay."""
    gc.enable()
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """Start a PostgreSQL server on a Unix socket in a temporary folder; give its URL."""
    reason = postgres.reason_absent()
    if reason:
        pytest.skip(reason)
    with postgres.server(durable=False) as url:
        yield url


@pytest.fixture
def postgres_database(postgres_url: str) -> Iterator[str]:
    """Create an empty PostgreSQL database for one test and give its URL."""
    with postgres.database(postgres_url) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Give the URL of an empty database for one test, of each kind in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'test.db'}"
    url: str = request.getfixturevalue("postgres_database")
    return url
