"""The commands of the README run as they stand, on a small shop of our own."""

from __future__ import annotations

import json
import os
import random
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from google.protobuf import json_format

from proto.fedrank.ranking.v1 import ranking_pb2 as pb
from proto.fedrank.ranking.v1.ranking_pb2_grpc import RankingServiceStub

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PYTHON = README.split("```python\n")[1].split("```")[0]
GRPCURL = next(line for line in README.splitlines() if line.startswith("grpcurl "))
COMMANDS = [line for line in README.splitlines() if line.startswith(".venv/bin/fedrank ")]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with `my-shop` (90 shoppers with a taste, 45 items) and the command under `.venv/bin`."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "my-shop").mkdir()
    draw = random.Random(0)
    rows = ["user_id,item_id,kind,timestamp"]
    for shopper in range(90):
        for _ in range(12):
            taste = shopper % 3 if draw.random() < 0.8 else draw.randrange(3)
            second = 1_700_000_000 + 86_400 * draw.randrange(120)
            rows.append(f"u{shopper},i{15 * taste + draw.randrange(15)},purchase,{second}")
    (folder / "my-shop" / "events.csv").write_text("\n".join(rows), encoding="utf-8")
    (folder / ".venv").symlink_to(Path(sys.executable).parent.parent)
    return folder


def run(command: str, folder: Path) -> str:
    """Run one command line of the README and return its output."""
    done = subprocess.run(command.split(), cwd=folder, capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stderr
    return done.stdout


def python(program: str) -> str:
    """Run a program of the README and return its output."""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def command(word: str) -> str:
    """Return the README's command with this word."""
    return next(line for line in COMMANDS if f"fedrank {word} " in line)


def history(shop: Path) -> list[dict[str, object]]:
    """What the README's copy of one shopper holds of its events, over all holders."""
    run(command("subject export"), shop)
    copy = json.loads((shop / "u7.json").read_text(encoding="utf-8"))
    (shop / "u7.json").unlink()  # a copy is never overwritten
    return [event for holder in copy["holders"] for event in holder["events"]]


def test_every_command_of_the_readme_is_run_below() -> None:
    """A command that is added to the README has to be added here."""
    words = [line.removeprefix(".venv/bin/fedrank ").split(" -")[0] for line in COMMANDS]
    assert words == [
        "data check my-shop",
        "simulate",
        "privacy budget",
        "serve",
        "rank",
        "subject export u7",
        "consent withdraw u7",
        "keys rotate",
        "db backup runs/my-shop/store/events.db events.backup",
        "subject erase u7",
        "subject verify receipt.json",
    ]


def test_the_readme_leads_from_data_to_a_ranking(shop: Path) -> None:
    """Check, simulate, look at the budget, serve and rank, in the README's order."""
    assert "90" in run(command("data"), shop)
    assert "epsilon = 8" in " ".join(run(command("simulate"), shop).split())
    assert "devices" in run(command("privacy"), shop)
    serve = command("serve").replace("--port 8443", "--port 0").split()
    endpoint = subprocess.Popen(serve, cwd=shop, stdout=subprocess.PIPE, text=True)
    try:
        assert endpoint.stdout is not None
        address = endpoint.stdout.readline().split()[1]
        answer = json.loads(run(command("rank").replace("127.0.0.1:8443", address) + " --json", shop))
        printed = python(PYTHON.replace("127.0.0.1:8443", address))
        body = json_format.Parse(shlex.split(GRPCURL)[shlex.split(GRPCURL).index("-d") + 1], pb.RankRequest())
        with grpc.insecure_channel(address) as channel:
            told = RankingServiceStub(channel).Rank(body, timeout=10)  # type: ignore[no-untyped-call]
    finally:
        endpoint.send_signal(signal.SIGTERM)
        assert endpoint.wait(20) == 0
    items = [item["item_id"] for item in answer["items"]]
    assert len(items) == len(set(items)) == 10
    assert [line.split()[0] for line in printed.splitlines()] == ["1", "2", "3", "4", "5"]
    assert len(told.items) == 5


def test_the_budget_of_the_readme_run_is_spent_for_good(shop: Path) -> None:
    """The same command again is refused with exit code 4, as the README says."""
    again = subprocess.run(command("simulate").split(), cwd=shop, capture_output=True, text=True)
    assert again.returncode == 4
    assert "privacy budget is used up" in again.stderr
    assert "Traceback" not in again.stderr


def test_a_shopper_of_the_readme_run_is_shown_everything_and_then_forgotten(shop: Path) -> None:
    """Copy, withdrawal, rotation, backup, erasure and receipt, in the README's order."""
    assert len(history(shop)) > 0
    for word in ("consent", "keys", "db", "subject erase"):
        run(command(word), shop)
    assert (shop / "events.backup").stat().st_size > 0
    assert "devices" in run(command("subject verify"), shop)
    assert history(shop) == []
