"""The index of a large catalogue: it finds what it promises, or nobody uses it."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from model.fusion import fusion_weights
from server.serving import index_build
from server.serving.index import VectorIndex
from server.serving.index_build import JUDGED_AT, build_coarse
from server.serving.index_coarse import Coarse
from server.serving.index_questions import likely_questions

ITEMS, DIM = 20_000, 16
Floats = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def vectors() -> Floats:
    """Items of 40 groups, some of them long, with a prior as the last column."""
    draws = np.random.default_rng(5)
    centres = draws.normal(size=(40, DIM + 1))
    rows = centres[draws.integers(40, size=ITEMS)] + 0.7 * draws.normal(size=(ITEMS, DIM + 1))
    return (rows * (1 + draws.pareto(3, size=(ITEMS, 1)))).astype(np.float32)


def questions_of(vectors: Floats, seed: int) -> Floats:
    """Questions as shoppers ask them."""
    fusion = fusion_weights({"prior_scale": np.full(1, 0.3, dtype=np.float32)})
    groups = np.arange(len(vectors), dtype=np.int32) % 50
    return likely_questions(vectors, DIM, groups, fusion, np.ones(DIM, dtype=np.float32), count=64, seed=seed)


@pytest.fixture(scope="module")
def coarse(vectors: Floats) -> Coarse:
    """An index over them, although they are few."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(index_build, "EXACT_BELOW", 1)
        built = build_coarse(vectors, questions_of(vectors, 1))
    assert built is not None
    return built


def recall(index: VectorIndex, exact: VectorIndex, questions: Floats) -> float:
    """Mean share of the exact best that an index finds."""
    pairs = zip(index.search(questions, JUDGED_AT)[0], exact.search(questions, JUDGED_AT)[0], strict=True)
    return float(np.mean([np.isin(best, found).mean() for found, best in pairs]))


def test_few_items_have_no_index(vectors: Floats) -> None:
    """Below the bound every item is compared."""
    assert build_coarse(vectors, questions_of(vectors, 1)) is None


def test_the_index_finds_what_it_promises_for_other_shoppers(vectors: Floats, coarse: Coarse) -> None:
    """Its recall holds for questions that it was not judged by; scores are exact and in order."""
    everything = np.ones(ITEMS, dtype=np.bool_)
    index, exact = VectorIndex(vectors, everything, coarse), VectorIndex(vectors, everything)
    questions = questions_of(vectors, 2)
    assert coarse.recall >= index_build.RECALL
    assert recall(index, exact, questions) >= 0.98
    items, scores = index.search(questions, JUDGED_AT)
    assert (np.diff(scores, axis=1) <= 0).all()
    np.testing.assert_allclose(scores[3], vectors[items[3]] @ questions[3], rtol=1e-5, atol=1e-5)


def test_questions_one_by_one_and_together_find_the_same(vectors: Floats, coarse: Coarse) -> None:
    """A batch is an economy, not another answer."""
    index = VectorIndex(vectors, np.ones(ITEMS, dtype=np.bool_), coarse)
    questions = questions_of(vectors, 3)[:9]
    together = index.search(questions, 20)[0]
    alone = np.concatenate([index.search(question[None], 20)[0] for question in questions])
    assert np.mean(together == alone) > 0.99


def test_no_barred_item_is_found_and_enough_others_are(vectors: Floats, coarse: Coarse) -> None:
    """With two of three items out of stock, and with all but ten."""
    exact = np.arange(ITEMS) % 3 == 0
    questions = questions_of(vectors, 4)[:8]
    found = VectorIndex(vectors, exact, coarse).search(questions, JUDGED_AT)[0]
    assert exact[found].all()
    assert recall(VectorIndex(vectors, exact, coarse), VectorIndex(vectors, exact), questions) >= 0.97
    ten = np.arange(ITEMS) < 10
    for row in VectorIndex(vectors, ten, coarse).search(questions, 30)[0]:
        assert sorted(row[row >= 0].tolist()) == list(range(10))


def test_items_newer_than_the_index_are_found(vectors: Floats, coarse: Coarse) -> None:
    """They are compared exactly until the index is made again."""
    question = questions_of(vectors, 5)[:1]
    newer = np.concatenate([vectors, 100 * question, -question])
    index = VectorIndex(newer, np.ones(len(newer), dtype=np.bool_), coarse)
    assert index.search(question, 5)[0][0, 0] == ITEMS


@pytest.mark.parametrize("without", ["_STEPS", "_COORDINATES_PER_CODE"])
def test_an_index_is_the_same_after_saving(
    vectors: Floats, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, without: str
) -> None:
    """Of either kind: saved by the builder, loaded by every worker."""
    monkeypatch.setattr(index_build, "EXACT_BELOW", 1)
    monkeypatch.setattr(index_build, without, ())
    coarse = build_coarse(vectors, questions_of(vectors, 1))
    assert coarse is not None
    coarse.save(tmp_path / "index")
    loaded = Coarse.load(tmp_path / "index", items=coarse.items, factor=coarse.factor, recall=coarse.recall)
    questions = questions_of(vectors, 6)
    np.testing.assert_array_equal(loaded.candidates(questions, 50), coarse.candidates(questions, 50))


def test_an_index_that_finds_too_little_is_not_used(
    vectors: Floats, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says so, and every item is compared."""
    monkeypatch.setattr(index_build, "EXACT_BELOW", 1)
    monkeypatch.setattr(index_build, "RECALL", 1.1)
    monkeypatch.setattr(index_build, "_FACTORS", (1,))
    with caplog.at_level(logging.WARNING):
        assert build_coarse(vectors, questions_of(vectors, 1)) is None
    assert "compared with every item" in caplog.text
