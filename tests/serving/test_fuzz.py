"""Bounded runs of the coverage-guided fuzzer; longer ones by hand: see `fuzz_requests.py`."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from proto.fedrank.ranking.v1 import ranking_pb2 as pb

ROOT = Path(__file__).resolve().parents[2]
SECONDS = int(os.environ.get("FEDRANK_FUZZ_SECONDS", "5"))


def test_coverage_guided_fuzzing_finds_no_request_that_is_a_fault_of_the_endpoint(
    run_folder: Path, tmp_path: Path
) -> None:
    """From good questions, events and names on, for a bounded time."""
    if importlib.util.find_spec("atheris") is None:
        pytest.skip(
            "NOT FUZZED: the package atheris is missing; install fedrank[dev] and run this test again"
        )
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    history: Any = {"events": [{"item_id": "item-03", "kind": 3, "time": {"seconds": 1_699_999_000}}]}
    moment: Any = {
        "event_id": "e",
        "shopper": "s",
        "item_id": "item-01",
        "timestamp": {"seconds": 1_699_999_000},
    }
    seeds = [
        b"\x00" + pb.RankRequest(surface=surface, k=9, query="tea", item_id="item-01").SerializeToString()
        for surface in pb.Surface.keys()[1:]
    ]
    asked = pb.RankRequest(surface=pb.SURFACE_CART, k=9, history=history, session=history)
    told = pb.RecordEventsRequest(
        events=[
            pb.Event(**moment, interaction={"kind": 3}),
            pb.Event(**moment, impression={"surface": 1, "rank": 1}),
        ]
    )
    seeds += [b"\x00" + asked.SerializeToString(), b"\x01" + told.SerializeToString()]
    seeds.append(b"\x02spiffe://shop.example/merchant/tea-house/storefront")
    for number, seed in enumerate(seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    script = ROOT / "tests" / "serving" / "fuzz_requests.py"
    words = [f"-max_total_time={SECONDS}", "-max_len=4096", "-timeout=10", "-print_final_stats=1"]
    done = subprocess.run(
        [sys.executable, str(script), str(run_folder), str(corpus), *words],
        cwd=tmp_path,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    counted = re.search(r"number_of_executed_units:\s*(\d+)", done.stderr)
    assert counted is not None
    assert int(counted[1]) > 100
