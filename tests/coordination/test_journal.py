"""A journal gives back what was released, to the last bit, and nothing else: damage and strangers are refused."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from privacy.plan import Plan, Stage, Trust, make_plan
from proto.federation import Task
from server.coordination.journal import (
    CURRENT,
    KEPT_ARRAYS,
    ForeignJournal,
    JournalInUse,
    finished_runs,
    opened,
)
from server.coordination.journal_entry import Entry, JournalDamaged, Outcome

ROOT = Path(__file__).resolve().parents[2]
IDENTITY = {"configuration": "c0", "catalogue": "c1", "federation manifest": ""}
PLAN = make_plan(
    trust=Trust.CENTRAL, epsilon=3.0, delta=1e-6, counts={Stage.COUNTS: 1, Stage.GRADIENT: 7}, spent_mu2=0.1
)
TASK = Task(
    release_id="toy/1/1-counts",
    stage="counts",
    round=1,
    model_hash="abc",
    trust="central",
    clipping_norm=1.0,
    noise_multiplier=1.7,
    mu2=1.7**-2,
    cap_mu2=0.1 + 0.2,
    steps=1,
    expected_shoppers=9,
    clock=True,
    seed=-1,
    noise_seed=-1,
)
SUMS = {"devices": np.array([1.5, -2.25, 1e-300]), "merchant:ä": np.zeros((2, 3))}
ANSWERS = {"participants": 3, "cohort": ("a", "b"), "refused": ("c: no answer came in time",)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a journal lies."""
    return tmp_path / "journal"


def three_rounds(folder: Path) -> list[Entry]:
    """Write a round that was released, one that was given up, and its next attempt."""
    with opened(folder, IDENTITY, spent_mu2=lambda: 0.125) as kept:
        kept.release(TASK, PLAN, SUMS, **ANSWERS)
        kept.give_up(replace(TASK, round=2), PLAN, "round 2 (gram) was given up: nobody came")
        kept.release(replace(TASK, round=2, stage="gram"), PLAN, {"devices": np.ones(3)}, **ANSWERS)
        return list(kept.entries)


def test_what_was_released_comes_back_to_the_last_bit_with_its_plan_and_its_cohort(folder: Path) -> None:
    """Arrays, task, plan and names are the very same in the next process; a void round has no arrays."""
    written = three_rounds(folder)
    with opened(folder, IDENTITY, spent_mu2=lambda: 99.0) as kept:
        assert list(kept.entries) == written
        assert kept.spent_before == 0.125
        entry, found = kept.released(1) or (None, {})
        assert entry is not None and entry.plan == PLAN and entry.task == TASK
        assert (entry.participants, entry.cohort, entry.refused) == tuple(ANSWERS.values())
        assert {name: value.tobytes() for name, value in found.items()} == {
            name: value.tobytes() for name, value in SUMS.items()
        }
        assert [one.outcome for one in kept.entries] == [Outcome.RELEASED, Outcome.VOID, Outcome.RELEASED]
        assert kept.entries[1].reason.endswith("nobody came")
        second = kept.released(2)
        assert second is not None and second[0].number == 3
        assert kept.released(3) is None


@settings(max_examples=40, deadline=None)
@given(
    value=arrays.arrays(np.float64, arrays.array_shapes(max_dims=2, max_side=5), elements=st.floats()),
    spent=st.floats(0, 1.0),
    cap=st.floats(1e-3, 1e6),
)
def test_any_array_and_any_plan_come_back_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, value: np.ndarray, spent: float, cap: float
) -> None:
    """JSON and safetensors keep every bit, of numbers that are none as well."""
    plan = replace(PLAN, spent_mu2=spent)
    place = tmp_path_factory.mktemp("any")
    with opened(place, IDENTITY, spent_mu2=lambda: spent) as kept:
        kept.release(replace(TASK, cap_mu2=cap), plan, {"devices": value}, **ANSWERS)
    with opened(place, IDENTITY, spent_mu2=lambda: 0.0) as kept:
        entry, found = kept.released(1) or (None, {})
        assert entry is not None and entry.plan == plan and entry.task.cap_mu2 == cap
        assert found["devices"].tobytes() == value.tobytes() and found["devices"].shape == value.shape


def test_a_journal_of_something_else_is_refused_and_what_is_different_is_named(folder: Path) -> None:
    """Another catalogue, configuration or manifest: the released arrays would teach another model."""
    three_rounds(folder)
    for name in IDENTITY:
        with (
            pytest.raises(ForeignJournal, match=f"begun with another {name};.*stays spent"),
            opened(folder, {**IDENTITY, name: "other"}, spent_mu2=lambda: 0.0),
        ):
            pass


def test_a_run_that_never_came_to_a_round_stands_in_nobodys_way(folder: Path) -> None:
    """It was refused before anything was asked, for want of budget: the next one may be over something else."""
    for name in ("one", "another"):
        with opened(folder, {**IDENTITY, "configuration": name}, spent_mu2=lambda: 0.0) as kept:
            assert kept.entries == ()


Damage = Callable[[Path], object]


def flip(name: str, place: int) -> Damage:
    """Change one byte of a file."""

    def act(folder: Path) -> None:
        content = bytearray((folder / name).read_bytes())
        content[place] ^= 1
        (folder / name).write_bytes(content)

    return act


def forge(folder: Path) -> None:
    """Change a number of an entry without its digest."""
    words = json.loads((folder / "0003.json").read_bytes())
    words["participants"] = 4
    (folder / "0003.json").write_text(json.dumps(words))


