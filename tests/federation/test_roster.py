"""The SuperLink's register of nodes follows the folder of members."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from member_files import AFTER_THE_END, Fellowship, public

from server.coordination.members import LOOK_SECONDS
from server.coordination.roster import RECHECK_SECONDS, Roster
from server.coordination.superlink import RegisteredNode, SuperLink
from server.coordination.superlink_files import SuperLinkError


@dataclass
class Register:
    """Stands for a SuperLink: a key that was ever registered is never taken again."""

    registered: dict[bytes, RegisteredNode] = field(default_factory=dict)
    known: set[bytes] = field(default_factory=set)
    away: bool = False
    looks: int = 0

    def nodes(self) -> list[RegisteredNode]:
        """Who is registered."""
        self.looks += 1
        return list(self.registered.values())

    def register(self, merchant: str, public_key: bytes) -> int:
        """Take up a key, once."""
        if public_key in self.known:
            raise SuperLinkError("the key is in use")
        node = RegisteredNode(
            id=len(self.known),
            merchant=merchant,
            public_key=public_key,
            status="registered",
            online_until=0.0,
        )
        self.known.add(public_key)
        self.registered[public_key] = node
        return node.id

    def unregister(self, node: RegisteredNode) -> None:
        """Forget a node."""
        del self.registered[node.public_key]

    @property
    def merchants(self) -> set[str]:
        """Whose nodes are registered."""
        return {node.merchant for node in self.registered.values()}


@dataclass
class World:
    """Members, a register, and what brings them together."""

    fellowship: Fellowship
    register: Register
    roster: Roster

    def follow(self) -> None:
        """Let the time between two looks pass, and follow."""
        self.fellowship.times.later(LOOK_SECONDS)
        self.roster.follow()


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """Two members and an empty register."""
    fellowship, register = Fellowship(tmp_path), Register()
    fellowship.admit("north")
    fellowship.admit("south")

    @contextmanager
    def opened(_data: Path) -> Iterator[Register]:
        if register.away:
            raise SuperLinkError("not running")
        yield register

    monkeypatch.setattr(SuperLink, "open", opened)
    return World(
        fellowship, register, Roster(fellowship.members(), tmp_path, lambda: fellowship.times.monotonic)
    )


def test_all_members_are_registered_and_new_ones_too(world: World) -> None:
    """Who is in the folder can connect; a file that appears later needs no restart."""
    world.follow()
    assert world.register.merchants == {"north", "south"}
    world.fellowship.admit("late")
    world.follow()
    assert world.register.merchants == {"north", "south", "late"}


def test_a_revoked_member_is_forgotten(world: World) -> None:
    """Rounds no longer ask its node."""
    world.follow()
    world.fellowship.revoke("north")
    world.follow()
    assert world.register.merchants == {"south"}


def test_a_replaced_key_takes_the_place_of_the_old_one(world: World) -> None:
    """After a rotation one node of that merchant is left: the one with the new key."""
    world.follow()
    (world.fellowship.files.members / "north.pem").unlink()
    key = world.fellowship.admit("north")
    world.follow()
    keys = [node.public_key for node in world.register.nodes() if node.merchant == "north"]
    assert keys == [public(key)]


def test_what_may_come_back_stays_registered(world: World) -> None:
    """Flower takes no key twice, so expiry and a missing file forget nobody."""
    world.follow()
    (world.fellowship.files.members / "north.pem").unlink()
    world.fellowship.times.wall += AFTER_THE_END
    world.follow()
    assert world.register.merchants == {"north", "south"}


def test_a_superlink_that_is_away_is_caught_up_with(world: World) -> None:
    """Nothing is lost while it starts."""
    world.register.away = True
    world.follow()
    assert world.register.merchants == set()
    world.register.away = False
    world.follow()
    assert world.register.merchants == {"north", "south"}


def test_nothing_is_asked_while_nothing_changes_but_a_lost_database_is_noticed(world: World) -> None:
    """The register is looked over at long intervals only."""
    world.follow()
    looks = world.register.looks
    world.follow()
    assert world.register.looks == looks
    world.register.registered.clear()
    world.register.known.clear()
    world.fellowship.times.later(RECHECK_SECONDS)
    world.follow()
    assert world.register.merchants == {"north", "south"}


def test_a_key_that_was_removed_is_complained_about_once(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """The log names the merchant and the way out, and does not repeat it every half minute."""
    world.register.known.update(world.fellowship.members().keys().values())
    for _ in range(3):
        world.fellowship.times.later(RECHECK_SECONDS)
        world.follow()
    complaints = [record.getMessage() for record in caplog.records if "rotate" in record.getMessage()]
    assert len(complaints) == 2
