"""The same models under both rules for training negatives, so that a reader sees why published figures differ.

Models that draw no negatives (popularity, iALS) have one row. The memory ranker, which learns nothing at all, tells
how much of the difference is the leak alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from evaluation.baselines import popularity
from evaluation.factors import ials
from evaluation.leave_one_out import Accuracy, judge, last_item_out
from evaluation.memory import memory_ranker
from evaluation.negatives import NegativeRule, sampler
from evaluation.pfedrec import Settings, pfedrec
from evaluation.protocol import Scorer
from evaluation.split import Split

QUICK_ROUNDS = 5
MEMORY_ROUNDS, MEMORY_DRAWS = 20, 400


@dataclass(frozen=True, kw_only=True)
class SamplerRow:
    """One model under one rule; `rule` is None for a model without negatives."""

    model: str
    rule: NegativeRule | None
    accuracy: Accuracy


def pfedrec_rows(
    folder: Path, *, seed: int, rounds: int = Settings.rounds, quick: bool = False
) -> list[SamplerRow]:
    """Judge PFedRec and its company on a data set with its last items out, each item against 99 others.

    `seed` draws everything: initial values, negatives of training and the 99. `quick` takes 5 rounds and leaves
    iALS out, whose choice of settings fits nine models.
    """
    cut = last_item_out(folder)
    settings = Settings(rounds=min(rounds, QUICK_ROUNDS) if quick else rounds)
    return [
        SamplerRow(model=model, rule=rule, accuracy=judge(scorer, cut, seed))
        for model, rule, scorer in _scorers(cut, seed, settings, quick)
    ]


def _scorers(
    cut: Split, seed: int, settings: Settings, quick: bool
) -> Iterator[tuple[str, NegativeRule | None, Scorer]]:
    """Fit one model after the other."""
    for rule in NegativeRule:
        yield "pfedrec", rule, pfedrec(cut, seed, rule, settings)
        draw = sampler(rule, MEMORY_DRAWS)
        yield "memory", rule, memory_ranker(cut, draw, rounds=MEMORY_ROUNDS, seed=seed)
    yield "popularity", None, popularity(cut, seed)
    if not quick:
        yield "ials", None, ials(cut, seed)
