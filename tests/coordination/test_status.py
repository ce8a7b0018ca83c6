"""How a federation stands is told from files that are there whole or not at all."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from run_words import config, public_items

from privacy.accountant import epsilon_of, mu_of
from privacy.distributed_noise import DELTA_SLACK
from privacy.plan import Stage, Trust, budget_mu2, make_plan
from proto.federation import Task
from server.coordination.budget import open_account
from server.coordination.federation_status import (
    FederationStatus,
    budget_of,
    federation_status,
    newest_rounds,
)
from server.coordination.journal import opened
from server.coordination.journal_entry import JournalDamaged
from server.coordination.status import RunStatus, State, StatusFile, StatusUnreadable
from server.registry import Registry

CAP = mu_of(8.0, 1e-6) ** 2
PLAN = make_plan(trust=Trust.CENTRAL, epsilon=8.0, delta=1e-6, counts={Stage.GRADIENT: 3})
ITEMS = public_items(["a", "a", "b"])
ANSWERS = {"participants": 2, "cohort": ("a", "b"), "refused": ("c: its node failed",)}


def task(number: int, mu2: float) -> Task:
    """A task of round `number` that costs `mu2`."""
    return Task(
        release_id=f"toy/x/{number}",
        stage="gradient",
        round=number,
        model_hash="h",
        trust="central",
        clipping_norm=1.0,
        noise_multiplier=mu2**-0.5,
        mu2=mu2,
        cap_mu2=CAP,
        steps=1,
        expected_shoppers=1,
        clock=True,
        seed=0,
        noise_seed=-1,
    )


def write_rounds(folder: Path, *, finish: bool = False) -> str:
    """A run with one round that was given up and one that was released."""
    with opened(folder / "journal", {}, spent_mu2=lambda: 0.0) as journal:
        journal.give_up(task(1, 0.5), PLAN, "round 1 was given up: 1 participant")
        journal.release(task(1, 0.25), PLAN, {"devices": np.ones(2)}, **ANSWERS)
        if finish:
            journal.finish()
        return journal.run_id


def status_of(folder: Path, **words: object) -> FederationStatus:
    """The status of a federation in a folder."""
    settings = config(folder, journal=str(folder / "journal"), **words)
    return federation_status(settings, open_account(settings, ITEMS), {"a": True, "b": False})


def test_before_the_first_run_there_is_nothing_to_tell(tmp_path: Path) -> None:
    """No run, no rounds, no version, the whole budget left."""
    found = status_of(tmp_path)
    assert (found.run, found.rounds, found.served, found.newest) == (None, (), None, None)
    assert (found.budget.spent_epsilon, found.budget.epsilon) == (0.0, 8.0)
    assert found.budget.left_mu2 == pytest.approx(CAP)


@pytest.mark.parametrize("finish", [False, True])
def test_rounds_are_told_with_who_took_part_who_did_not_and_why(tmp_path: Path, finish: bool) -> None:
    """Of the run in progress or of the newest one that is done; rounds that were given up as well."""
    run = write_rounds(tmp_path, finish=finish)
    void, released = status_of(tmp_path).rounds
    assert (void.run, void.outcome, void.reason) == (run, "void", "round 1 was given up: 1 participant")
    assert (released.outcome, released.participants, released.cohort) == ("released", 2, ("a", "b"))
    assert released.refused == ("c: its node failed",) and released.mu2 == 0.25


def test_budget_and_versions_come_from_ledger_and_registry(tmp_path: Path) -> None:
    """What was reserved is spent; the served version is the promoted one, the newest another."""
    account = open_account(config(tmp_path), ITEMS)
    account.reserve(task(1, CAP / 4))
    registry = Registry(tmp_path / "registry", unsigned=True)
    first, second = (registry.add({"w": np.full(2, float(n))}, {}).version for n in (1, 2))
    registry.promote(first)
    found = status_of(tmp_path)
    assert found.budget.left_mu2 == pytest.approx(0.75 * CAP)
    assert 0 < (found.budget.spent_epsilon or 0) < 8.0
    assert {found.served, found.newest} == {first, second} and found.served == first
    assert status_of(tmp_path, trust="none").budget.epsilon is None


def test_a_status_is_read_as_it_was_written_at_every_moment(tmp_path: Path) -> None:
    """Waiting, asking, released, given up, finished, failed: every field comes back, and the file is JSON."""
    file = StatusFile(tmp_path, run="r1", rounds=5)
    steps: list[Callable[[], None]] = [
        lambda: file.waiting(task(1, 0.5), ["a"], 30.0),
        lambda: file.asking(task(1, 0.5), 2, ["a", "b"], 30.0),
        lambda: file.given_up("too few"),
        lambda: file.released(task(2, 0.5), **ANSWERS),  # type: ignore[arg-type]
        lambda: file.finished("0123456789abcdef", ["a"], ["b: away"]),
        lambda: file.failed("no budget"),
    ]
    states, found = [], None
    for step in steps:
        step()
        found = RunStatus.read(tmp_path)
        assert found is not None and found == replace(found, run="r1", rounds=5) and found.at >= found.began
        states.append(found.state)
    assert states == [State.WAITING, State.ASKING, State.BETWEEN, State.BETWEEN, State.FINISHED, State.FAILED]
    assert found is not None
    assert (found.refused, found.taken, found.not_taken) == (("c: its node failed",), ("a",), ("b: away",))
    assert (found.deadline, found.last_error, found.attempt) == ("", "no budget", 2)
    assert json.loads((tmp_path / "status.json").read_bytes())["state"] == "failed"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"state": "asleep", "present": []}'])
def test_a_status_file_of_another_hand_is_refused(tmp_path: Path, content: bytes) -> None:
    """It is a look at a run, and says so where it is not."""
    (tmp_path / "status.json").write_bytes(content)
    with pytest.raises(StatusUnreadable, match="written anew by the next run"):
        RunStatus.read(tmp_path)


def test_without_a_folder_a_status_is_kept_nowhere(tmp_path: Path) -> None:
    """Simulations have none."""
    StatusFile(None, run="r", rounds=1).failed("x")
    assert RunStatus.read(tmp_path) is None and not list(tmp_path.iterdir())


def test_a_damaged_round_log_is_refused(tmp_path: Path) -> None:
    """The log is what members can compare: a changed line is named."""
    write_rounds(tmp_path)
    path = tmp_path / "journal" / "current" / "0002.json"
    path.write_bytes(path.read_bytes().replace(b'"participants": 2', b'"participants": 3'))
    with pytest.raises(JournalDamaged, match=r"0002\.json"):
        newest_rounds(tmp_path / "journal")


def test_the_budget_under_noise_in_shares_is_that_of_the_plan() -> None:
    """Noise on integers takes its slack off delta: of a delta twice the slack only half is the Gaussian's."""
    words = config(Path("/x"), trust="distributed", delta=2 * DELTA_SLACK)
    cap = budget_mu2(Trust.DISTRIBUTED, words.epsilon, words.delta)
    found = budget_of(words, cap)
    assert found.left_mu2 == 0.0
    assert found.spent_epsilon == pytest.approx(words.epsilon, rel=1e-6)
    half = budget_of(words, cap / 2)
    assert half.left_mu2 == pytest.approx(cap / 2)
    assert half.spent_epsilon == pytest.approx(epsilon_of(math.sqrt(cap / 2), DELTA_SLACK))
