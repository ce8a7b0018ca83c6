"""`fedrank` with everything that it logs; many commands, each in a forked child of one process that has loaded it.

`python canary_commands.py LOG WORDS...` runs one command, in this process. Without words it takes commands as lines
of JSON (log, output, error, words) until its input ends, and answers each with the exit code of its child: a process
of its own for every command, as people start them, that need not load all libraries again. It has no threads, so it
may fork.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import sys
from importlib import import_module

LOADED = (
    "client.app",
    "client.ranking",
    "client.receipts",
    "client.rights",
    "client.store_consent",
    "client.store_rotation",
    "evaluation.simulate",
    "privacy.backup_check",
    "rich.table",
    "server.coordination.app",
    "simulation.data",
)
"""What commands load, with all that it needs."""


def log_everything(file: str) -> None:
    """Write every record of every logger into one file, whatever levels and handlers libraries set."""
    everything = logging.FileHandler(file)
    everything.setFormatter(logging.Formatter("%(name)s %(levelname)s %(message)s"))
    logging.Logger.isEnabledFor = lambda self, level: True  # type: ignore[method-assign]
    logging.Logger.handle = lambda self, record: everything.handle(record)  # type: ignore[method-assign,assignment]


def next_command() -> list[str]:
    """Return the words of a command, in a child that is to run it; this process ends with its input."""
    for line in sys.stdin:
        wanted = json.loads(line)
        child = os.fork()
        if child == 0:
            for number, file in enumerate((os.devnull, wanted["output"], wanted["error"])):
                os.dup2(os.open(file, os.O_RDWR | os.O_CREAT, 0o600), number)
            log_everything(wanted["log"])
            return list(wanted["words"])
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
    sys.exit()


def main() -> None:
    """Run the command of the command line, or all that are asked for."""
    log, words = sys.argv[1], sys.argv[2:]
    log_everything(log)
    from fedrank.cli import main as fedrank

    if not words:
        for name in LOADED:
            import_module(name)
        gc.freeze()  # else the end of every child would copy all that is loaded here
        words = next_command()
    sys.argv[1:] = words
    fedrank()


if __name__ == "__main__":
    main()
