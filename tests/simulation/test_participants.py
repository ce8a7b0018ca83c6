"""What a participant answers: once per release, under its own noise, for its own part only."""

from __future__ import annotations

import re
from collections import Counter
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from federation_world import place, population, settings
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from numpy.typing import NDArray
from scipy import stats

from client import work
from client.app import app as client_app
from client.charging import AlreadyAnswered, CapReached, reserve
from client.cohort import Home, cohort_at
from client.shoppers import shoppers_from
from client.store_reading import empty_columns
from model.catalogue import read_public_items
from privacy.ledger_place import ledger_at
from proto.federation import (
    CONTRIBUTION,
    DEVICES,
    EVERYONE,
    PUBLIC,
    RECEIPT,
    TASK,
    Receipt,
    Task,
    layout_words,
)
from proto.question import question_hash
from server.coordination.config import Participants
from simulation.federated import run_config_of
from simulation.grid import FIRST_NODE, InProcessGrid


def task_of(people: Any, folder: Path, **changes: Any) -> Task:
    """The question of a counts round under local trust."""
    words: dict[str, Any] = {
        "release_id": "toy/x/1-counts",
        "stage": "counts",
        "round": 1,
        "model_hash": "h",
        "trust": "local",
        "clipping_norm": 1.0,
        "noise_multiplier": 2.0,
        "mu2": 0.25,
        "cap_mu2": 10.0,
        "steps": 1,
        "expected_shoppers": 30,
        "clock": True,
        "seed": 0,
        "noise_seed": -1,
        "layout": layout_words({DEVICES: 60}),
    }
    return Task(**{**words, **changes})


def asked(people: Any, folder: Path, task: Task, kind: str = "", **public: NDArray[np.generic]) -> Message:
    """What the participants of the only node answer to a task and public arrays."""
    config = run_config_of(people, settings(), place(folder))
    grid = InProcessGrid(client_app, nodes=1, run_config=config)
    arrays = ArrayRecord({name: Array(value) for name, value in public.items()})
    content = RecordDict({TASK: ConfigRecord(dict(task.to_record())), PUBLIC: arrays})
    (answer,) = grid.send_and_receive(
        [Message(content, FIRST_NODE, f"train.{kind or task.stage}", group_id="1")]
    )
    return answer


def test_a_loss_that_nobody_knows_is_refused_before_anything_is_charged(tmp_path: Path) -> None:
    """A coordinator of a later version asks for something new: no answer, and no account is touched."""
    people = population(tmp_path)
    answer = asked(people, tmp_path, task_of(people, tmp_path, trust="central", loss="hinge"))
    assert answer.has_error()
    assert people.spent_mu2(ledger_at(place(tmp_path).ledger)) == 0.0


@pytest.mark.parametrize("kind", [Participants.BOTH, Participants.MERCHANTS])
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e25])
def test_public_arrays_beyond_the_bound_are_refused_before_anything_is_charged(
    tmp_path: Path, value: float, kind: Participants
) -> None:
    """The reason names the array; nobody has computed what it does to one history."""
    people = population(tmp_path, kind)
    size = len(read_public_items(people.folder / "catalogue.parquet"))
    axes = np.ones((size, 3), np.float32)
    layout = layout_words({EVERYONE: 6})
    task = task_of(people, tmp_path, stage="baskets", basket_kinds="purchase", layout=layout)
    axes[0, 0] = value
    answer = asked(people, tmp_path, task, axes=axes)
    receipt = Receipt.from_record(answer.content.config_records[RECEIPT])
    assert "'axes' has values that are not within" in receipt.refused and receipt.participants == 0
    assert CONTRIBUTION not in answer.content
    assert people.spent_mu2(ledger_at(place(tmp_path).ledger)) == 0.0
    axes[0, 0] = 1.0
    assert CONTRIBUTION in asked(people, tmp_path, task, axes=axes).content


