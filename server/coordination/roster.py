"""Keeps the SuperLink's register of nodes as the folder of members says."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

from server.coordination.members import Members
from server.coordination.superlink import SuperLink
from server.coordination.superlink_files import SuperLinkError

log = logging.getLogger("fedrank.coordination.roster")


RECHECK_SECONDS: Final = 30.0
"""How long a SuperLink that lost its database may miss its nodes."""


class Roster:
    """Registers new members and forgets keys that are revoked or replaced.

    A certificate that has expired, or whose file is away, may come back with the same key, and Flower never takes up
    a key again: those stay registered, and the fleet proxy turns them away.
    """

    def __init__(self, members: Members, data: Path, monotonic: Callable[[], float]) -> None:
        """Nothing is registered yet; `data` is the kit's data folder."""
        self._members, self._data, self._monotonic = members, data, monotonic
        self._done: tuple[frozenset[tuple[str, bytes]], frozenset[bytes]] | None = None
        self._due = monotonic()
        self._failed: set[str] = set()
        self._complained = False

    def follow(self) -> None:
        """Register and forget what has changed since; a SuperLink that is away is tried again next time."""
        keys, revoked = self._members.keys(), self._members.revoked()
        wanted = frozenset(keys.items()), frozenset(revoked)
        if wanted == self._done and self._monotonic() < self._due:
            return
        try:
            with SuperLink.open(self._data) as superlink:
                self._apply(superlink, keys, revoked)
        except (SuperLinkError, OSError) as error:
            if not self._complained:
                log.info("the register of nodes waits for the SuperLink: %s", error)
            self._complained = True
            return
        self._done, self._complained = wanted, False
        self._due = self._monotonic() + RECHECK_SECONDS

    def _apply(self, superlink: SuperLink, keys: dict[str, bytes], revoked: set[bytes]) -> None:
        nodes = superlink.nodes()
        for node in nodes:
            replaced = keys.get(node.merchant, node.public_key) != node.public_key
            if replaced or node.public_key in revoked:
                superlink.unregister(node)
                log.warning(
                    "the node of merchant %s is removed: its key is revoked or replaced", node.merchant
                )
        registered = {node.public_key for node in nodes}
        for merchant, key in keys.items():
            if key not in registered:
                self._register(superlink, merchant, key)

    def _register(self, superlink: SuperLink, merchant: str, key: bytes) -> None:
        try:
            superlink.register(merchant, key)
        except SuperLinkError as error:
            if merchant not in self._failed:
                self._failed.add(merchant)
                log.error("%s; a key that was removed needs a successor: `fedrank merchant rotate`", error)
            return
        self._failed.discard(merchant)
        log.info("the node of merchant %s is registered", merchant)
