"""`fedrank bench simulation`: shoppers per CPU-second and memory, beside other simulators and as sizes grow.

All simulators compute the same clipped per-shopper update on the same shoppers (`peers/work.py`), each in a
process of its own and on one thread, warm. What they computed is compared in the same run.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from evaluation.bench.rows import Row
from evaluation.bench.simulation_scale import scale_rows
from evaluation.errors import EvaluationError, SettingsError
from evaluation.settings import Watch

PER_CPU_SECOND = "shoppers per CPU-second"
LIMIT_S = 900.0
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}


@dataclass(frozen=True, kw_only=True)
class Peer:
    """One simulator.

    Attributes:
        module: in `evaluation.bench.peers`.
        words: what it is.
        needs: package that it cannot do without, and how to install that; None where fedrank has it anyway.
        cohort, rounds: shoppers in a round, and how many rounds are measured after the warming one.
        target: least ratio of our shoppers per CPU-second to its own.
    """

    module: str
    words: str
    needs: tuple[str, str] | None = None
    cohort: int = 400
    rounds: int = 3
    target: float | None = None


OURS = Peer(module="ours", words="ours", rounds=150)
PFL = Peer(
    module="pfl_research",
    words="pfl-research",
    needs=("pfl", "make install-bench, or pip install 'fedrank[bench]'"),
    target=120.0,
)
LOOP = Peer(module="plain_loop", words="a plain torch loop over shoppers")
OPACUS = Peer(module="opacus_samples", words="Opacus GradSampleModule")
RAY = Peer(
    module="flower_ray",
    words="Flower's Ray simulation, one node per shopper",
    needs=("ray", "pip install 'fedrank[simulation]'"),
    rounds=1,
    target=1000.0,
)


class PeerFailed(EvaluationError):
    """A simulator ended without a figure, or computed something else."""


@dataclass(frozen=True)
class Speed:
    """What one simulator reached on the common work.

    Attributes:
        per_cpu_second: shoppers, by the median round.
        distance: of its clipped sum from ours, in L2, relative to ours; on the shoppers of its first round.
    """

    peer: Peer
    per_cpu_second: float
    peak_gib: float
    distance: float


def run(*, quick: bool, watch: Watch) -> list[Row]:
    """Measure ours, every other simulator, and ours at larger sizes.

    Args:
        quick: smaller cohorts of the slow simulators, Ray's left out, and smaller sizes; the rows' words say so.

    Raises:
        SettingsError: a simulator is not installed; says how to install it.
        PeerFailed: a simulator failed.
    """
    peers = _wanted(quick)
    watch.begin("simulators on the same work", len(peers))
    speeds = [_speed(peer, watch) for peer in peers]
    return [*_peer_rows(speeds), *scale_rows(quick=quick, watch=watch)]


def _wanted(quick: bool) -> list[Peer]:
    """Return the simulators to measure, all of them installed."""
    peers = [OURS, PFL, LOOP, OPACUS, RAY]
    if quick:
        peers = [OURS, *(replace(peer, cohort=100, rounds=2) for peer in peers[1:-1])]
    for peer in peers:
        if peer.needs and importlib.util.find_spec(peer.needs[0]) is None:
            package, remedy = peer.needs
            raise SettingsError(
                f"{peer.words} is measured beside ours and {package} is not installed: {remedy}"
            )
    return peers


def _speed(peer: Peer, watch: Watch) -> Speed:
    """Run one simulator in a process of its own.

    Raises:
        PeerFailed: with the last line that it wrote.
    """
    from safetensors.numpy import load_file

    with TemporaryDirectory() as folder:
        sums = Path(folder) / "sums.safetensors"
        words = [peer.module, "--cohort", str(peer.cohort), "--rounds", str(peer.rounds), "--sums", str(sums)]
        command = [sys.executable, "-m", "evaluation.bench.peers", *words]
        done = subprocess.run(
            command, env={**os.environ, **ENVIRONMENT}, capture_output=True, text=True, timeout=LIMIT_S
        )
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or ["it wrote nothing"])[-1]
            raise PeerFailed(f"{peer.words} ended with code {done.returncode}: {last}")
        found = json.loads(done.stdout.splitlines()[-1])
        distance = distance_from_ours(load_file(sums), peer.cohort)
    watch.step()
    per_round = float(np.median(found["cpu_seconds"]))
    return Speed(peer, peer.cohort / per_round, float(found["peak_gib"]), distance)


def distance_from_ours(sums: Mapping[str, NDArray[np.float32]], cohort: int) -> float:
    """Return |theirs - ours| / |ours| over all parameters, for the first `cohort` shoppers of the work."""
    from evaluation.bench.peers.ours import clipped_sum
    from evaluation.bench.peers.work import ml_1m_work

    work = ml_1m_work()
    ours = clipped_sum(work, work.examples.part(0, cohort))
    if ours.keys() != sums.keys():
        raise PeerFailed(f"a simulator trained {sorted(sums)}; the work has {sorted(ours)}")
    apart = sum(float(np.square(sums[name].ravel() - ours[name].ravel()).sum()) for name in ours)
    return float(np.sqrt(apart / sum(float(np.square(value).sum()) for value in ours.values())))


def _peer_rows(speeds: list[Speed]) -> list[Row]:
    """Return the rows of all simulators: speed, memory, ratio to ours, and that they did the same work."""
    ours = speeds[0]
    rows = []
    for speed in speeds:
        words = f"{speed.peer.words}: rounds of {speed.peer.cohort} shoppers"
        rows.append(Row(measure=words, value=speed.per_cpu_second, unit=PER_CPU_SECOND))
        rows.append(Row(measure=f"{speed.peer.words}: peak memory", value=speed.peak_gib, unit="GiB"))
    for speed in speeds[1:]:
        ratio = ours.per_cpu_second / speed.per_cpu_second
        rows.append(
            Row(measure=f"ours / {speed.peer.words}", value=ratio, unit="ratio", target=speed.peer.target)
        )
    apart = max(speed.distance for speed in speeds)
    words = "largest relative distance of a simulator's clipped sum from ours"
    rows.append(Row(measure=words, value=apart, unit="ratio", target=1e-4, at_least=False))
    return rows
