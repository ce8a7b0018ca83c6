"""docs/serving-security.md is true: its commands run in order, and its tables are those of the code."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest
from test_docs_examples import ROOT, commands, environment, write_files

from evaluation.releasing import signing_registry
from model.content import CONTENT_FEATURES
from model.schema import Schema
from server.coordination.config import Participants
from server.serving import limits
from server.serving.authorisation import ALLOWED, HEALTH, RANK, RECORD_EVENTS, REFLECTION
from server.serving.feedback import MAX_BATCH
from server.serving.identity import Role
from server.serving.quotas import STREAMS_AT_ONCE, Quota
from simulation.data import load
from simulation.population import build_population

PAGE = ROOT / "docs" / "serving-security.md"
DIM = 8


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `runs/shop`: the shop of docs/data.md with random weights."""
    folder = tmp_path_factory.mktemp("security")
    write_files(ROOT / "docs" / "data.md", folder)
    data = load(folder / "shop")
    run = folder / "runs" / "shop"
    build_population(run, data.items, data.events, Participants.SHOPPERS)
    schema = Schema(items=len(data.items), content_features=CONTENT_FEATURES, dim=DIM)
    drawn = np.random.default_rng(0).normal(0, 1, schema.shapes()["item_id"]).astype(np.float32)
    registry, signer = signing_registry(run, "shop")
    registry.promote(registry.add({**schema.zeros(), "item_id": drawn}, {"clock": "seconds"}, signer).version)
    return folder


@contextmanager
def serving(words: list[str], folder: Path) -> Iterator[str]:
    """Run a `fedrank serve` of the page on a free port; gives the address."""
    command = [*words, "--port", "0"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=folder, stdout=pipe, text=True, env=environment()) as process:
        assert process.stdout is not None
        ready = process.stdout.readline().split()
        try:
            assert ready[0] == "ready"
            assert "checked" not in ready
            yield ready[1]
        finally:
            process.terminate()


def test_the_commands_of_the_page_run_in_order_and_a_revoked_caller_is_refused(shop: Path) -> None:
    """Make, serve, ask, serve a marketplace, renew, revoke; then the first question once more."""
    lines = commands(PAGE)
    (question,) = [shlex.split(line) for line in lines if line.startswith("fedrank rank")]
    address = ""
    with ExitStack() as stack:
        for line in lines:
            words = shlex.split(line)
            if words[1] == "serve":
                opened = stack.enter_context(serving(words, shop))
                address = address or opened
                continue
            more = ["--address", address] if words[1] == "rank" else []
            done = subprocess.run(
                [*words, *more], cwd=shop, capture_output=True, text=True, env=environment()
            )
            assert done.returncode == 0, done.stderr
        words = [*question, "--address", address]
        for _ in range(30):
            refused = subprocess.run(words, cwd=shop, capture_output=True, text=True, env=environment())
            if refused.returncode:
                break
        assert "the client certificate was revoked" in refused.stderr


def test_the_roles_of_the_page_are_those_of_the_table() -> None:
    """Each row of the page says what `authorisation.py` says."""
    columns = ({RANK}, {RECORD_EVENTS}, set(HEALTH), set(REFLECTION))
    rows = dict(re.findall(r"^\| `(\w+)` ((?:\| (?:yes|no) )+)\|$", PAGE.read_text(), re.MULTILINE))
    assert rows.keys() == set(Role)
    for role, row in rows.items():
        told = [word == "yes" for word in re.findall("yes|no", row)]
        assert told == [column <= ALLOWED[Role(role)] for column in columns]


def test_the_bounds_of_the_page_are_those_of_the_code() -> None:
    """Every number of the page's tables and of its paragraph on quotas."""
    text = re.sub(r"\s+", " ", PAGE.read_text())
    minute, quota = 60, Quota()
    for said in (
        f"| {limits.MAX_REQUEST_BYTES >> 20} MiB, also after decompression; {limits.MAX_RESPONSE_BYTES >> 20} MiB |",
        f"| {limits.MAX_HEADER_BYTES >> 10} KiB |",
        f"`Rank` at most {limits.LONGEST[RANK]:g} s, `RecordEvents` at most {limits.LONGEST[RECORD_EVENTS]:g} s",
        f"{limits.MAX_STREAM_MESSAGES:,} messages of {MAX_BATCH:,} events; {limits.SILENCE_SECONDS:g} s",
        f"| calls in progress at a worker | {limits.MAX_CALLS} |",
        f"| calls on one connection | {limits.MAX_STREAMS_PER_CONNECTION} |",
        f"| connections to a worker (an idle one costs about 71 KiB) | {limits.MAX_CONNECTIONS:,} |",
        f"| {limits.HANDSHAKE_SECONDS} s; {limits.SETTINGS_SECONDS} s; {limits.IDLE_SECONDS // minute} min; "
        f"{limits.AGE_SECONDS // minute} min |",
        f"the third within {limits.PING_SECONDS} s",
        f"{quota.per_second:,.0f} times per second, with a burst of {quota.burst:,.0f} and {quota.at_once} calls",
        f"{STREAMS_AT_ONCE} where a call lasts",
    ):
        assert said in text, said
