"""A wire between nodes and their coordinator that counts what goes over it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

_PIECE: Final = 64 * 1024

Address = tuple[str, int]


@dataclass
class Wire:
    """Bytes so far, encryption included: `up` from nodes to the coordinator, `down` to the nodes."""

    up: int = 0
    down: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, *, up: int = 0, down: int = 0) -> None:
        """Add what has passed."""
        with self._lock:
            self.up += up
            self.down += down


@contextmanager
def relay(listen: Address, coordinator: Address) -> Iterator[Wire]:
    """Pass connections on to the coordinator until the block ends."""
    wire = Wire()
    with socket.create_server(listen, backlog=256) as server:
        threading.Thread(target=_accept, args=(server, coordinator, wire), daemon=True).start()
        yield wire
        server.shutdown(socket.SHUT_RDWR)


def _accept(server: socket.socket, coordinator: Address, wire: Wire) -> None:
    while True:
        try:
            near, _ = server.accept()
        except OSError:
            return
        try:
            far = socket.create_connection(coordinator)
        except OSError:
            near.close()  # the coordinator is starting: the node tries again
            continue
        for source, target, up in ((near, far, True), (far, near, False)):
            threading.Thread(target=_pass_on, args=(source, target, wire, up), daemon=True).start()


def _pass_on(source: socket.socket, target: socket.socket, wire: Wire, up: bool) -> None:
    with suppress(OSError):
        while piece := source.recv(_PIECE):
            target.sendall(piece)
            wire.count(up=len(piece) if up else 0, down=0 if up else len(piece))
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)
