"""One small shop with canaries in it, and a folder for everything that software writes down about it.

All output, the log records of all libraries at every level, and all temporary files go there, to be scanned.
"""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SHOPPER, TITLE, QUERY = "qzvkwxjyhfpt", "xkqjzvwhyfbp", "vjxqkzpwfyhg"
EVENT, ORIGIN = "zqxwvkjhpfyb", "wyxqjkvzhgfp"
"""Words of shopper ids, item titles, searches, event ids and origins of consent; no dictionary has them."""

PUBLIC = {"item title": TITLE}
PRIVATE = {"shopper id": SHOPPER, "search": QUERY, "event id": EVENT, "origin of consent": ORIGIN}
SHOPPERS, ITEMS, START = 40, 20, 1_700_000_000

COMMANDS = Path(__file__).with_name("canary_commands.py")


def shopper_id(number: int) -> str:
    """An id as shops use them: an address, with characters that escapes change."""
    return f"{SHOPPER}.{number:02d}+käufer@shop.example"


def write_data(folder: Path) -> Path:
    """Write the data set of the shop: two merchants, eight purchases of each shopper, a canary in every title."""
    folder.mkdir()
    items = [f"i{number:02d}" for number in range(ITEMS)]
    with (folder / "events.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["user_id", "item_id", "kind", "timestamp"])
        for shopper in range(SHOPPERS):
            for step in range(8):
                item = items[2 * ((shopper + 3 * step) % 10) + shopper % 2]
                writer.writerow([shopper_id(shopper), item, "purchase", START + 86_400 * step + shopper])
        writer.writerow([shopper_id(0), items[0], "purchase", "yesterday"])
    with (folder / "items.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["item_id", "title", "category", "merchant_id"])
        writer.writerows([item, f"tea {TITLE} {item}", "tea", f"m{n % 2}"] for n, item in enumerate(items))
    return folder


@dataclass(frozen=True, kw_only=True)
class Shop:
    """Folders of one shop: `data` and `told` are the person's and the operator's own, `written` is scanned."""

    root: Path

    @property
    def data(self) -> Path:
        """The user's own files: not scanned."""
        return self.root / "data"

    @property
    def told(self) -> Path:
        """What is told to the person whose data they are: not scanned."""
        return self.root / "told"

    @property
    def written(self) -> Path:
        """Everything that may hold no canary: run folder, backups, logs, outputs, receipts, temporary files."""
        return self.root / "written"

    @property
    def run_folder(self) -> Path:
        """The run folder."""
        return self.written / "run"

    @property
    def outputs(self) -> Path:
        """Standard output, standard error and log of each command."""
        return self.written / "outputs"

    @contextmanager
    def opened(self) -> Iterator[Running]:
        """Make the folders and the data set, and run commands until the end of the block."""
        for folder in (self.told, self.written, self.outputs, self.written / "tmp", self.written / "home"):
            folder.mkdir(parents=True)
        write_data(self.data)
        with (
            (self.outputs / "loading.err").open("w") as error,
            self.started("loading", [], stdin=subprocess.PIPE, stderr=error) as commands,
        ):
            yield Running(root=self.root, commands=commands)

    def started(self, name: str, words: Sequence[str], **streams: Any) -> subprocess.Popen[str]:
        """Start the command line that logs into the file of this name; without words, one that takes commands."""
        return subprocess.Popen(
            [sys.executable, str(COMMANDS), str(self.outputs / f"{name}.log"), *words],
            stdout=subprocess.PIPE,
            text=True,
            cwd=self.written,
            env=self.settings(),
            **streams,
        )

    def settings(self) -> dict[str, str]:
        """The environment of every command: temporary and home folders that are scanned, and much talk."""
        folder = {name: str(self.written / "tmp") for name in ("TMPDIR", "TEMP", "TMP")}
        talk = {"GRPC_VERBOSITY": "debug", "PYTHONASYNCIODEBUG": "1", "HOME": str(self.written / "home")}
        one_thread = {"OPENBLAS_NUM_THREADS": "1"}
        root = {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
        return {**os.environ, **folder, **talk, **one_thread, **root}


@dataclass(frozen=True, kw_only=True)
class Running(Shop):
    """A shop whose commands are run by a process that has loaded them."""

    commands: subprocess.Popen[str]

    def run(self, name: str, *words: str, expect: int | None = 0, tells: bool = False) -> str:
        """Run `fedrank WORDS` to its end and keep what it wrote under `name`; return its standard output.

        `tells`: what it prints is meant for whoever asked, so it is kept out of the scan.
        """
        output, error = (self.told if tells else self.outputs) / f"{name}.out", self.outputs / f"{name}.err"
        log = self.outputs / f"{name}.log"
        wanted = {"log": str(log), "output": str(output), "error": str(error), "words": words}
        assert self.commands.stdin is not None and self.commands.stdout is not None
        self.commands.stdin.write(json.dumps(wanted) + "\n")
        self.commands.stdin.flush()
        code = int(self.commands.stdout.readline())
        wrong = code == 0 if expect is None else code != expect
        assert not wrong, f"{name}: {code}\n{error.read_text()[-3000:]}"
        return output.read_text()

    @contextmanager
    def serving(self, name: str, *words: str, end: signal.Signals = signal.SIGTERM) -> Iterator[str]:
        """Run `fedrank serve` on a free port, give its address, end it and keep what it wrote."""
        with (
            (self.outputs / f"{name}.out").open("w") as output,
            (self.outputs / f"{name}.err").open("w") as error,
        ):
            words = ("serve", "--run", str(self.run_folder), "--port", "0", "--stored-profiles", *words)
            process = self.started(name, words, stderr=error)
            assert process.stdout is not None
            try:
                line = process.stdout.readline()
                assert line.startswith("ready "), (self.outputs / f"{name}.err").read_text()
                yield line.split()[1]
                process.send_signal(end)
                output.write(line + process.communicate(timeout=30)[0])
                assert process.returncode == (0 if end is signal.SIGTERM else -end)
            finally:
                process.kill()
                process.wait()
