"""A node's question for messages is held until a message has arrived whole, by the tables of a real SuperLink."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from flwr.superlink.config_loader import get_federation_manager, get_objectstore_linkstate_factories

from server.coordination.mail import Mail

NODE, OTHER = 2**64 - 5, 7
"""Ids as Flower draws them: the database holds them as signed numbers."""
NOW = 1000.0


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database file as Flower makes it, still empty."""
    path = tmp_path_factory.mktemp("superlink") / "superlink.db"
    _, factory = get_objectstore_linkstate_factories(str(path), get_federation_manager())
    factory.state()
    return path


@pytest.fixture
def database(tables: Path, tmp_path: Path) -> Path:
    """A copy of the empty database for one test."""
    path = tmp_path / "superlink.db"
    with sqlite3.connect(tables) as source, sqlite3.connect(path) as target:
        source.backup(target)
    return path


def write(database: Path, *statements: str) -> None:
    """Run statements as the SuperLink would."""
    with sqlite3.connect(database) as connection:
        for statement in statements:
            connection.execute(statement)


def message(name: str, node: int, *, delivered: str = "", ttl: float = 60.0) -> str:
    """A row of a message for a node."""
    signed = node - 2**64 if node >= 2**63 else node
    return (
        "INSERT INTO message_ins (message_id, dst_node_id, created_at, delivered_at, ttl) "
        f"VALUES ('{name}', {signed}, {NOW - 10}, '{delivered}', {ttl})"
    )


def part(name: str, *, available: bool) -> str:
    """A row of an object."""
    return (
        f"INSERT INTO objects (object_id, content, is_available) VALUES ('{name}', x'00', {int(available)})"
    )


def arrived(database: Path, node: int = NODE, seconds: float = 0.0) -> bool:
    """Ask whether a message is there."""
    return asyncio.run(Mail(database, now=lambda: NOW).arrived(node, seconds))


def test_a_message_of_which_all_parts_are_there_has_arrived(database: Path) -> None:
    """Its node is told, and no other."""
    write(database, message("m", NODE), part("m", available=True), part("p", available=True))
    write(database, "INSERT INTO object_children VALUES ('m', 'p')")
    assert arrived(database)
    assert not arrived(database, OTHER)


def test_a_message_that_carries_its_content_has_arrived(database: Path) -> None:
    """It has no parts, and nobody ever pushes its own object."""
    write(database, message("m", NODE), part("m", available=False))
    assert arrived(database)


@pytest.mark.parametrize("missing", ["m", "p", "q"])
def test_a_message_that_is_still_on_its_way_is_waited_for(database: Path, missing: str) -> None:
    """One part of a part that is missing is enough."""
    parts = [part(name, available=name != missing) for name in "mpq"]
    links = ["INSERT INTO object_children VALUES ('m', 'p')", "INSERT INTO object_children VALUES ('p', 'q')"]
    write(database, message("m", NODE), *parts, *links)
    assert not arrived(database)
    write(database, "UPDATE objects SET is_available = 1")
    assert arrived(database)


@pytest.mark.parametrize(
    "row", [message("m", NODE, delivered="2026-11-22T12:00:00"), message("m", NODE, ttl=5.0)]
)
def test_a_message_that_was_delivered_or_is_too_old_is_none(database: Path, row: str) -> None:
    """The SuperLink would not give it either."""
    write(database, row, part("m", available=True))
    assert not arrived(database)


def test_a_question_is_held_until_a_message_comes(database: Path) -> None:
    """It comes as soon as the row is there, long before the longest time."""

    async def asked() -> bool:
        waiting = asyncio.create_task(Mail(database, now=lambda: NOW).arrived(NODE, 60.0))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        write(database, message("m", NODE), part("m", available=True))
        return await asyncio.wait_for(waiting, 30.0)

    assert asyncio.run(asked())


@pytest.mark.parametrize("spoil", [lambda path: None, lambda path: path.write_bytes(b"x" * 5000)])
def test_without_a_database_nobody_is_held(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    """The SuperLink is asked itself, as Flower does it."""
    path = tmp_path / "superlink.db"
    spoil(path)
    assert arrived(path, seconds=60.0)
