"""`make demo`: simulate a federation, serve its model, ask for one shopper's home page, stop.

Everything goes through the `fedrank` command, as a person would use it. The run folder is made anew each time:
the data are simulated, so no real shopper's account is forgotten by that.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import subprocess
import sys
from pathlib import Path

FEDRANK = Path(sys.executable).with_name("fedrank")
STOP_WITHIN = 20


def main() -> None:
    """Run the demo and exit with the first failing step's code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True, help="run folder, replaced")
    run = parser.parse_args().run
    shutil.rmtree(run, ignore_errors=True)
    say("A federated simulation: the catalogues of 114 merchants, the devices of their shoppers, epsilon 8")
    fedrank("simulate", "--curve", "1", "--out", str(run))
    say("The ranking endpoint, in a process of its own")
    endpoint = subprocess.Popen(
        [FEDRANK, "serve", "--run", run, "--port", "0", "--stored-profiles"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        address = ready_address(endpoint)
        shopper = some_shopper()
        say(f"The home page of shopper {shopper} (a household of the simulated data set)")
        fedrank("rank", "--shopper", shopper, "--surface", "home", "-k", "10", "--address", address)
    finally:
        endpoint.send_signal(signal.SIGTERM)
        endpoint.wait(STOP_WITHIN)
    say("What the shoppers have spent of their privacy budget")
    fedrank("privacy", "budget", "--run", str(run), "--merchant", "devices", "--epsilon", "8")
    say(f"Done. Open {run / 'report.html'} in a browser for the whole report.")


def fedrank(*words: str) -> None:
    """Run one command; its output is the demo's."""
    print("$ fedrank", *words, flush=True)
    done = subprocess.run([FEDRANK, *words], check=False)
    if done.returncode:
        sys.exit(done.returncode)


def ready_address(endpoint: subprocess.Popen[str]) -> str:
    """Return the address from the endpoint's line `ready ADDRESS model VERSION`."""
    assert endpoint.stdout is not None  # it was asked for as a pipe
    line = endpoint.stdout.readline()
    print(line, end="", flush=True)
    if not line.startswith("ready "):
        sys.exit("the endpoint did not become ready; its message stands above")
    return line.split()[1]


def some_shopper() -> str:
    """Return a shopper of the embedded data set with an average number of events."""
    import polars as pl

    from simulation.data import load

    counts = load(None).events.group_by("user_id").len().sort("len", "user_id")
    return str(counts.select(pl.col("user_id")).row(len(counts) // 2)[0])


def say(words: str) -> None:
    """Print a heading."""
    print(f"\n== {words}\n", flush=True)


if __name__ == "__main__":
    main()
