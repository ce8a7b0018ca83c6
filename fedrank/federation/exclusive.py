"""What only one process may have: the data folder of a kit, and a port."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from deploy.errors import KitError
from deploy.kit import Kit
from privacy.key_files import locked

LOCK: Final = "start.lock"


@contextmanager
def alone(kit: Kit) -> Iterator[None]:
    """Be the only one that runs a kit's services until the block ends; raises `KitError` where another does."""
    with locked(kit.data / LOCK, wait=False) as mine:
        if not mine:
            raise KitError(
                f"the kit {kit.folder} is running already: another process has {kit.data / LOCK}; end that one "
                "first, or give this machine a kit of its own"
            )
        yield


def refuse_taken_port(host: str, port: int) -> None:
    """Raise `KitError` where nothing can listen at an address of this machine."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        why = str(error.strerror).partition(" (")[0]
        raise KitError(
            f"the coordinator cannot listen at {host}:{port} ({why}); end what listens there, or name "
            "another address of this machine with --listen"
        ) from None
