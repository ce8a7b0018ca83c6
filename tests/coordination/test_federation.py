"""Rounds in order: ask, close at the minimum cohort, reserve, draw noise, commit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from run_words import config, device, equal, public_items
from scripted_grid import Answer, ScriptedGrid
from small_encoder import SmallEncoder

from privacy.errors import BudgetExceeded
from privacy.keyring import Keyring
from privacy.ledger import Ledger
from privacy.ledger_place import ledger_at
from privacy.ledger_records import Charge, ChargeState
from privacy.plan import Stage
from proto.federation import BASIS, DEVICES, PUBLIC, TASK, Task
from server.coordination import budget
from server.coordination import federation as rounds_of
from server.coordination.aggregate import CohortTooSmall
from server.coordination.budget import HOLDER, Account, open_account, plan_of
from server.coordination.federation import Federation
from server.coordination.learner import Learner

ITEMS = 12
CATALOGUE = public_items(["a"] * 6 + ["b"] * 5 + ["no shopper ever came"])
Steps = list[str]


@pytest.fixture(autouse=True)
def small_content(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four content features in place of thousands: what items look like is not the matter here."""
    monkeypatch.setattr(rounds_of, "encoder_named", lambda _name: SmallEncoder())


class RecordingLedger(Ledger):
    """A real ledger that writes down when it is used."""

    steps: Steps

    def reserve(self, charge: Charge, subjects: Sequence[str], cap_mu2: float) -> bool:
        """Reserve and note it."""
        self.steps.append(f"reserve {charge.stage}")
        return super().reserve(charge, subjects, cap_mu2)

    def commit(self, release_id: str, holder: str) -> None:
        """Commit and note it."""
        self.steps.append(f"commit {release_id.rpartition('-')[2]}")
        super().commit(release_id, holder)


class RecordingNoise:
    """Standard normal noise that writes down when it is drawn."""

    def __init__(self, steps: Steps) -> None:
        """Write into `steps`."""
        self._steps = steps

    def normal(self, count: int) -> NDArray[np.float64]:
        """Return noise and note it."""
        if not self._steps or self._steps[-1] != "noise":
            self._steps.append("noise")
        return np.random.default_rng(count).standard_normal(count)


class BrokenNoise:
    """A machine that dies at the moment of the draw."""

    def normal(self, count: int) -> NDArray[np.float64]:
        """Die."""
        raise KeyboardInterrupt


def federation(
    folder: Path, answers: Sequence[Answer], steps: Steps | None = None, **words: Any
) -> tuple[Federation, ScriptedGrid]:
    """A federation over scripted nodes, with its ledger in `folder`."""
    settings = config(folder, **words)
    account = open_account(settings, CATALOGUE)
    if steps is not None:
        ledger = RecordingLedger.open(folder / "ledger.db", Keyring.open(folder / "keys"))
        ledger.steps = steps
        account = Account(ledger=ledger, subject=account.subject)
    grid = ScriptedGrid(answers)
    return Federation(grid, settings, CATALOGUE, plan_of(settings, account), account), grid


def charges(folder: Path) -> list[tuple[str, ChargeState]]:
    """What the coordinator's account holds."""
    records = ledger_at(folder / "ledger.db").charges(HOLDER)
    return [(record.charge.stage, record.state) for record in records]


def test_every_release_is_reserved_before_its_noise_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reserve, noise, commit; round after round, never in another order."""
    steps: Steps = []
    monkeypatch.setattr(budget, "SystemNoise", lambda: RecordingNoise(steps))
    federation(tmp_path, [device(ITEMS)] * 2, steps, rounds=2)[0].run()
    stages = ["counts", "gram", "subspace", "gradient", "gradient"]
    wanted = [f"{word} {stage}".removesuffix(f" {stage}" if word == "noise" else " ") for stage in stages
              for word in ("reserve", "noise", "commit")]  # fmt: skip
    assert steps == wanted


def test_a_crash_between_reservation_and_noise_leaves_the_price_spent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody can know whether the release has left, so it is never refunded."""
    monkeypatch.setattr(budget, "SystemNoise", BrokenNoise)
    run, _ = federation(tmp_path, [device(ITEMS)] * 2)
    with pytest.raises(KeyboardInterrupt):
        run.run()
    assert charges(tmp_path) == [("counts", ChargeState.RESERVED)]
    settings = config(tmp_path)
    account = open_account(settings, CATALOGUE)
    assert plan_of(settings, account).spent_mu2 == account.spent_mu2() > 0