DAMAGE: dict[str, tuple[str, Damage]] = {
    "a bit of an array": ("0001.safetensors", flip("0001.safetensors", -1)),
    "a bit of the newest array": ("0003.safetensors", flip("0003.safetensors", -3)),
    "a header of arrays": ("0001.safetensors", flip("0001.safetensors", 1)),
    "an array is gone": ("0003.safetensors", lambda folder: (folder / "0003.safetensors").unlink()),
    "arrays swapped": (
        "0001.safetensors",
        lambda folder: (folder / "0003.safetensors").replace(folder / "0001.safetensors"),
    ),
    "an entry is gone": ("0003.json", lambda folder: (folder / "0002.json").unlink()),
    "the first entry is gone": ("0002.json", lambda folder: (folder / "0001.json").unlink()),
    "entries swapped": ("0002.json", lambda folder: (folder / "0003.json").replace(folder / "0002.json")),
    "an entry repeated": (
        "0004.json",
        lambda folder: (folder / "0004.json").write_bytes((folder / "0003.json").read_bytes()),
    ),
    "a number changed": ("0003.json", forge),
    "an entry is cut off": ("0003.json", lambda folder: (folder / "0003.json").write_bytes(b'{"format": 1,')),
    "an entry is a list": ("0003.json", lambda folder: (folder / "0003.json").write_bytes(b"[]")),
    "the opening is gone": ("journal.json", lambda folder: (folder / "journal.json").unlink()),
    "the opening is changed": ("journal.json", flip("journal.json", 40)),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_journal_is_refused_and_the_file_is_named(folder: Path, name: str) -> None:
    """Nothing is learned from what is not what was released."""
    three_rounds(folder)
    file, act = DAMAGE[name]
    act(folder / CURRENT)
    with (
        pytest.raises(JournalDamaged, match=f"{file}.*restore the journal"),
        opened(folder, IDENTITY, spent_mu2=lambda: 0.0),
    ):
        pass


def test_an_entry_of_another_run_is_refused(folder: Path, tmp_path: Path) -> None:
    """It is whole and has the right number; it follows another beginning."""
    three_rounds(folder)
    three_rounds(tmp_path / "other")
    (tmp_path / "other" / CURRENT / "0003.json").replace(folder / CURRENT / "0003.json")
    with (
        pytest.raises(JournalDamaged, match=r"0003\.json.*does not follow entry 2"),
        opened(folder, IDENTITY, spent_mu2=lambda: 0.0),
    ):
        pass


def test_two_coordinators_on_one_journal_are_refused(folder: Path) -> None:
    """In this process and in another; the lock goes with the process that has it."""
    program = (
        "import sys; from pathlib import Path; from server.coordination.journal import *\n"
        "with opened(Path(sys.argv[1]), {}, spent_mu2=lambda: 0.0): print('mine')"
    )
    with opened(folder, {}, spent_mu2=lambda: 0.0):
        with (
            pytest.raises(JournalInUse, match="another coordinator"),
            opened(folder, {}, spent_mu2=lambda: 0.0),
        ):
            pass
        other = subprocess.run(
            [sys.executable, "-c", program, str(folder)], cwd=ROOT, capture_output=True, text=True
        )
        assert "JournalInUse" in other.stderr and not other.stdout
    other = subprocess.run(
        [sys.executable, "-c", program, str(folder)], cwd=ROOT, capture_output=True, text=True
    )
    assert other.stdout == "mine\n"


def test_arrays_without_an_entry_are_a_round_that_never_was(folder: Path) -> None:
    """A crash between both: the next release of that number takes their place."""
    three_rounds(folder)
    (folder / CURRENT / "0004.safetensors").write_bytes(b"half of it")
    (folder / CURRENT / ".0004.json").write_bytes(b"half of it")
    with opened(folder, IDENTITY, spent_mu2=lambda: 0.0) as kept:
        assert len(kept.entries) == 3
        kept.release(replace(TASK, round=3), PLAN, SUMS, **ANSWERS)
    with opened(folder, IDENTITY, spent_mu2=lambda: 0.0) as kept:
        assert kept.released(3) is not None


def test_a_finished_run_is_put_away_and_the_next_one_begins_anew(folder: Path) -> None:
    """Its entries stay for whoever asks; the arrays of the newest runs alone."""
    runs = []
    for _ in range(KEPT_ARRAYS + 2):
        three_rounds(folder)
        with opened(folder, IDENTITY, spent_mu2=lambda: 0.0) as kept:
            runs.append(kept.run_id)
            kept.finish()
    assert [path.name for path in finished_runs(folder)] == runs
    with_arrays = [path.name for path in finished_runs(folder) if list(path.glob("*.safetensors"))]
    assert with_arrays == runs[-KEPT_ARRAYS:]
    assert all(len(list((folder / run).glob("0*.json"))) == 3 for run in runs)
    with opened(folder, {**IDENTITY, "catalogue": "a new one"}, spent_mu2=lambda: 0.5) as kept:
        assert kept.entries == () and kept.spent_before == 0.5


def test_the_plan_of_an_entry_is_the_whole_plan() -> None:
    """Every field of a plan travels: one that was left out would be made up after a crash."""
    entry = Entry(
        number=1,
        task=TASK,
        plan=PLAN,
        outcome=Outcome.RELEASED,
        at="",
        reason="",
        arrays="",
        previous="",
        **ANSWERS,  # type: ignore[arg-type]
    )
    read = Entry.from_bytes(entry.to_bytes(), "x")
    assert isinstance(read.plan, Plan) and read == entry
