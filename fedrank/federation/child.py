"""`python -m fedrank.federation.child MODULE:FUNCTION ARGUMENTS...`: one child process of a supervisor.

Its standard input is a pipe that nobody writes to. When the supervisor dies, even of SIGKILL, the pipe ends and so
does this process: no orphan goes on serving.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
import threading
from typing import Final

ORPHANED: Final = 71
"""Exit status of a child whose supervisor is gone."""
VERBOSE: Final = "FEDRANK_VERBOSE"
FORMAT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def main() -> None:
    """Call the function that the command line names, with its arguments in `sys.argv`."""
    threading.Thread(target=_end_with_supervisor, name="supervisor", daemon=True).start()
    _set_up_logging()
    target = sys.argv[1]
    module, _, function = target.partition(":")
    sys.argv = [target, *sys.argv[2:]]
    getattr(importlib.import_module(module), function)()


def _set_up_logging() -> None:
    """Show what fedrank tells, and warnings of the libraries; all they tell where the supervisor is verbose."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(FORMAT))
    verbose = os.environ.get(VERBOSE) == "1"
    handler.addFilter(
        lambda record: verbose or record.name.startswith("fedrank") or record.levelno >= logging.WARNING
    )
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def _end_with_supervisor() -> None:
    os.read(sys.stdin.fileno(), 1)
    os._exit(ORPHANED)


if __name__ == "__main__":
    main()
