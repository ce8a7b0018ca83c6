"""Programs that tests run in processes of their own, to be killed, limited or raced."""

import os
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

_KILL_AT = """
import os, signal
def kill_at(wanted, nth):
    passed = []
    def failpoint(name):
        passed.append(name)
        if name == wanted and passed.count(name) == nth:
            os.kill(os.getpid(), signal.SIGKILL)
    return failpoint
"""


def run_child(program: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a program with `words` as its arguments; `kill_at(name, nth)` is there for it."""
    return subprocess.run(command(program, *words), cwd=ROOT, capture_output=True, text=True, timeout=120)


def start_child(program: str, *words: str) -> subprocess.Popen[str]:
    """Start a program like `run_child`, and do not wait for it."""
    return subprocess.Popen(
        command(program, *words), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def command(program: str, *words: str) -> list[str]:
    """The command line of a program."""
    return [sys.executable, "-c", _KILL_AT + program, *words]


def was_killed(done: subprocess.CompletedProcess[str]) -> bool:
    """Whether the program met its failpoint, and nothing else went wrong before."""
    return done.returncode == -signal.SIGKILL and not done.stderr


def is_root() -> bool:
    """Whether this user may mount file systems and may read everything."""
    return os.geteuid() == 0
