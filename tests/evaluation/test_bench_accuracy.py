"""`fedrank bench accuracy` over toy data: every target has its row, and the page hides no shortfall."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl
import pytest
from evaluation_world import Alternating, random_dataset, without_content

from evaluation.bench import ablation, accuracy, cold, judging
from evaluation.bench.ablation import CONTENT, ITEMS_BOTH, ITEMS_FIRST
from evaluation.bench.recipes import TASKS, Condition, Recipe, Task
from evaluation.bench.rows import Row
from evaluation.both_samplers import SamplerRow
from evaluation.errors import SettingsError
from evaluation.leave_one_out import Accuracy
from evaluation.negatives import NegativeRule
from evaluation.settings import Watch
from model.encoders import EncoderName, Hashed
from model.errors import EncoderError
from simulation.data.dataset import EVENT_SCHEMA, ITEM_SCHEMA, Dataset

WATCH = Watch()
UNREACHABLE, EASY = 0.999, 1e-9
SMALL = Recipe(dim=8)
NOISELESS = Condition(epsilon=None, recipe=SMALL)
SAMPLED = "sampled99_recall@10"


def condition(target: float, metric: str) -> Condition:
    """A private condition with one target."""
    return Condition(epsilon=8.0, recipe=SMALL, targets={metric: target})


TOYS = (
    Task(
        name="toy, given",
        data="amazon18-industrial",
        cut="given",
        metrics=("ndcg@10", "recall@20"),
        conditions=(NOISELESS, condition(UNREACHABLE, "ndcg@10")),
    ),
    Task(
        name="toy, sampled",
        data="ml-100k",
        cut="sampled",
        metrics=(SAMPLED,),
        conditions=(condition(EASY, SAMPLED),),
        linear=False,
    ),
    Task(
        name="toy, basket",
        data=None,
        cut="basket",
        metrics=("recall@20", "ndcg@10"),
        conditions=(NOISELESS, Condition(epsilon=8.0, recipe=SMALL)),
        linear=False,
        central=True,
    ),
)


@dataclass(frozen=True, kw_only=True)
class Run:
    """What one whole bench gave, and the hash of what it trained."""

    rows: dict[str, Row]
    page: str
    hash: str


def toys() -> Dataset:
    """Shoppers of four tastes at 160 items, with a test of their own: each one's newest event."""
    made = random_dataset(5, shoppers=60, items=160, count=1_200)
    blank = {name: [None] * made.items.height for name in ITEM_SCHEMA}
    words = [f"taste {row // 40}" for row in range(made.items.height)]
    known = {"item_id": made.items["item_id"], "merchant_id": ["m"] * made.items.height, "category": words}
    lacking = [
        pl.lit(None, kind).alias(name)
        for name, kind in EVENT_SCHEMA.items()
        if name not in made.events.columns
    ]
    events = made.events.with_columns(lacking).select(*EVENT_SCHEMA)
    newest = pl.int_range(pl.len()).reverse().over("user_id") == 0
    return replace(
        made,
        events=events.filter(~newest),
        given_test=events.filter(newest),
        items=pl.DataFrame({**blank, **known}, schema=ITEM_SCHEMA),
    )


def hashed_only(name: EncoderName) -> Hashed:
    """Encoders of a machine on which the extra `text` is not installed."""
    if name is not EncoderName.HASHED:
        raise EncoderError("not installed")
    return Hashed()


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Toy data in place of every set, few seeds, and a folder for the page."""
    patch_bench(tmp_path, monkeypatch)


def patch_bench(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exchange what costs minutes or needs downloads; everything between stays as it is."""
    without_content(monkeypatch)
    for module in (accuracy, judging, cold):
        monkeypatch.setattr(module, "SETS", folder)
    for name in ("amazon18-industrial", "ml-100k", "docs"):
        (folder / name).mkdir()
    data = toys()
    for module in (judging, cold):
        monkeypatch.setattr(module, "load", lambda _path: data)
    for module in (judging, ablation):
        monkeypatch.setattr(module, "item_features", Alternating().encode)
    monkeypatch.setattr(cold, "encoder_named", hashed_only)
    half = Accuracy(hit_rate=0.5, ndcg=0.25)
    both = [SamplerRow(model="PFedRec", rule=rule, accuracy=half) for rule in NegativeRule]
    monkeypatch.setattr(accuracy, "pfedrec_rows", lambda _folder, *, seed: both)
    monkeypatch.setattr(accuracy, "TASKS", TOYS)
    monkeypatch.setattr(accuracy, "SEEDS", (1, 2))
    monkeypatch.setattr(accuracy, "ABLATION_SEEDS", 1)
    monkeypatch.setattr(accuracy, "ABLATED", (TOYS[0].name,))
    monkeypatch.setattr(accuracy, "QUICK", (TOYS[1].name,))
    monkeypatch.setattr(accuracy, "PAGE", folder / "docs" / "results.md")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One whole bench."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        folder = tmp_path_factory.mktemp("bench")
        patch_bench(folder, monkeypatch)
        rows = accuracy.run(quick=False, watch=WATCH)
        page = accuracy.PAGE.read_text(encoding="utf-8")
        return Run(rows={row.measure: row for row in rows}, page=page, hash=accuracy.hash_of(list(TOYS)))


