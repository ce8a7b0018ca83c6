"""A real PostgreSQL server in a temporary folder, for benches and tests; none of it outlives the block."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from evaluation.errors import EvaluationError

PROGRAMS = ("initdb", "pg_ctl", "postgres")
START_S = 60
_DATA, _SETTINGS = "data", "settings"
_numbers = itertools.count()


class ServerFailed(EvaluationError):
    """A PostgreSQL server did not start, stop or do what it was asked."""


def reason_absent() -> str | None:
    """Return in one line why no server can run here and what would help; None where one can."""
    missing = [name for name in PROGRAMS if _program(name) is None]
    if missing:
        return (
            f"PostgreSQL is not installed ({', '.join(missing)} not found); run: apt-get install postgresql"
        )
    try:
        pwd.getpwnam(_user())
    except KeyError:
        return "PostgreSQL cannot run as root and there is no user postgres; run: useradd --system postgres"
    return None


@contextmanager
def server(*, durable: bool) -> Iterator[str]:
    """Run a server on a Unix socket and give the URL of its first database.

    Args:
        durable: whether it waits for the disk (fsync); tests need not, a bench must.

    Raises:
        ServerFailed: with the last words of the program that failed.
    """
    folder = Path(tempfile.mkdtemp(prefix="fedrank-pg-"))
    try:
        shutil.chown(folder, _user())
        data = str(folder / _DATA)
        _run("initdb", "-D", data, "-U", "fedrank", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
        settings = f"-c listen_addresses='' -c unix_socket_directories='{folder}'"
        settings += f" -c fsync={'on' if durable else 'off'}"
        (folder / _SETTINGS).write_text(settings)
        _start(folder)
        try:
            yield f"postgresql://fedrank@/postgres?host={folder}"
        finally:
            _run("pg_ctl", "-D", data, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def kill(server_url: str) -> None:
    """End a running server and all of its processes by kill -9."""
    main = int((_folder(server_url) / _DATA / "postmaster.pid").read_text().split("\n", 1)[0])
    children = Path(f"/proc/{main}/task/{main}/children").read_text().split()
    for process in (main, *map(int, children)):
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def answers(server_url: str) -> bool:
    """Return whether the server of this URL takes connections."""
    import psycopg

    try:
        psycopg.connect(server_url).close()
    except psycopg.OperationalError:
        return False
    return True


def start_again(server_url: str) -> None:
    """Start a server that was killed, which recovers what it had acknowledged."""
    folder = _folder(server_url)
    # The killed process may not have been reaped yet, and then its lock files look like those of a live one.
    for lock in (folder / _DATA / "postmaster.pid", *folder.glob(".s.PGSQL.*.lock")):
        lock.unlink(missing_ok=True)
    _start(folder)


@contextmanager
def database(server_url: str) -> Iterator[str]:
    """Make an empty database on a running server and give its URL; it is dropped after the block."""
    import psycopg

    name = f"fedrank_{os.getpid()}_{next(_numbers)}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    try:
        yield server_url.replace("/postgres?", f"/{name}?")
    finally:
        with psycopg.connect(server_url, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def _folder(server_url: str) -> Path:
    return Path(server_url.partition("host=")[2])


def _start(folder: Path) -> None:
    started = ("-w", "-t", str(START_S // 2), "start")
    _run(
        "pg_ctl",
        *("-D", str(folder / _DATA), "-l", str(folder / "log")),
        *("-o", (folder / _SETTINGS).read_text()),
        *started,
    )


def _program(name: str) -> str | None:
    newest_first = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), reverse=True)
    return shutil.which(name) or next(map(str, newest_first), None)


def _user() -> str:
    """Return the account that runs the server: PostgreSQL refuses root."""
    return "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name


def _run(program: str, *words: str) -> None:
    user = _user() if os.geteuid() == 0 else None
    # The server inherits the output streams of its starter, so a pipe would never come to its end.
    with tempfile.TemporaryFile() as output:
        command = (str(_program(program)), *words)
        done = subprocess.run(command, user=user, stdout=output, stderr=output, cwd="/", timeout=START_S)
        output.seek(0)
        if done.returncode:
            words_of_it = output.read().decode(errors="replace")[-2000:]
            raise ServerFailed(f"{program} ended with code {done.returncode}: {words_of_it}")
