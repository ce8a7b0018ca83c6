"""While callers keep asking: versions are promoted, workers stop, the endpoint is started anew. Nobody notices."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from endpoint_process import children, eventually, serving

from client.ranking import RankingClient, RankingError, Retries
from client.ranking_words import HistoryEvent, Question, Surface
from model.schema import Weights
from privacy.signing import ReleaseSigner
from server.registry import Registry
from server.serving.engine import Engine
from server.serving.wire import read_query

NOW = 1_700_000_000
CALLERS = 3
QUESTION = Question(
    surface=Surface.HOME,
    k=40,
    timestamp=NOW,
    history=[
        HistoryEvent(item_id=f"item-{number:02d}", kind="view", time=NOW - number) for number in range(9)
    ],
)
Placed = tuple[tuple[str, float], ...]


@dataclass
class Heard:
    """What the callers got: failures in words, and every different answer by the version it names."""

    failures: list[str] = field(default_factory=list)
    answers: dict[str, set[Placed]] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)


def ask(address: str, heard: Heard, stop: threading.Event, retries: Retries) -> None:
    """Ask one question over and over, on connections that are changed now and then."""
    while not stop.is_set():
        with RankingClient(address, timeout=20, retries=retries) as client:
            for _ in range(25):
                try:
                    ranking = client.rank(QUESTION)
                except RankingError as error:
                    heard.failures.append(f"{type(error).__name__}: {error}")
                    continue
                placed = tuple((item.item_id, item.score or 0.0) for item in ranking.items)
                heard.answers.setdefault(ranking.model_version, set()).add(placed)
                heard.calls[ranking.model_version] += 1


@contextmanager
def callers(address: str, retries: Retries) -> Iterator[Heard]:
    """Keep asking while the block runs."""
    heard, stop = Heard(), threading.Event()
    threads = [threading.Thread(target=ask, args=(address, heard, stop, retries)) for _ in range(CALLERS)]
    for thread in threads:
        thread.start()
    try:
        yield heard
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@pytest.fixture
def versions(registry: Registry, weights: Weights, signer: ReleaseSigner) -> list[str]:
    """Three versions that list items in very different orders; the first is promoted."""
    drawn = (np.random.default_rng(seed).permutation(weights["item_id"]) for seed in (1, 2))
    card = {"clock": "seconds"}
    others = [registry.add({**weights, "item_id": items}, card, signer).version for items in drawn]
    first = registry.promoted()
    assert first is not None
    return [first, *others]


def alone(run: Path, version: str) -> Placed:
    """What a version answers when it is served alone."""
    engine = Engine.load(Registry(run / "registry"), run / "catalogue.parquet", version=version)
    (ranking,) = engine.rank([read_query(QUESTION.to_wire("r"), NOW)])
    return tuple((item.item_id, item.score) for item in ranking.listed())


def same(one: Placed, other: Placed) -> bool:
    """Whether two lists have the same order and scores, up to the rounding of sums in another order."""
    items, scores = zip(*one, strict=True)
    others, other_scores = zip(*other, strict=True)
    return items == others and np.allclose(scores, other_scores, atol=1e-3)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_promotions_under_load_fail_no_call_and_mix_no_versions(
    stocked: Path, registry: Registry, versions: list[str], workers: str
) -> None:
    """Every answer, without a single retry, is to the last score the one that its version gives alone."""
    words = ("--show-scores", "--refresh-seconds", "0.1", "--workers", workers)
    with serving(stocked, *words) as (_, address), callers(address, Retries(attempts=1)) as heard:
        for turn in range(1, 6):
            wanted = versions[turn % len(versions)]
            registry.promote(wanted)
            before = heard.calls[wanted]
            eventually(lambda wanted=wanted, before=before: heard.calls[wanted] > before + 20)  # type: ignore[misc]
    assert heard.failures == []
    by_version = {version: alone(stocked, version) for version in versions}
    assert heard.answers.keys() == by_version.keys()
    for version, placed in by_version.items():
        assert all(same(answer, placed) for answer in heard.answers[version])
        assert not any(same(placed, other) for name, other in by_version.items() if name != version)


def test_a_worker_that_is_stopped_under_load_fails_no_call(stocked: Path) -> None:
    """SIGTERM drains a worker, its parent starts another, and a client that reconnects sees neither."""
    with (
        serving(stocked, "--workers", "2") as (process, address),
        callers(address, Retries(attempts=60)) as heard,
    ):
        stopped = children(process)[0]
        os.kill(stopped, signal.SIGTERM)
        eventually(lambda: stopped not in children(process) and len(children(process)) == 2)
        before = sum(heard.calls.values())
        eventually(lambda: sum(heard.calls.values()) > before + 40)
    assert heard.failures == []


def test_an_endpoint_that_is_started_anew_under_load_fails_no_call(stocked: Path) -> None:
    """The old one drains and ends, the new one opens the same port, and the client's retries bridge the gap."""
    with (
        serving(stocked) as (first, address),
        ExitStack() as second,
        callers(address, Retries(attempts=60)) as heard,
    ):
        eventually(lambda: sum(heard.calls.values()) > 40)
        first.send_signal(signal.SIGTERM)
        assert first.wait(30) == 0
        second.enter_context(serving(stocked, "--port", address.rpartition(":")[2]))
        before = sum(heard.calls.values())
        eventually(lambda: sum(heard.calls.values()) > before + 40)
    assert heard.failures == []