@pytest.mark.parametrize("last", ["counts", "gram", "subspace", "gradient"])
def test_a_run_killed_in_any_stage_has_spent_that_stage_and_all_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: str
) -> None:
    """The noise of a stage is being drawn when the machine dies: its price is kept, the next plan is for the rest."""
    steps: Steps = []

    class DyingNoise(RecordingNoise):
        def normal(self, count: int) -> NDArray[np.float64]:
            if steps[-1] == f"reserve {last}":
                raise KeyboardInterrupt
            return super().normal(count)

    monkeypatch.setattr(budget, "SystemNoise", lambda: DyingNoise(steps))
    run, _ = federation(tmp_path, [device(ITEMS)] * 2, steps)
    plan = run.rounds.plan
    with pytest.raises(KeyboardInterrupt):
        run.run()
    stages = ["counts", "gram", "subspace", "gradient"]
    reached = stages[: stages.index(last) + 1]
    done = [(stage, ChargeState.COMMITTED) for stage in reached[:-1]]
    assert charges(tmp_path) == [*done, (last, ChargeState.RESERVED)]
    settings = config(tmp_path)
    account = open_account(settings, CATALOGUE)
    assert account.spent_mu2() == pytest.approx(sum(plan.of(Stage(stage)).mu2 for stage in reached))
    if last != "gradient":
        assert plan_of(settings, account).mu2 == pytest.approx(plan.mu2 - account.spent_mu2())


def test_without_noise_the_second_gram_is_not_asked_for(tmp_path: Path) -> None:
    """Trust `none`: an exact Gram says it all, and gradients begin in round 3."""
    run, grid = federation(tmp_path, [device(ITEMS)], trust="none", minimum_cohort=1, rounds=2)
    run.run()
    tasks = [Task.from_record(message.content.config_records[TASK]) for message in grid.asked]
    assert [(task.round, task.stage) for task in tasks] == [
        (1, "counts"),
        (2, "gram"),
        (3, "gradient"),
        (4, "gradient"),
    ]


def test_participants_are_shown_the_directions_that_the_first_gram_led_to(tmp_path: Path) -> None:
    """The basis is orthonormal, perpendicular to what is popular, and half as wide as the head."""
    run, grid = federation(tmp_path, [device(ITEMS)] * 2)
    run.run()
    (shown, _) = (
        message.content.array_records[PUBLIC]
        for message in grid.asked
        if Task.from_record(message.content.config_records[TASK]).stage == "subspace"
    )
    basis = shown[BASIS + DEVICES].numpy()
    assert basis.shape == (ITEMS, 6) and basis.dtype == np.float32
    np.testing.assert_allclose(basis.T @ basis, np.eye(6), atol=1e-5)
    np.testing.assert_allclose(run.learner.head.popular @ basis, 0.0, atol=1e-6)
    np.testing.assert_array_equal(shown["head"].numpy(), run.learner.head.items)
    np.testing.assert_array_equal(shown["popularity"].numpy(), run.learner.head.popularity)


def test_the_whole_run_spends_what_was_planned(tmp_path: Path) -> None:
    """Every planned release is charged once, at the planned price, and committed."""
    run, _ = federation(tmp_path, [device(ITEMS)] * 2, rounds=3)
    settings = config(tmp_path, rounds=3)
    account = open_account(settings, CATALOGUE)
    plan = plan_of(settings, account)
    run.run()
    assert account.spent_mu2() == pytest.approx(plan.mu2, abs=1e-9)
    assert charges(tmp_path) == [
        (stage, ChargeState.COMMITTED) for stage in ("counts", "gram", "subspace", *["gradient"] * 3)
    ]


