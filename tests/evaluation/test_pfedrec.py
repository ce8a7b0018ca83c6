"""PFedRec for all shoppers at once, and the two rules for its negatives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from evaluation_world import Row, dataset, random_dataset

from evaluation.both_samplers import pfedrec_rows
from evaluation.errors import ProtocolError, SettingsError
from evaluation.leave_one_out import judge
from evaluation.metrics import Indices, Scores
from evaluation.negatives import NegativePool, NegativeRule
from evaluation.pfedrec import Settings, _drawn, _mean_change, _Samples, _State, _trained, pfedrec
from evaluation.split import Split, SplitKind, split

SMALL = Settings(rounds=1, dim=4, batch=7, item_rate=0.5)


@pytest.fixture(scope="module")
def cut() -> Split:
    """Four tastes among 160 items; every shopper's last new item is held out."""
    return split(random_dataset(7, shoppers=90, items=160, count=2700), SplitKind.LAST)


def _one_by_one(state: _State, samples: _Samples, shopper: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Train one shopper with plain torch: the item table and the score function (w, b) after its round."""
    table = torch.nn.Parameter(torch.tensor(state.items))
    w, b = (
        torch.nn.Parameter(torch.tensor(state.w[shopper])),
        torch.nn.Parameter(torch.tensor(state.b[shopper])),
    )
    scoring = torch.optim.SGD([w, b], lr=SMALL.rate)
    embedding = torch.optim.SGD([table], lr=SMALL.rate * SMALL.item_rate * len(table))
    mine = samples.shoppers == shopper
    for batch in range(int(samples.batches[mine].max()) + 1):
        chosen = mine & (samples.batches == batch)
        items = torch.tensor(samples.items[samples.pair[chosen]])
        labels = torch.tensor(samples.labels[chosen])
        for optimiser in (scoring, embedding):
            optimiser.zero_grad()
            torch.nn.functional.binary_cross_entropy_with_logits(table[items] @ w + b, labels).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    return table.detach(), torch.cat([w.detach(), b.detach()[None]])


def test_a_round_equals_every_shopper_training_alone_and_the_server_averaging() -> None:
    """Against plain torch on full tables, one shopper after the other, mini-batch by mini-batch."""
    cut = split(random_dataset(7, shoppers=12, items=40, count=200), SplitKind.LAST)
    random = np.random.default_rng(0)
    state = _State.start(cut, SMALL.dim, random)
    samples = _drawn(cut, NegativePool.of(cut, NegativeRule.LEAK_FREE), SMALL, random)
    alone = [_one_by_one(state, samples, shopper) for shopper in range(len(cut.shoppers))]
    served = state.items.copy()
    local = _trained(state, samples, SMALL)
    for shopper, (table, scoring) in enumerate(alone):
        mine = samples.owners == shopper
        np.testing.assert_allclose(local[mine], table[samples.items[mine]], atol=1e-4)
        np.testing.assert_allclose(np.append(state.w[shopper], state.b[shopper]), scoring, atol=1e-5)
    mean = served + _mean_change(samples, local - served[samples.items], len(served), len(alone))
    np.testing.assert_allclose(mean, torch.stack([table for table, _ in alone]).mean(0), atol=1e-5)


def test_every_positive_gets_its_negatives_and_mini_batches_have_the_size(cut: Split) -> None:
    """Four negatives for each train item of each shopper; no mini-batch of a shopper is larger than asked for."""
    pool = NegativePool.of(cut, NegativeRule.LEAK_FREE)
    samples = _drawn(cut, pool, SMALL, np.random.default_rng(1))
    positive = samples.labels > 0
    owned = np.diff(cut.positives.indptr)
    assert (np.bincount(samples.shoppers[positive]) == owned).all()
    assert (np.bincount(samples.shoppers[~positive]) == 4 * owned).all()
    train = cut.seen.toarray() > 0
    assert (
        train[samples.shoppers, samples.items[samples.pair]].astype(np.float32).tolist()
        == samples.labels.tolist()
    )
    _, sizes = np.unique(np.stack([samples.shoppers, samples.batches]), axis=1, return_counts=True)
    assert sizes.max() == SMALL.batch


@pytest.mark.parametrize("rule", list(NegativeRule))
def test_only_the_published_rule_spares_the_held_out_items(cut: Split, rule: NegativeRule) -> None:
    """Both avoid train; leak-free negatives hit each allowed item equally often, the held-out one included."""
    shoppers = np.arange(len(cut.shoppers), dtype=np.int64)
    numbers = np.random.default_rng(3).random((len(shoppers), 2000))
    items = NegativePool.of(cut, rule).pick(shoppers, numbers)
    drawn = np.stack([np.bincount(row, minlength=len(cut.items)) for row in items])
    assert drawn[cut.seen.toarray() > 0].sum() == 0
    held_out = drawn[cut.held_out.toarray() > 0]
    free = (cut.seen.toarray() == 0).sum(axis=1)
    expected = 0.0 if rule is NegativeRule.PUBLISHED else float((2000 / free).mean())
    assert held_out.mean() == pytest.approx(expected, rel=0.1)


def test_the_published_rule_lifts_the_same_model(cut: Split) -> None:
    """Nothing but the rule differs, and yet many more held-out items are found."""
    settings = Settings(rounds=30, dim=8)
    leaking, honest = (judge(pfedrec(cut, 0, rule, settings), cut, 0).hit_rate for rule in NegativeRule)
    assert leaking > honest + 0.1


def test_the_same_seed_gives_the_same_ranker_and_another_seed_another_one(cut: Split) -> None:
    """All draws hang on the seed."""
    everybody = np.arange(len(cut.shoppers), dtype=np.int64)
    scores = [pfedrec(cut, seed, NegativeRule.LEAK_FREE, SMALL)(everybody) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(scores[0], scores[1])
    assert not np.allclose(scores[0], scores[2])


def test_a_training_without_rounds_is_refused() -> None:
    """The error names the setting and its bound."""
    with pytest.raises(SettingsError, match=r"rounds of PFedRec is 0; it must be at least 1"):
        Settings(rounds=0)


def test_a_shopper_who_has_everything_leaves_no_negative() -> None:
    """The error counts such shoppers and names none."""
    rows: list[Row] = [(who, item, "purchase", t) for who in "ab" for t, item in enumerate("xyz", start=1)]
    cut = split(dataset(rows), SplitKind.LAST)
    assert NegativePool.of(cut, NegativeRule.LEAK_FREE).items.tolist() == [2, 2]
    with pytest.raises(ProtocolError, match="2 of 2 shoppers have touched all 3 items"):
        NegativePool.of(cut, NegativeRule.PUBLISHED)


def test_a_ranker_that_knows_the_answer_hits_always(cut: Split) -> None:
    """And its opposite never does: the held-out item is ranked against 99 that the shopper never touched."""

    def knows(shoppers: Indices) -> Scores:
        return cut.relevant[shoppers].toarray()

    assert judge(knows, cut, 0).hit_rate == judge(knows, cut, 0).ndcg == 1.0
    assert judge(lambda shoppers: -knows(shoppers), cut, 0).hit_rate == 0.0


def test_the_rows_show_that_a_ranker_without_a_model_wins_under_the_published_rule(tmp_path: Path) -> None:
    """Memory alone finds nearly every held-out item when they are spared, and chance level when they are not."""
    events = random_dataset(9, shoppers=80, items=160, count=1600).events
    events.select("user_id", "item_id", "kind", "timestamp").write_csv(tmp_path / "events.csv")
    rows = pfedrec_rows(tmp_path, seed=0, rounds=2, quick=True)
    found = {(row.model, row.rule): row.accuracy.hit_rate for row in rows}
    assert set(found) == {(m, r) for m in ("pfedrec", "memory") for r in NegativeRule} | {
        ("popularity", None)
    }
    assert found["memory", NegativeRule.PUBLISHED] > 0.95
    assert found["memory", NegativeRule.LEAK_FREE] < 0.3
