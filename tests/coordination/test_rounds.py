"""A round that fails is asked again a bounded number of times, with what is left; no wait is without an end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from run_words import config, public_items

from privacy.accountant import mu_of
from privacy.errors import UnknownCharge
from privacy.plan import Plan, Stage
from proto.federation import Task
from server.coordination.aggregate import CohortTooSmall
from server.coordination.budget import open_account, plan_of
from server.coordination.collecting import Collected, Shapes
from server.coordination.exchange import PublicArrays
from server.coordination.federation_rounds import ATTEMPTS, Desk, JournalDiverged, Rounds
from server.coordination.journal import opened
from server.coordination.journal_run import Unjournaled
from server.coordination.status import RunStatus, State, StatusFile

CATALOGUE = public_items(["a", "a", "b"])
SHAPES: Shapes = {"devices": (3,)}
CAP = mu_of(8.0, 1e-6) ** 2
IDENTITY = {"configuration": "this"}
ALL = (Stage.COUNTS, Stage.GRAM, Stage.SUBSPACE, Stage.GRADIENT)


class Cohort:
    """Participants that fail as often as they are told to, before or after they were asked to contribute."""

    def __init__(self, failures: int = 0, *, charged: bool = True) -> None:
        """Fail the first `failures` times that somebody asks."""
        self.failures, self.charged = failures, charged
        self.asked: list[Task] = []

    def collect(
        self, task: Task, shapes: Shapes, public: PublicArrays, charge: Callable[[], None]
    ) -> Collected:
        """Answer with ones, or with too few answers."""
        self.asked.append(task)
        failing = len(self.asked) <= self.failures
        if not failing or self.charged:
            charge()
        if failing:
            raise CohortTooSmall(f"round {task.round} ({task.stage}) was given up: 1 participant, minimum 2")
        totals = {name: np.ones(shape) for name, shape in shapes.items()}
        return Collected(totals=totals, participants=2, cohort=("a", "b"), refused=("c: gone",))


class Machine:
    """A clock that moves when somebody sleeps, and nodes that connect at given times."""

    def __init__(self, *arrivals: float) -> None:
        """One node per time."""
        self.now, self._arrivals = 0.0, arrivals

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds

    def present(self) -> list[str]:
        """Who has connected."""
        return [f"m{number}" for number, at in enumerate(self._arrivals) if at <= self.now]


def rounds(
    folder: Path, cohort: Cohort, machine: Machine | None = None, journal: Any = None, **words: Any
) -> Rounds:
    """The rounds of a run over these participants, with its account in `folder`."""
    settings = config(folder, **words)
    account = open_account(settings, CATALOGUE)
    journal = journal or Unjournaled(spent_before=account.spent_mu2())
    machine = machine or Machine(0.0, 0.0)
    desk = Desk(
        config=settings,
        collector=cohort,
        present=machine.present,
        account=account,
        journal=journal,
        status=StatusFile(folder, run="r", rounds=settings.all_rounds),
        clock=lambda: machine.now,
        sleep=machine.sleep,
    )
    plan = journal.entries[0].plan if journal.entries else plan_of(settings, account)
    return Rounds(desk, plan)


def spent(folder: Path) -> float:
    """What the coordinator's account holds."""
    return open_account(config(folder), CATALOGUE).spent_mu2()


def prices(plan: Plan) -> dict[Stage, float]:
    """What each stage costs under a plan."""
    return {release.stage: release.mu2 for release in plan.releases}


