"""The items nearest to questions: an answer depends on its question alone, and on nothing that is barred."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from ranking_world import HOME, bought, ids, rank

from server.registry import Registry
from server.serving.engine import Engine
from server.serving.policy import Policy, SurfacePolicy
from server.serving.query import Surface

KNOBS = SurfacePolicy(diversity=0.3, exploration_share=0.4)
QUESTIONS = [
    replace(HOME, k=2, seed="one"),
    replace(HOME, k=3, seed="two", history=bought(4, 9)),
    replace(HOME, k=14, seed="three", history=bought(*range(20))),
    replace(HOME, k=5, seed="four", surface=Surface.DETAIL, item_id="item-07"),
    replace(HOME, k=5, seed="five", surface=Surface.SEARCH, words="tea"),
]


@pytest.fixture
def knobs_on(run_folder: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """An engine that moves and draws among the candidates, of which there are fewer than items."""
    monkeypatch.setattr("server.serving.engine.POOL", 8)
    policy = Policy(surfaces=dict.fromkeys(Surface, KNOBS))
    return Engine.load(registry, run_folder / "catalogue.parquet", policy=policy)


@pytest.mark.parametrize("exact", [True, False])
def test_with_knobs_on_an_answer_is_the_same_alone_and_in_any_batch(
    knobs_on: Engine, monkeypatch: pytest.MonkeyPatch, exact: bool
) -> None:
    """The same items, as many candidates and the same propensities, beside questions that look deeper."""
    index = knobs_on.snapshot.index
    search = index.search

    def missing_more_when_shallow(
        queries: npt.NDArray[np.float32], m: int
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        items, scores = search(queries, m)
        return np.where(items % 7 == m % 7, -1, items), scores

    if not exact:
        monkeypatch.setattr(index, "search", missing_more_when_shallow)
        monkeypatch.setattr(index, "exact", False)
    for batch in (QUESTIONS, QUESTIONS[::-1], [*QUESTIONS[1:], *QUESTIONS]):
        for together, question in zip(knobs_on.rank(batch), batch, strict=True):
            alone = rank(knobs_on, question)
            assert ids(together) == ids(alone)
            assert together.candidates == alone.candidates
            assert together.propensities is not None and alone.propensities is not None
            assert together.propensities.tolist() == alone.propensities.tolist()
