"""`fedrank bench knobs`: what each knob of a surface costs in NDCG@10, and what it gains in what it is for.

Home lists of every shopper of the embedded set (published as simulated) with a private model at epsilon 8, once with
every knob off and once per knob and value. A full run writes the table into docs/policy.md.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from evaluation.bench.knobs_lists import POOL, Asked, K, Qualities, merits_of, qualities
from evaluation.bench.knobs_reasons import deletions, reason_rows
from evaluation.bench.recipes import BASKET
from evaluation.bench.rows import Row
from evaluation.releasing import signing_registry
from evaluation.settings import Watch
from evaluation.split import Split, SplitKind, split
from evaluation.trials import population_of, trial
from privacy.accountant import default_delta
from privacy.plan import Trust
from server.coordination.config import Participants
from server.registry import Registry
from server.serving.engine import Engine
from server.serving.policy import OFF, Policy, SurfacePolicy
from server.serving.query import PastEvent, RankQuery, Surface
from simulation.data import Dataset, load
from simulation.federated import FederationSettings

EPSILON = 8.0
DIM = 64
SEED = 1
QUICK_QUESTIONS = 150
DELETIONS, QUICK_DELETIONS = 300, 20
PAGE = Path("docs/policy.md")
BEGIN, END = "<!-- begin of the table of `fedrank bench knobs` -->", "<!-- end of the table -->"


@dataclass(frozen=True, kw_only=True)
class Gain:
    """What a knob is for: a field of `Qualities`, in words.

    Attributes:
        more: whether more of it is better.
        promised: whether the knob's value is what lists must reach; else they must be better than without it.
    """

    quality: str
    words: str
    more: bool = True
    promised: bool = False


GAINS: dict[str, Gain] = {
    "diversity": Gain(quality="diversity", words="intra-list diversity"),
    "category_quota": Gain(
        quality="of_one_category", words="items of one category", more=False, promised=True
    ),
    "merchant_quota": Gain(
        quality="of_one_merchant", words="items of one merchant", more=False, promised=True
    ),
    "long_tail_share": Gain(quality="tail", words="share of the tail", promised=True),
    "fresh_share": Gain(quality="fresh", words="share of fresh items", promised=True),
    "fairness": Gain(quality="gap", words="merchant exposure gap", more=False),
    "exploration_share": Gain(quality="coverage", words="coverage of the catalogue"),
}
SWEEP: tuple[tuple[str, float | int], ...] = (
    ("diversity", 0.1),
    ("diversity", 0.3),
    ("diversity", 0.5),
    ("category_quota", 3),
    ("category_quota", 1),
    ("merchant_quota", 4),
    ("merchant_quota", 2),
    ("long_tail_share", 0.1),
    ("long_tail_share", 0.3),
    ("fresh_share", 0.1),
    ("fresh_share", 0.2),
    ("fairness", 0.1),
    ("fairness", 0.3),
    ("fairness", 1.0),
    ("exploration_share", 0.05),
    ("exploration_share", 0.1),
    ("exploration_share", 0.2),
)
QUICK = (("diversity", 0.3), ("merchant_quota", 2), ("fairness", 0.3), ("exploration_share", 0.1))


def run(*, quick: bool, watch: Watch) -> list[Row]:
    """Train, ask under every setting, and measure; a full run also writes the table."""
    sweep = QUICK if quick else SWEEP
    watch.begin("training the model and asking", 2 + len(sweep))
    with tempfile.TemporaryDirectory() as folder:
        asked = _prepare(Path(folder), load(None), quick=quick)
        watch.step()
        plain_engine = _engine(Path(folder), OFF)
        pool = Asked(queries=[replace(query, k=POOL) for query in asked.queries], wanted=asked.wanted)
        merits = merits_of(plain_engine, pool)
        plain = qualities(plain_engine, asked, merits)
        reasons = deletions(plain_engine, asked.queries[: QUICK_DELETIONS if quick else DELETIONS])
        watch.step()
        found = []
        for knob, value in sweep:
            found.append(qualities(_engine(Path(folder), _policy(knob, value)), asked, merits))
            watch.step()
    if not quick and PAGE.is_file():
        _write(table(plain, sweep, found, len(asked.queries)))
    return rows_of(plain, sweep, found) + reason_rows(reasons)


def rows_of(
    plain: Qualities, sweep: Sequence[tuple[str, float | int]], found: Sequence[Qualities]
) -> list[Row]:
    """The accuracy kept by each setting, and its gain, which must be one, or be what was promised."""
    rows = [Row(measure="NDCG@10 without knobs", value=plain.ndcg, unit="ndcg@10")]
    for (knob, value), qualities_ in zip(sweep, found, strict=True):
        gain = GAINS[knob]
        before, after = getattr(plain, gain.quality), getattr(qualities_, gain.quality)
        name = f"{knob} {value:g}"
        rows += [
            Row(measure=f"{name}: NDCG@10 kept", value=qualities_.ndcg / max(plain.ndcg, 1e-9), unit="ratio"),
            Row(
                measure=f"{name}: {gain.words}, from {before:.4f}",
                value=after,
                unit=gain.words,
                target=value if gain.promised else before,
                at_least=gain.more,
            ),
        ]
    return rows


def table(
    plain: Qualities,
    sweep: Sequence[tuple[str, float | int]],
    found: Sequence[Qualities],
    questions: int,
) -> str:
    """The table of docs/policy.md."""
    head = (
        f"{questions:,} home lists of {K} for the embedded set (published as simulated), private model at "
        f"epsilon {EPSILON:g}, dim {DIM}:\n\n"
        "| knob | NDCG@10 | kept | diversity | of one category | of one merchant | tail | fresh | "
        "exposure gap | coverage | drawn |\n|---|---|---|---|---|---|---|---|---|---|---|"
    )
    names = ["all off", *(f"`{knob} = {value:g}`" for knob, value in sweep)]
    lines = [_line(name, one, plain) for name, one in zip(names, [plain, *found], strict=True)]
    return "\n".join([head, *lines])


def _line(name: str, one: Qualities, plain: Qualities) -> str:
    return (
        f"| {name} | {one.ndcg:.4f} | {one.ndcg / max(plain.ndcg, 1e-9):.1%} | {one.diversity:.3f} | "
        f"{one.of_one_category:.2f} | {one.of_one_merchant:.2f} | {one.tail:.1%} | {one.fresh:.1%} | "
        f"{one.gap:.3f} | {one.coverage:.1%} | {one.drawn:.1%} |"
    )


def _write(text: str) -> None:
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


def _policy(knob: str, value: float | int) -> SurfacePolicy:
    knobs: dict[str, Any] = {knob: value}
    return replace(OFF, **knobs)


def _engine(folder: Path, policy: SurfacePolicy) -> Engine:
    registry = Registry(folder / "registry")
    surfaces = Policy(surfaces={Surface.HOME: policy})
    return Engine.load(registry, folder / "catalogue.parquet", policy=surfaces)


def _prepare(folder: Path, dataset: Dataset, *, quick: bool) -> Asked:
    """Write a run folder with a trained version and the catalogue, and return the questions of the time cut.

    The set has no dates of listing; an item counts as listed on the day of its first sale in train.
    """
    cut = split(dataset, SplitKind.TIME)
    with population_of(cut, dataset.items) as population:
        version = trial(population, _federation(dataset, cut))
        catalogue = pl.read_parquet(population.folder / "catalogue.parquet").drop("listed_at", strict=False)
    registry, signer = signing_registry(folder, "knobs")
    registry.promote(registry.add(version.weights, version.card, signer).version)
    first = cut.train.group_by("item_id").agg(listed_at=pl.col("timestamp").min())
    catalogue = catalogue.join(first, on="item_id", how="left", maintain_order="left")
    catalogue.write_parquet(folder / "catalogue.parquet")
    return _questions(cut, QUICK_QUESTIONS if quick else len(cut.evaluated))


def _federation(dataset: Dataset, cut: Split) -> FederationSettings:
    return FederationSettings(
        participants=Participants.SHOPPERS,
        trust=Trust.CENTRAL,
        epsilon=EPSILON,
        delta=default_delta(len(cut.shoppers)),
        rounds=BASKET.rounds,
        clock=str(dataset.clock),
        seed=SEED,
        noise_seed=SEED,
        dim=DIM,
        basis=BASKET.basis,
        recency=BASKET.recency,
        prior=BASKET.prior,
        damping=BASKET.damping,
    )


def _questions(cut: Split, count: int) -> Asked:
    """Home for evaluated shoppers, in the order of their moments, as an endpoint would be asked."""
    shoppers = cut.evaluated[np.argsort(cut.moments[cut.evaluated], kind="stable")][:count]
    past: dict[int, list[PastEvent]] = {int(shopper): [] for shopper in shoppers}
    columns = cut.train.select("shopper", "item_id", "kind", "timestamp")
    for shopper, item, kind, time in columns.iter_rows():
        if shopper in past:
            past[shopper].append(PastEvent(item_id=item, kind=kind, time=time))
    queries = [
        RankQuery(
            surface=Surface.HOME,
            k=K,
            timestamp=int(cut.moments[shopper]),
            history=history,
            reasons=False,
            seed=str(shopper),
        )
        for shopper, history in past.items()
    ]
    relevant = cut.relevant
    wanted = [
        np.sort(relevant.indices[relevant.indptr[shopper] : relevant.indptr[shopper + 1]]).astype(np.int64)
        for shopper in past
    ]
    return Asked(queries=queries, wanted=wanted)
