"""Judging scorers on a split, and how sure the numbers are."""

from __future__ import annotations

import numpy as np
import pytest
from evaluation_world import random_dataset
from scipy.stats import norm

from evaluation.beyond import Likeness
from evaluation.bootstrap import intervals
from evaluation.errors import ProtocolError, ScoresError
from evaluation.metrics import ACCURACY, Indices, Scores
from evaluation.protocol import Protocol, Result, Scorer, evaluate, paired_difference
from evaluation.split import Split, SplitKind, split


@pytest.fixture(scope="module")
def cut() -> Split:
    """A split by the last item: 200 shoppers, 240 items, one relevant item each."""
    return split(random_dataset(2, shoppers=200, items=240, count=5000), SplitKind.LAST)


def _by_chance(cut: Split, seed: int) -> Scorer:
    scores = np.random.default_rng(seed).random((len(cut.shoppers), len(cut.items)))
    return lambda shoppers: scores[shoppers]


def _oracle(cut: Split) -> Scorer:
    return lambda shoppers: cut.relevant[shoppers].toarray() + 10 * cut.seen[shoppers].toarray()


def test_who_knows_the_test_is_perfect_although_it_prefers_seen_items(cut: Split) -> None:
    """Seen items are masked for everybody, so that their scores do not matter."""
    result = evaluate("oracle", _oracle(cut), cut, ks=(1, 10))
    for metric in ("ndcg@1", "recall@1", "mrr@10", "map@10", "auc"):
        assert result.mean(metric) == 1.0
    assert result.mean("precision@10") == pytest.approx(0.1)
    assert result.shoppers.tolist() == cut.evaluated.tolist()


@pytest.mark.parametrize("protocol", list(Protocol))
def test_random_scores_reach_what_chance_gives(cut: Split, protocol: Protocol) -> None:
    """The mean AUC is within four standard errors of a half; recall@10 is 10 / candidates."""
    result = evaluate("chance", _by_chance(cut, 1), cut, protocol=protocol)
    prefix = "sampled99_" if protocol is Protocol.SAMPLED else ""
    areas = result.per_shopper[f"{prefix}auc"]
    assert abs(areas.mean() - 0.5) < 4 * areas.std() / np.sqrt(areas.size)
    candidates = 100 if protocol is Protocol.SAMPLED else len(cut.items) - cut.seen.nnz / len(cut.shoppers)
    chance = 10 / candidates
    assert abs(result.mean(f"{prefix}recall@10") - chance) < 4 * np.sqrt(chance / areas.size)


def test_the_sampled_protocol_is_named_in_every_metric_and_flatters(cut: Split) -> None:
    """Nobody can mistake its numbers for those of a full ranking."""
    full, sampled = (evaluate("chance", _by_chance(cut, 1), cut, protocol=p) for p in Protocol)
    assert all(metric.startswith("sampled99_") for metric in sampled.summary())
    assert sampled.mean("sampled99_ndcg@10") > 1.5 * full.mean("ndcg@10")
    again = evaluate("chance", _by_chance(cut, 1), cut, protocol=Protocol.SAMPLED)
    other = evaluate("chance", _by_chance(cut, 1), cut, protocol=Protocol.SAMPLED, seed=1)
    assert again.summary() == sampled.summary() != other.summary()


def test_sampled_negatives_are_never_items_of_the_shopper(cut: Split) -> None:
    """A scorer that puts all held-out and all train items first still finds its one item at place one."""
    scorer: Scorer = lambda rows: (cut.held_out[rows] + cut.seen[rows]).toarray()  # noqa: E731
    assert evaluate("own items", scorer, cut, protocol=Protocol.SAMPLED).mean("sampled99_mrr@10") == 1.0


def test_the_sampled_protocol_refuses_a_catalogue_that_is_too_small() -> None:
    """Fewer than 99 foreign items: the message says how many there are."""
    small = split(random_dataset(2, shoppers=20, items=100, count=600), SplitKind.LAST)
    with pytest.raises(ProtocolError, match="use the full protocol"):
        evaluate("chance", _by_chance(small, 0), small, protocol=Protocol.SAMPLED)