@pytest.mark.parametrize(("entries", "memory", "reason"), [(61, 2**30, "61 in the layout"), (60, 60, "GiB")])
def test_an_answer_of_another_size_or_beyond_memory_is_refused_before_anything_is_charged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entries: int, memory: int, reason: str
) -> None:
    """Neither a layout that does not fit nor one that kills the process costs a shopper anything."""
    people = population(tmp_path)
    monkeypatch.setattr("client.app.memory_of_machine", lambda: memory)
    answer = asked(people, tmp_path, task_of(people, tmp_path, layout=layout_words({DEVICES: entries})))
    assert reason in Receipt.from_record(answer.content.config_records[RECEIPT]).refused
    assert people.spent_mu2(ledger_at(place(tmp_path).ledger)) == 0.0


@pytest.mark.parametrize("trust", ["local", "central", "distributed"])
def test_a_repeated_question_is_refused(tmp_path: Path, trust: str) -> None:
    """A second answer under fresh noise would be a second release at the price of one."""
    people = population(tmp_path)
    first = asked(people, tmp_path, task_of(people, tmp_path, trust=trust))
    assert CONTRIBUTION in first.content
    again = asked(people, tmp_path, task_of(people, tmp_path, trust=trust))
    receipt = Receipt.from_record(again.content.config_records[RECEIPT])
    assert "answered before" in receipt.refused
    assert receipt.participants == 0
    assert CONTRIBUTION not in again.content
    assert people.spent_mu2(ledger_at(place(tmp_path).ledger)) == 0.25


def test_a_merchant_at_its_quota_answers_with_the_reason(tmp_path: Path) -> None:
    """The round goes on without it, and its shoppers are not charged."""
    people = population(tmp_path, Participants.MERCHANTS)
    with closing(ledger_at(place(tmp_path).ledger)) as ledger:
        ledger.set_quota(people.merchants[0], 0.2)
    answer = asked(people, tmp_path, task_of(people, tmp_path))
    assert "of its quota of 0.2" in Receipt.from_record(answer.content.config_records[RECEIPT]).refused
    assert CONTRIBUTION not in answer.content
    assert ledger_at(place(tmp_path).ledger).spent(people.merchants[0]) == 0.0


def test_the_same_release_under_another_price_is_refused(tmp_path: Path) -> None:
    """A coordinator cannot ask for the same release with less noise."""
    people = population(tmp_path)
    asked(people, tmp_path, task_of(people, tmp_path))
    again = asked(people, tmp_path, task_of(people, tmp_path, noise_multiplier=0.1, mu2=100.0, cap_mu2=1e6))
    assert "answered before" in Receipt.from_record(again.content.config_records[RECEIPT]).refused
    assert CONTRIBUTION not in again.content


@pytest.mark.parametrize(("price", "steps"), [(0.2499, 1), (0.25, 2), (0.0, 1), (float("nan"), 1)])
def test_a_price_below_the_cost_of_the_noise_is_refused(tmp_path: Path, price: float, steps: int) -> None:
    """Noise of two clipping norms costs a quarter per step; a lower price would hide what was spent."""
    people = population(tmp_path)
    answer = asked(people, tmp_path, task_of(people, tmp_path, mu2=price, steps=steps))
    assert "is priced at" in Receipt.from_record(answer.content.config_records[RECEIPT]).refused
    assert CONTRIBUTION not in answer.content
    assert people.spent_mu2(ledger_at(place(tmp_path).ledger)) == 0.0


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"steps": 0, "mu2": 0.0, "noise_multiplier": 1e-6}, "has 0 steps; it takes at least 1"),
        ({"steps": -1, "mu2": 0.0, "noise_multiplier": 1e-6}, "has -1 steps; it takes at least 1"),
        ({"clipping_norm": 1e300}, "has clipping norm 1e\\+300; it must be 1e-06 to 1e\\+06"),
        ({"clipping_norm": 1e-300}, "has clipping norm 1e-300"),
        ({"clipping_norm": float("nan")}, "has clipping norm nan"),
    ],
)
@pytest.mark.parametrize("trust", ["distributed", "local"])
def test_numbers_that_have_no_price_are_refused(
    tmp_path: Path, trust: str, changes: dict[str, Any], reason: str
) -> None:
    """No steps would cost nothing and need no noise; a huge norm overflows for some histories and not for others."""
    people = population(tmp_path)
    answer = asked(people, tmp_path, task_of(people, tmp_path, trust=trust, **changes))
    assert re.search(reason, Receipt.from_record(answer.content.config_records[RECEIPT]).refused)
    assert CONTRIBUTION not in answer.content
    assert people.spent_mu2(ledger_at(place(tmp_path).ledger)) == 0.0


