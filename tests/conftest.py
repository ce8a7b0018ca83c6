"""Fixtures for all tests: databases of both kinds, SQLite in a file and a real PostgreSQL server."""

import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

_PROGRAMS = ("initdb", "pg_ctl", "postgres")
_database_numbers = itertools.count()


def _program(name: str) -> str | None:
    newest_first = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), reverse=True)
    return shutil.which(name) or next(map(str, newest_first), None)


def _server_user() -> str | None:
    """Return the account to run the server as: PostgreSQL refuses root."""
    return "postgres" if os.geteuid() == 0 else None


def _reason_to_skip() -> str | None:
    missing = [name for name in _PROGRAMS if _program(name) is None]
    if missing:
        return (
            f"PostgreSQL is not installed ({', '.join(missing)} not found); run: apt-get install postgresql"
        )
    try:
        pwd.getpwnam(_server_user() or pwd.getpwuid(os.geteuid()).pw_name)
    except KeyError:
        return "PostgreSQL cannot run as root and there is no user postgres; run: useradd --system postgres"
    return None


def _run(*command: str) -> None:
    # The server inherits the output streams of its starter, so a pipe would never come to its end.
    with tempfile.TemporaryFile() as output:
        done = subprocess.run(command, user=_server_user(), stdout=output, stderr=output, cwd="/", timeout=60)
        output.seek(0)
        if done.returncode:
            raise RuntimeError(f"{command[0]} failed: {output.read().decode(errors='replace')[-2000:]}")


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """Start a PostgreSQL server on a Unix socket in a temporary folder; give its URL."""
    reason = _reason_to_skip()
    if reason:
        pytest.skip(reason)
    folder = Path(tempfile.mkdtemp(prefix="fedrank-pg-"))
    user = _server_user() or pwd.getpwuid(os.geteuid()).pw_name
    shutil.chown(folder, user)
    data, log = str(folder / "data"), str(folder / "log")
    settings = f"-c listen_addresses='' -c unix_socket_directories='{folder}' -c fsync=off"
    pg_ctl = str(_program("pg_ctl"))
    try:
        initdb = str(_program("initdb"))
        _run(initdb, "-D", data, "-U", "fedrank", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
        _run(pg_ctl, "-D", data, "-l", log, "-o", settings, "-w", "-t", "30", "start")
        try:
            yield f"postgresql://fedrank@/postgres?host={folder}"
        finally:
            _run(pg_ctl, "-D", data, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres_database(postgres_url: str) -> Iterator[str]:
    """Create an empty PostgreSQL database for one test and give its URL."""
    name = f"test_{os.getpid()}_{next(_database_numbers)}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        yield postgres_url.replace("/postgres?", f"/{name}?")
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Give the URL of an empty database for one test, of each kind in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'test.db'}"
    url: str = request.getfixturevalue("postgres_database")
    return url