@pytest.mark.parametrize("failures", range(1, ATTEMPTS))
def test_a_void_round_is_asked_again_and_the_rounds_to_come_share_what_is_left(
    tmp_path: Path, failures: int
) -> None:
    """Each attempt has a release id and a price of its own; the whole run still spends the cap and no more."""
    cohort = Cohort(failures)
    run = rounds(tmp_path, cohort)
    for stage in ALL:
        run.release(stage, SHAPES, {})
    first, last = cohort.asked[0], cohort.asked[failures]
    assert len({task.release_id for task in cohort.asked}) == len(cohort.asked) == len(ALL) + failures
    assert {task.round for task in cohort.asked[: failures + 1]} == {1}
    assert last.mu2 < first.mu2 and last.noise_multiplier > first.noise_multiplier
    assert spent(tmp_path) == pytest.approx(CAP, rel=1e-12)
    performed = run.performed()
    assert performed.total_epsilon() == pytest.approx(8.0, rel=1e-9)
    assert prices(performed) == pytest.approx({Stage(task.stage): task.mu2 for task in cohort.asked})
    assert performed.spent_mu2 == pytest.approx(sum(task.mu2 for task in cohort.asked[:failures]))


def test_a_round_that_failed_before_anybody_was_asked_to_contribute_costs_nothing(tmp_path: Path) -> None:
    """Nobody has charged a shopper: the plan stays what it was, and the card says so."""
    cohort = Cohort(2, charged=False)
    run = rounds(tmp_path, cohort)
    opening = run.plan
    run.release(Stage.COUNTS, SHAPES, {})
    assert [task.mu2 for task in cohort.asked] == pytest.approx([prices(opening)[Stage.COUNTS]] * 3)
    assert spent(tmp_path) == pytest.approx(prices(opening)[Stage.COUNTS])


def test_after_three_attempts_the_run_is_given_up_with_a_reason_and_what_was_learned_is_kept(
    tmp_path: Path,
) -> None:
    """No fourth time; the status says why, and the journal goes on from there in the next run."""
    with opened(tmp_path / "j", IDENTITY, spent_mu2=lambda: 0.0) as journal:
        run = rounds(tmp_path, Cohort(), journal=journal)
        released = run.release(Stage.COUNTS, SHAPES, {})
        failing = rounds(tmp_path, Cohort(99), journal=journal)
        failing.release(Stage.COUNTS, SHAPES, {})
        with pytest.raises(CohortTooSmall, match=r"round 2 .*asked 3 times.*is kept"):
            failing.release(Stage.GRAM, SHAPES, {})
    status = RunStatus.read(tmp_path)
    assert status is not None and status.last_error.startswith("round 2 (gram) was given up")
    with opened(tmp_path / "j", IDENTITY, spent_mu2=lambda: 0.0) as journal:
        cohort = Cohort()
        run = rounds(tmp_path, cohort, journal=journal)
        again = run.release(Stage.COUNTS, SHAPES, {})
        for stage in ALL[1:]:
            run.release(stage, SHAPES, {})
    assert again["devices"].tobytes() == released["devices"].tobytes()
    assert [task.stage for task in cohort.asked] == [str(stage) for stage in ALL[1:]]
    assert spent(tmp_path) == pytest.approx(CAP, rel=1e-12)


def test_a_round_from_the_journal_is_weighed_by_the_noise_that_it_was_released_under(tmp_path: Path) -> None:
    """A plan made anew after a void round has more noise; the rounds before it keep theirs, in replay as well."""
    with opened(tmp_path / "j", IDENTITY, spent_mu2=lambda: 0.0) as journal:
        stds = []
        for cohort in (Cohort(), Cohort()):
            run = rounds(tmp_path, cohort, journal=journal)
            for stage in ALL[:2]:
                run.release(stage, SHAPES, {})
                stds.append((run.noise_std(stage), run.noise_std(Stage.GRADIENT)))
                cohort.failures = len(cohort.asked) + 1
        (_, planned), (_, after_void) = stds[:2]
        assert after_void > planned and stds[2:] == stds[:2]


def test_participants_that_come_late_are_waited_for(tmp_path: Path) -> None:
    """Nobody is connected when a coordinator starts; the round is asked when enough are."""
    machine, cohort = Machine(3.0, 17.0, 500.0), Cohort()
    rounds(tmp_path, cohort, machine, minimum_nodes=2, timeout=60.0).release(Stage.COUNTS, SHAPES, {})
    assert 17.0 <= machine.now < 18.0 and len(cohort.asked) == 1