def test_a_round_below_the_minimum_cohort_releases_nothing_and_draws_no_noise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One participant short in the gram round: its sum is thrown away each time; what was reserved stays spent."""
    steps: Steps = []
    monkeypatch.setattr(budget, "SystemNoise", lambda: RecordingNoise(steps))
    fine = device(ITEMS)

    def tired(message: Any) -> Any:
        stage = Task.from_record(message.content.config_records[TASK]).stage
        return (fine if stage == "counts" else device(ITEMS, refused="no budget left", participants=0))(
            message
        )

    run, grid = federation(tmp_path, [fine, tired], steps)
    with pytest.raises(CohortTooSmall, match=r"round 2 \(gram\).*no budget left.*asked 3 times"):
        run.run()
    assert steps == ["reserve counts", "noise", "commit counts", *["reserve gram"] * 3]
    assert len(grid.asked) == 2 + 3 * 2
    assert sorted(path.name for path in (tmp_path / "rounds").iterdir()) == ["round-001.safetensors"]


BAD: dict[str, Answer] = {
    "nan": device(ITEMS, scale=np.nan),
    "infinite": device(ITEMS, scale=-np.inf),
    "wrong shape": device(ITEMS, as_row=True),
    "stale": device(ITEMS, round=7),
    "foreign": device(ITEMS, release_id="another run/1/1-counts"),
    "other model": device(ITEMS, model_hash="0" * 16),
    "refusing": device(ITEMS, refused="the shop is closed"),
    "crashing": lambda message: 1 / 0,  # type: ignore[dict-item, return-value]
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_participant_changes_nothing(tmp_path: Path, name: str) -> None:
    """Beside two good participants the model is the one that the two make alone; with one it is none."""
    words: dict[str, Any] = {"trust": "none", "minimum_cohort": 2}
    alone, _ = federation(tmp_path / "alone", *_made(tmp_path / "alone", [device(ITEMS)] * 2), **words)
    alone.run()
    beside, _ = federation(
        tmp_path / "beside", *_made(tmp_path / "beside", [device(ITEMS), BAD[name], device(ITEMS)]), **words
    )
    beside.run()
    for key, value in alone.learner.weights.items():
        np.testing.assert_array_equal(beside.learner.weights[key], value)
    few, _ = federation(tmp_path / "few", *_made(tmp_path / "few", [device(ITEMS), BAD[name]]), **words)
    with pytest.raises(CohortTooSmall, match=r"round 1 \(counts\)"):
        few.run()


def _made(folder: Path, answers: Sequence[Any]) -> tuple[Sequence[Any]]:
    folder.mkdir()
    return (answers,)


def test_contributions_of_zeros_are_a_valid_federation(tmp_path: Path) -> None:
    """Nobody likes anything: the model is finite and gradient rounds move nothing."""
    run, _ = federation(tmp_path, [device(ITEMS, scale=0.0)] * 2, trust="none", rounds=2)
    run.run()
    assert all(np.isfinite(value).all() for value in run.learner.weights.values())
    assert not run.learner.weights["context"].any()


def test_trust_none_charges_nothing_and_asks_for_no_charge(tmp_path: Path) -> None:
    """The task says so: all its prices are zero."""
    run, grid = federation(tmp_path, [device(ITEMS)] * 2, trust="none")
    run.run()
    assert charges(tmp_path) == []
    tasks = [Task.from_record(message.content.config_records[TASK]) for message in grid.asked]
    assert {(task.mu2, task.cap_mu2, task.noise_multiplier) for task in tasks} == {(0.0, 0.0, 0.0)}


def test_tasks_carry_the_plan_and_one_release_id_per_round(tmp_path: Path) -> None:
    """All nodes are asked the same; another run asks under other release ids."""
    run, grid = federation(tmp_path, [device(ITEMS)] * 3, rounds=2)
    plan = run.rounds.plan
    run.run()
    tasks = [Task.from_record(message.content.config_records[TASK]) for message in grid.asked]
    assert [task.round for task in tasks] == [1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4, 5, 5, 5]
    assert len({task.release_id for task in tasks}) == 5
    for task in tasks:
        release = plan.of(Stage(task.stage))
        assert task.noise_multiplier == release.noise_multiplier
        assert task.mu2 == pytest.approx(release.mu2_each)
        assert task.cap_mu2 == plan.cap_mu2
    other, other_grid = federation(tmp_path, [device(ITEMS)] * 3, epsilon=80.0)
    other.run()
    mine = {task.release_id for task in tasks}
    theirs = {Task.from_record(m.content.config_records[TASK]).release_id for m in other_grid.asked}
    assert not mine & theirs


def test_released_counts_bear_the_planned_noise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the learner sees differs from the exact counts by noise of the planned deviation, no other."""
    seen: list[NDArray[np.float64]] = []
    learn = Learner.learn_counts

    def spied(self: Learner, counts: NDArray[np.float64], std: float, *rest: Any) -> None:
        seen.append((counts - 2.0 * equal(ITEMS)) / std)
        learn(self, counts, std, *rest)

    monkeypatch.setattr(Learner, "learn_counts", spied)
    for number in range(60):
        folder = tmp_path / str(number)
        run, _ = federation(*_with_folder(folder), noise_seed=number, rounds=0)
        run.run()
    noise = np.concatenate(seen)
    assert noise.size == 60 * ITEMS
    assert 0.88 < np.mean(noise**2) < 1.12  # its deviation is sqrt(2 / 720) = 0.053
    assert not 0.88 < np.mean((noise * 1.15) ** 2) < 1.12
    assert not 0.88 < np.mean((noise / 1.15) ** 2) < 1.12


def _with_folder(folder: Path) -> tuple[Path, Sequence[Any]]:
    folder.mkdir()
    return folder, [device(ITEMS)] * 2


def test_an_account_that_is_full_stops_the_run_before_the_release(tmp_path: Path) -> None:
    """Another run spends the budget in the meantime: the round's price is refused, and no noise is drawn."""
    run, _ = federation(tmp_path, [device(ITEMS)] * 2)
    other, _ = federation(tmp_path, [device(ITEMS)] * 2)
    other.run()
    spent = charges(tmp_path)
    with pytest.raises(BudgetExceeded, match="nobody"):
        run.run()
    assert charges(tmp_path) == spent
