"""Measure one simulator in this process: `python -m evaluation.bench.peers NAME --cohort 400 --rounds 3 ...`."""

from __future__ import annotations

import argparse
import json
import os
from importlib import import_module
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from threadpoolctl import threadpool_limits

from evaluation.bench.peers.measuring import Measured
from evaluation.bench.peers.work import SHOPPERS, ml_1m_work

PEERS = ("ours", "pfl_research", "plain_loop", "opacus_samples", "flower_ray")


def main() -> None:
    """Print one JSON object: CPU seconds of each round, and peak memory; write the first round's sums."""
    parser = argparse.ArgumentParser()
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("--cohort", type=int, required=True)
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--sums", type=Path, required=True)
    wanted = parser.parse_args()
    found = _measured(wanted.peer, wanted.cohort, wanted.rounds)
    save_file(found.sums, wanted.sums)
    print(json.dumps({"cpu_seconds": found.cpu_seconds, "peak_gib": found.peak_gib}))


def _measured(peer: str, cohort: int, rounds: int) -> Measured:
    """Return what the peer took for a warming round and `rounds` more, each over the next shoppers."""
    os.environ["OMP_NUM_THREADS"] = "1"
    module = import_module(f"evaluation.bench.peers.{peer}")
    starts = cohort * (np.arange(rounds + 1) % (SHOPPERS // cohort))
    cohorts = [np.arange(start, start + cohort) for start in starts]
    with threadpool_limits(1):
        found: Measured = module.measure(ml_1m_work(), cohorts)
    return found


if __name__ == "__main__":
    main()
