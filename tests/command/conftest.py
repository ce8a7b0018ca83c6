"""A small shop as files, and the command line run in this process."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import polars as pl
import pytest

from fedrank import cli

SHOPPERS = 40
START = 1_700_000_000


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of CSV files: 40 shoppers, 20 items of two merchants, two tastes."""
    folder = tmp_path_factory.mktemp("shops") / "toy-shops"
    folder.mkdir()
    rows = [
        {
            "user_id": f"shopper-{shopper:02d}",
            "item_id": f"i{2 * ((shopper + 3 * step) % 10) + shopper % 2:02d}",
            "kind": "purchase",
            "timestamp": START + 86_400 * step + shopper,
        }
        for shopper in range(SHOPPERS)
        for step in range(8)
    ]
    pl.DataFrame(rows).write_csv(folder / "events.csv")
    items = [
        {
            "item_id": f"i{index:02d}",
            "title": f"{('tea', 'lamp')[index % 2]} {index}",
            "category": ("tea", "lamp")[index % 2],
            "merchant_id": f"m{index // 10}",
        }
        for index in range(20)
    ]
    pl.DataFrame(items).write_csv(folder / "items.csv")
    return folder


def run_here(*words: str) -> subprocess.CompletedProcess[str]:
    """Run `fedrank WORDS` in this process: exit code, standard output and error."""
    printed, told = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", newline="") for _ in range(2))
    argv, sys.argv = sys.argv, ["fedrank", *words]
    try:
        with redirect_stdout(printed), redirect_stderr(told), pytest.raises(SystemExit) as done:
            cli.main()
    finally:
        sys.argv = argv
    texts = []
    for stream in (printed, told):
        stream.seek(0)
        texts.append(stream.read())
    return subprocess.CompletedProcess(words, int(done.value.code or 0), *texts)


@pytest.fixture(scope="session")
def fedrank() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Give a function that runs `fedrank WORDS` in this process: exit code, standard output and error."""
    return run_here
