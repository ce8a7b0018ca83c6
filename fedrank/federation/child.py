"""`python -m fedrank.federation.child MODULE:FUNCTION ARGUMENTS...`: one child process of a supervisor.

Its standard input is a pipe that nobody writes to. When the supervisor dies, even of SIGKILL, the pipe ends and so
does this process: no orphan goes on serving.
"""

from __future__ import annotations

import gc
import importlib
import logging
import os
import sys
import threading
from typing import Final

ORPHANED: Final = 71
"""Exit status of a child whose supervisor is gone."""
LIBRARIES: Final = ("flwr", "httpx", "uvicorn", "alembic")
"""Loggers that tell of every call."""
GARBAGE: Final = 20_000
"""Objects that come between two looks for garbage."""
VERBOSE: Final = "FEDRANK_VERBOSE"
FORMAT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def main() -> None:
    """Call the function that the command line names, with its arguments in `sys.argv`."""
    threading.Thread(target=_end_with_supervisor, name="supervisor", daemon=True).start()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format=FORMAT)
    target = sys.argv[1]
    module, _, function = target.partition(":")
    sys.argv = [target, *sys.argv[2:]]
    _quieten()
    call = getattr(importlib.import_module(module), function)
    _quieten()  # the import sets levels of its own
    gc.set_threshold(GARBAGE)  # a sixth of the SuperLink's time went into looking through what stays
    call()


def _quieten() -> None:
    if os.environ.get(VERBOSE) != "1":
        for name in LIBRARIES:
            logging.getLogger(name).setLevel(logging.WARNING)


def _end_with_supervisor() -> None:
    os.read(sys.stdin.fileno(), 1)
    os._exit(ORPHANED)


if __name__ == "__main__":
    main()