def test_a_refusal_tells_neither_how_many_shoppers_there_are_nor_that_one_has_gone(tmp_path: Path) -> None:
    """A coordinator can ask beyond the cap, or again, at no price: it learns nothing that noise should cover."""
    people = population(tmp_path, Participants.MERCHANTS)
    cohort = cohort_at(
        Home(population=str(people.folder), ledger=str(tmp_path / "ledger.db"), node=0, nodes=1)
    )
    unit = cohort.units[0]
    gone = replace(unit, shoppers=replace(unit.shoppers, pseudonyms=unit.shoppers.pseudonyms[1:]))
    before, after = replace(cohort, units=(unit,)), replace(cohort, units=(gone,))
    beyond = task_of(people, tmp_path, release_id="toy/x/2-counts", cap_mu2=0.1)
    reserve(task_of(people, tmp_path), before)
    for refusal, question in ((CapReached, beyond), (AlreadyAnswered, task_of(people, tmp_path))):
        words = set()
        for shoppers in (before, after):
            with pytest.raises(refusal) as refused:
                reserve(question, shoppers)
            words.add(str(refused.value))
        assert len(words) == 1


@pytest.mark.parametrize("trust", ["distributed", "central", "local"])
def test_a_merchant_without_shoppers_answers_a_release_once_too(tmp_path: Path, trust: str) -> None:
    """Two of its shares of one release's noise could be averaged; a process that has started anew remembers.

    Its account stays empty, and what is refused is worded as with shoppers.
    """
    people = population(tmp_path, Participants.MERCHANTS)
    home = Home(population=str(people.folder), ledger=str(tmp_path / "ledger.db"), node=0, nodes=1)
    cohort = cohort_at(home)
    nobody = replace(cohort.units[0], shoppers=shoppers_from([empty_columns()], {}, Counter()))
    task = task_of(people, tmp_path, trust=trust)
    (charge,) = reserve(task, replace(cohort, units=(nobody,)))
    cohort.ledger.commit(charge.release_id, charge.holder)
    with closing(ledger_at(place(tmp_path).ledger)) as anew:
        assert anew.verify() == 1 and anew.spent(nobody.holder) == 0.0
        for units in ((nobody,), cohort.units):
            with pytest.raises(AlreadyAnswered, match="was answered before; ask for a new round"):
                reserve(task, replace(cohort, units=units, ledger=anew))
    assert reserve(replace(task, trust="none"), replace(cohort, units=(nobody,))) == []


def test_a_question_for_another_stage_than_its_task_is_refused(tmp_path: Path) -> None:
    """What is checked, charged and signed is one stage; what is computed must be the same."""
    people = population(tmp_path)
    task = task_of(people, tmp_path)
    answer = asked(people, tmp_path, task, kind="gram")
    receipt = Receipt.from_record(answer.content.config_records[RECEIPT])
    assert "a question 'train.gram' came with a task of stage 'counts'" in receipt.refused
    assert people.spent_mu2(ledger_at(place(tmp_path).ledger)) == 0.0