def test_every_target_has_a_row_that_is_held_against_it(done: Run) -> None:
    """One row per metric and condition; met and missed are told by the figure alone."""
    missed = done.rows["toy, given: ndcg@10, epsilon 8"]
    easy = done.rows[f"toy, sampled: {SAMPLED}, epsilon 8"]
    assert (missed.target, missed.met) == (UNREACHABLE, False)
    assert (easy.target, easy.met) == (EASY, True)
    assert done.rows["toy, given: recall@20, no noise"].met is None
    assert 0 < easy.value < 1


def test_what_spends_budget_is_held_against_what_spends_nothing(done: Run) -> None:
    """The paired interval's lower end must be above 0 for popularity and for content alone."""
    for floor in ("popularity", "content only (spends nothing)"):
        words = f"toy, given: ndcg@10, epsilon 8 less {floor}, lower end of the 95 % interval"
        assert done.rows[words].target == 0.0


def test_the_private_basket_is_a_share_of_the_central_twin(done: Run) -> None:
    """Nine tenths of what the central twin recalls."""
    row = done.rows["toy, basket: recall@20, epsilon 8 / central twin"]
    assert (row.unit, row.target) == ("ratio", 0.9)


def test_items_absent_from_train_name_the_encoder_in_use(done: Run) -> None:
    """Without the extra the hashed encoder stands in, and every row says so."""
    found = [words for words in done.rows if "items absent from train" in words]
    assert len(found) == 6
    assert all("(hashed)" in words for words in found)


def test_the_page_has_every_task_and_says_what_is_not_met(done: Run) -> None:
    """A table per task with its recipes, and both verdicts in words."""
    for task in TOYS:
        assert f"## {task.name}\n" in done.page
    assert f"target {UNREACHABLE:g}: NOT met" in done.page
    assert f"target {EASY:g}: met" in done.page
    assert SMALL.words() in done.page
    assert f"config hash `{done.hash}`, 2 noise seeds" in done.page
    assert "PFedRec | published" in done.page and "PFedRec | leak-free" in done.page


def test_the_page_takes_the_private_recipe_apart(done: Run) -> None:
    """After each stage, and with one choice changed at a time."""
    for words in (ITEMS_FIRST, ITEMS_BOTH, CONTENT, "items: no recency", "items: 12 gradient rounds"):
        assert f"| {words} | 0." in done.page


@pytest.mark.usefixtures("bench")
def test_a_quick_bench_judges_few_tasks_and_leaves_the_page_alone() -> None:
    """It is for a look, so it must not replace figures of five seeds."""
    rows = accuracy.run(quick=True, watch=WATCH)
    assert {row.measure.partition(":")[0] for row in rows} == {"toy, sampled"}
    assert not accuracy.PAGE.exists()


def test_a_missing_data_folder_is_named_with_the_variable_that_moves_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sets are no part of the repository; the error says where they were looked for."""
    for module in (accuracy, judging):
        monkeypatch.setattr(module, "SETS", tmp_path / "nowhere")
    with pytest.raises(SettingsError, match=r"nowhere; set FEDRANK_DATA"):
        accuracy.run(quick=True, watch=WATCH)


def test_the_hash_changes_with_any_recipe_and_with_nothing_else() -> None:
    """Two pages of one hash come from the same models."""
    tasks = list(TASKS)
    assert accuracy.hash_of(tasks) == accuracy.hash_of(list(TASKS))
    for changed in (Recipe(damping=0.3), Recipe(rounds=1), Recipe(dim=64)):
        other = replace(tasks[-1], conditions=(Condition(epsilon=8.0, recipe=changed),))
        assert accuracy.hash_of([*tasks[:-1], other]) != accuracy.hash_of(tasks)


def test_the_tasks_that_are_shown_have_names_and_conditions_of_their_own() -> None:
    """Rows are told apart by these words; a target is for a metric that is measured."""
    assert len({task.name for task in TASKS}) == len(TASKS)
    for task in TASKS:
        assert len({found.words for found in task.conditions}) == len(task.conditions)
        assert all(found.targets.keys() <= set(task.metrics) for found in task.conditions)