def test_the_wait_for_participants_ends_at_the_deadline_and_costs_nothing(tmp_path: Path) -> None:
    """One deadline, no attempt, no price; the message names who is there and how many are needed."""
    machine, cohort = Machine(3.0, 61.0), Cohort()
    run = rounds(tmp_path, cohort, machine, minimum_nodes=2, timeout=60.0)
    with pytest.raises(CohortTooSmall, match=r"1 of at least 2 nodes are connected \(m0\) after 60 s"):
        run.release(Stage.COUNTS, SHAPES, {})
    assert machine.now == pytest.approx(60.0) and not cohort.asked and spent(tmp_path) == 0.0
    status = RunStatus.read(tmp_path)
    assert status is not None and status.state is State.WAITING and status.present == ("m0",)


def test_the_status_names_the_cohort_and_who_is_not_in_it(tmp_path: Path) -> None:
    """After a round: its stage, how many its sum holds, and every refusal with its reason."""
    rounds(tmp_path, Cohort(1)).release(Stage.COUNTS, SHAPES, {})
    status = RunStatus.read(tmp_path)
    assert status is not None
    assert (status.state, status.round, status.rounds, status.stage) == (State.BETWEEN, 1, 4, "counts")
    assert (status.participants, status.cohort, status.refused) == (2, ("a", "b"), ("c: gone",))
    assert status.attempt == 2 and "was given up" in status.last_error


def test_a_journal_that_leads_to_another_model_is_refused(tmp_path: Path) -> None:
    """What was shown to participants then is not what this program would show them now."""
    with opened(tmp_path / "j", IDENTITY, spent_mu2=lambda: 0.0) as journal:
        rounds(tmp_path, Cohort(), journal=journal).release(Stage.COUNTS, SHAPES, {"q": np.ones(3)})
        with pytest.raises(JournalDiverged, match=r"round 1 of the journal is counts of model [0-9a-f]{16}"):
            rounds(tmp_path, Cohort(), journal=journal).release(Stage.COUNTS, SHAPES, {"q": np.zeros(3)})
        with pytest.raises(JournalDiverged, match="comes to gram"):
            rounds(tmp_path, Cohort(), journal=journal).release(Stage.GRAM, SHAPES, {"q": np.ones(3)})


def test_a_journal_whose_releases_the_ledger_does_not_hold_is_refused(tmp_path: Path) -> None:
    """An account that forgot a release would let the budget be spent twice."""
    with opened(tmp_path / "j", IDENTITY, spent_mu2=lambda: 0.0) as journal:
        rounds(tmp_path, Cohort(), journal=journal).release(Stage.COUNTS, SHAPES, {})
        other = tmp_path / "other"
        other.mkdir()
        with pytest.raises(UnknownCharge, match="was not reserved"):
            rounds(other, Cohort(), journal=journal).release(Stage.COUNTS, SHAPES, {})


def test_what_participants_spent_before_the_run_is_taken_off_after_a_void_round_as_well(
    tmp_path: Path,
) -> None:
    """Their accounts hold it and the coordinator's does not: both stay below the cap."""
    before = 0.4 * CAP
    cohort = Cohort(1)
    run = rounds(tmp_path, cohort, spent_mu2=before)
    for stage in ALL:
        run.release(stage, SHAPES, {})
    assert before + spent(tmp_path) == pytest.approx(CAP, rel=1e-12)
    assert run.performed().total_epsilon() == pytest.approx(8.0, rel=1e-9)


def test_under_trust_none_a_void_round_costs_nothing_and_is_asked_again(tmp_path: Path) -> None:
    """There is no account; the plan of a run without noise stays what it was."""
    cohort = Cohort(1)
    run = rounds(tmp_path, cohort, trust="none")
    run.release(Stage.COUNTS, SHAPES, {})
    assert len(cohort.asked) == 2 and spent(tmp_path) == 0.0
    assert run.performed().epsilon == 8.0 and run.performed().releases[0].noise_multiplier is None