@pytest.mark.parametrize(
    ("changes", "arrays"),
    [
        ({}, {"q": np.ones(60)}),
        ({"basket_kinds": "purchase"}, {}),
        ({"clock": False}, {}),
        ({"seed": 7}, {}),
        ({"clipping_norm": 1.5}, {}),
        ({"minimum_cohort": 2}, {}),
    ],
)
def test_under_masks_nobody_answers_another_question_than_the_rest(
    tmp_path: Path, changes: dict[str, Any], arrays: dict[str, Any]
) -> None:
    """Where the others were asked what they answer with zeros, the sum of all would be one participant's."""
    people = population(tmp_path)
    bare = task_of(people, tmp_path, secure=True)
    everybodys = replace(bare, model_hash=question_hash(bare, {}))
    for task, public, reason in (
        (replace(everybodys, **changes), arrays, "is not the one that its manifest names"),
        (everybodys, {}, "this node has no identity"),  # the next thing to be checked
    ):
        answer = asked(people, tmp_path, task, **public)
        assert reason in Receipt.from_record(answer.content.config_records[RECEIPT]).refused
        assert CONTRIBUTION not in answer.content


@pytest.mark.parametrize("kind", [Participants.MERCHANTS, Participants.SHOPPERS])
def test_local_noise_has_the_planned_deviation(tmp_path: Path, kind: Participants) -> None:
    """A merchant's counts bear one participant's noise, a cohort's of devices that of all; no other deviation."""
    people = population(tmp_path, kind)
    home = Home(population=str(people.folder), ledger=str(tmp_path / "ledger.db"), node=0, nodes=1)
    cohort = cohort_at(home)
    noise = []
    for seed in range(40):
        task = task_of(people, tmp_path, noise_seed=seed)
        for unit in cohort.units:
            exact = work.counts(replace(task, trust="central"), unit, {}, len(cohort.catalogue))
            noisy = work.counts(task, unit, {}, len(cohort.catalogue))
            noise.append((noisy - exact) / (2.0 * np.sqrt(unit.participants)))
    values = np.concatenate(noise)
    assert values.size == 40 * 60
    assert stats.kstest(values, "norm").pvalue > 1e-4
    assert abs(np.mean(values**2) - 1.0) < 0.12  # its deviation is sqrt(2 / 2400) = 0.029
    for wrong in (0.9, 1.1):
        assert abs(np.mean((wrong * values) ** 2) - 1.0) > 0.12


def test_participants_that_add_their_own_noise_are_never_asked_by_a_seed_of_the_others(
    tmp_path: Path,
) -> None:
    """Seeded local noise differs between merchants and between rounds, or it would cancel or add up."""
    people = population(tmp_path, Participants.MERCHANTS)
    home = Home(population=str(people.folder), ledger=str(tmp_path / "ledger.db"), node=0, nodes=1)
    drawn = {
        work.local_mechanism(task_of(people, tmp_path, noise_seed=1, round=number), unit).noise.normal(1)[0]
        for unit in cohort_at(home).units
        for number in (1, 2, 3)
    }
    assert len(drawn) == 3 * len(people.merchants)


def test_an_event_of_an_unknown_kind_is_left_out() -> None:
    """A newer version's kind of event does not stop this version."""
    columns = empty_columns()
    rows = [("a" * 32, "i1", "purchase", 5), ("a" * 32, "i2", "teleport", 6), ("b" * 32, "i1", "teleport", 7)]
    for shopper, item, kind, time in rows:
        columns.shopper.append(shopper)
        columns.item_id.append(item)
        columns.kind.append(kind)
        columns.timestamp.append(time)
    shoppers = shoppers_from([columns], {"i1": 0, "i2": 1}, Counter())
    assert len(shoppers) == 2
    np.testing.assert_array_equal(shoppers.histories.indptr, [0, 1, 1])
    np.testing.assert_array_equal(shoppers.liked[1], [0])


def test_the_stores_never_hold_a_contribution_of_others(tmp_path: Path) -> None:
    """A node's context names only its own part of the population."""
    people = population(tmp_path, Participants.BOTH)
    homes = [
        Home(population=str(people.folder), ledger=str(tmp_path / "l.db"), node=n, nodes=3) for n in range(3)
    ]
    units = [unit for home in homes for unit in cohort_at(home).units]
    devices = [name for unit in units if unit.part == "devices" for name in unit.shoppers.pseudonyms]
    assert sorted(devices) == sorted(people.devices)
    assert sorted(unit.holder for unit in units if unit.part != "devices") == list(people.merchants)
    assert sum(cohort_at(home).participants for home in homes) == people.participants