def test_blocks_of_shoppers_change_nothing(cut: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    """One block or blocks of three: the same values in the same order."""
    whole = evaluate("chance", _by_chance(cut, 1), cut)
    monkeypatch.setattr("evaluation.protocol._CELLS", 3 * len(cut.items))
    asked: list[int] = []

    def counted(shoppers: Indices) -> Scores:
        asked.append(shoppers.size)
        return _by_chance(cut, 1)(shoppers)

    blocks = evaluate("chance", counted, cut)
    assert max(asked) == 3 and sum(asked) == cut.evaluated.size
    assert blocks.summary() == whole.summary()


def test_the_summary_holds_every_metric_with_an_interval_around_its_mean(cut: Split) -> None:
    """Coverage has no interval; diversity is there because a likeness was given, and says of what."""
    likeness = Likeness.by_category([str(index // 60) for index in range(len(cut.items))])
    result = evaluate("chance", _by_chance(cut, 1), cut, likeness=likeness)
    summary = result.summary()
    names = [*ACCURACY, "coverage", "novelty", "diversity"]
    assert set(summary) == {f"{name}@{k}" for name in names for k in (10, 20)} | {"auc"}
    for metric, ends in summary.items():
        assert ends["low"] <= ends["mean"] <= ends["high"]
        assert (ends["low"] < ends["high"]) != metric.startswith("coverage")
        assert ends["mean"] == pytest.approx(result.mean(metric), abs=1e-12)
    assert result.diversity_by == "category" and summary["diversity@10"]["mean"] > 0.6


def test_the_bootstrap_interval_is_that_of_the_normal_approximation_for_many_shoppers() -> None:
    """Ends within 10 % of mean +- 1.96 standard errors, and the same in blocks of resamples."""
    values = np.random.default_rng(0).gamma(2.0, size=(4000, 2))
    for column, interval in enumerate(intervals(values, 7)):
        error = norm.ppf(0.975) * values[:, column].std() / np.sqrt(4000)
        assert interval.high - interval.mean == pytest.approx(error, rel=0.1)
        assert interval.mean - interval.low == pytest.approx(error, rel=0.1)
    assert intervals(values, 7) == intervals(values, 7) != intervals(values, 8)


def test_large_populations_are_resampled_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tiny memory limit gives the very same intervals."""
    values = np.random.default_rng(0).random((50, 3))
    whole = intervals(values, 1)
    monkeypatch.setattr("evaluation.bootstrap._BLOCK", 350)
    assert intervals(values, 1) == whole


def test_a_paired_difference_sees_what_two_intervals_cannot(cut: Split) -> None:
    """A small gain for every shopper is certain, although the two intervals overlap."""
    first = evaluate("first", _by_chance(cut, 1), cut)
    gained = {"auc": first.per_shopper["auc"] + 0.01}
    second = Result(
        name="second",
        protocol=Protocol.FULL,
        shoppers=first.shoppers,
        per_shopper=gained,
        overall={},
        diversity_by=None,
    )
    difference = paired_difference(second, first, "auc")
    assert difference.low == pytest.approx(0.01) and difference.high == pytest.approx(0.01)
    assert second.summary()["auc"]["low"] < first.summary()["auc"]["high"]


def test_only_like_is_compared_with_like(cut: Split) -> None:
    """Other shoppers, another protocol or an unknown metric are errors."""
    full, sampled = (evaluate("chance", _by_chance(cut, 1), cut, protocol=p) for p in Protocol)
    with pytest.raises(ProtocolError, match="same shoppers"):
        paired_difference(full, sampled, "auc")
    with pytest.raises(ProtocolError, match=r"'ndcg@7'.*known are"):
        full.mean("ndcg@7")
    with pytest.raises(ProtocolError, match="1 or more"):
        evaluate("chance", _by_chance(cut, 1), cut, ks=(0,))
    with pytest.raises(ScoresError, match="shape"):
        evaluate("narrow", lambda rows: np.zeros((rows.size, 3)), cut)
