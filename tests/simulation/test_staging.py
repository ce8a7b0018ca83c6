"""A run that is refused leaves the run before it as it was, and one ledger serves one run at a time."""

from __future__ import annotations

from pathlib import Path

import pytest
from federation_world import population

from simulation.staging import LedgerInUse, drop_stage, install, new_stage, sole_spender


def test_two_runs_never_spend_on_one_ledger_at_once(tmp_path: Path) -> None:
    """The second is refused while the first plans and spends, and served after it."""
    (tmp_path / "keys").mkdir()
    nothing = pytest.raises(LedgerInUse, match="nothing was charged")
    with sole_spender(tmp_path / "keys"), nothing, sole_spender(tmp_path / "keys"):
        raise AssertionError("two runs hold one ledger")
    with sole_spender(tmp_path / "keys"):
        pass


def test_an_error_inside_gives_the_ledger_back(tmp_path: Path) -> None:
    """A run that fails does not lock the others out."""
    (tmp_path / "keys").mkdir()
    with pytest.raises(RuntimeError), sole_spender(tmp_path / "keys"):
        raise RuntimeError
    with sole_spender(tmp_path / "keys"):
        pass


def test_a_staged_population_replaces_the_old_one_only_when_installed(tmp_path: Path) -> None:
    """Before: the old catalogue and store. After: the new ones, and no stage is left."""
    old = population(tmp_path)
    before = (tmp_path / "participants.json").read_text(encoding="utf-8")
    stage = new_stage(tmp_path)
    assert (stage / "keys").resolve() == (tmp_path / "keys").resolve()
    for part in ("catalogue.parquet", "participants.json"):
        (stage / part).write_bytes(b"new")
    (stage / "store").mkdir()
    assert (tmp_path / "participants.json").read_text(encoding="utf-8") == before
    moved = install(type(old)(**{**vars(old), "folder": stage}), tmp_path)
    assert moved.folder == tmp_path
    assert (tmp_path / "participants.json").read_bytes() == b"new"
    assert not stage.exists()
    assert (tmp_path / "keys").is_dir()


def test_dropping_a_stage_keeps_the_keys(tmp_path: Path) -> None:
    """The stage links to the keys; removing it must not follow the link."""
    population(tmp_path)
    names = sorted(path.name for path in (tmp_path / "keys").iterdir())
    new_stage(tmp_path)
    drop_stage(tmp_path)
    assert sorted(path.name for path in (tmp_path / "keys").iterdir()) == names
