"""`fedrank bench poisoning`: a promotion attack by 5 % of shoppers, with and without the watch over exposure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from evaluation.attack import Promotion
from evaluation.bench.judging import federation_of, present, read
from evaluation.bench.recipes import TASKS, Task
from evaluation.bench.rows import Row
from evaluation.errors import SettingsError
from evaluation.poisoning import Battlefield, Price, Reached, battlefield
from evaluation.settings import Watch

SETS = ("online-retail, last new item", "ml-100k, last new item")
QUICK = SETS[1:]
GRADIENT_ROUNDS = 2
TARGETS = {"a popular item": 0.01, "an item of the middle": 0.2, "an item that nobody is shown": 0.9}
"""Which items are pushed: words, and the share of the catalogue that is shown more."""
PUSHES = {"loud": 1.0, "quiet": 0.1}
"""How much of the clipping norm goes into the counts."""
GROWTH, PRICE = 2.0, 0.99


def run(*, quick: bool, watch: Watch) -> list[Row]:
    """Attack several items on public data; raises `SettingsError` where no data set is here."""
    tasks = [task for task in TASKS if task.name in (QUICK if quick else SETS) and present(task)]
    if not tasks:
        raise SettingsError(
            "neither online-retail nor ml-100k is here; set FEDRANK_DATA to their folder (docs/benches.md)"
        )
    targets = dict(list(TARGETS.items())[-1:]) if quick else TARGETS
    pushes = dict(list(PUSHES.items())[:1]) if quick else PUSHES
    rows: list[Row] = []
    for task in tasks:
        watch.begin(f"attacks on {task.data}", 1 + len(targets) * len(pushes))
        for found in _rows(task, targets, pushes):
            rows += found
            watch.step()
    return rows


def _rows(task: Task, targets: dict[str, float], pushes: dict[str, float]) -> Iterator[list[Row]]:
    dataset, cut = read(task)
    private = next(condition for condition in task.conditions if condition.epsilon is not None)
    recipe = replace(private.recipe, rounds=GRADIENT_ROUNDS)
    federation = federation_of(task, replace(private, recipe=recipe), dataset, cut, seed=1)
    with battlefield(cut, dataset.items, federation) as field:
        yield price_rows(str(task.data), field.price())
        for number, (words, share) in enumerate(targets.items()):
            for push, counted in pushes.items():
                reached = _attacked(field, share, counted, noise_seed=3 + number)
                yield attack_rows(f"{task.data}: {push} attack for {words}", reached)


def _attacked(field: Battlefield, share: float, counted: float, noise_seed: int) -> Reached:
    promotion = Promotion(target=field.target_at(share), items=len(field.cut.items), counted=counted)
    return field.attack(promotion, noise_seed)


def price_rows(data: str, price: Price) -> list[Row]:
    """Return what the watch costs where nobody attacks."""
    return [
        Row(
            measure=f"{data}: NDCG@10 without an attack, watched / not watched",
            value=price.released / price.learned,
            unit="ratio",
            target=PRICE,
        ),
        Row(measure=f"{data}: items damped without an attack", value=price.damped, unit="items"),
    ]


def attack_rows(words: str, reached: Reached) -> list[Row]:
    """Return what an attack reached."""
    return [
        Row(
            measure=f"{words}: exposure before", value=reached.before / reached.average, unit="average items"
        ),
        Row(
            measure=f"{words}: exposure, not watched / before",
            value=reached.growth(reached.pushed),
            unit="times, or of an average item's",
        ),
        Row(
            measure=f"{words}: exposure, watched / before",
            value=reached.growth(reached.held),
            unit="times, or of an average item's",
            target=GROWTH,
            at_least=False,
        ),
        Row(
            measure=f"{words}: NDCG@10 of honest shoppers, not watched",
            value=reached.ndcg_pushed,
            unit="ndcg@10",
        ),
        Row(measure=f"{words}: NDCG@10 of honest shoppers, watched", value=reached.ndcg_held, unit="ndcg@10"),
        Row(measure=f"{words}: the watch names the target", value=float(reached.named), unit="1 for yes"),
    ]
