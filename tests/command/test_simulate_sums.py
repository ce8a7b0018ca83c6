"""`fedrank simulate --secure-aggregation`: how sums are made is chosen, told, and changes no model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from test_simulate_command import report_of, simulate

MERCHANTS = ("--participants", "merchants", "--surfaces", "home", "--json")


def run(data: Path, out: Path, *words: str) -> dict[str, Any]:
    """The report of a run of the two merchants."""
    return report_of(simulate(data, out, *MERCHANTS, *words))


@pytest.mark.parametrize("noise", [("--trust", "none"), ("--trust", "central", "--noise-seed", "5")])
def test_masked_sums_give_the_model_of_ideal_ones_and_the_report_says_which_they_were(
    data: Path, tmp_path: Path, noise: tuple[str, ...]
) -> None:
    """Ideal is the default; both add the very same numbers up."""
    ideal = run(data, tmp_path / "ideal", *noise)
    full = run(data, tmp_path / "full", *noise, "--secure-aggregation", "full")
    assert ideal["privacy"]["sums"].startswith("ideal: ") and full["privacy"]["sums"].startswith("full: ")
    assert (ideal["config"]["secure_aggregation"], full["config"]["secure_aggregation"]) == ("ideal", "full")
    for model, metrics in ideal["models"].items():
        for metric, value in metrics.items():
            assert full["models"][model][metric]["mean"] == pytest.approx(value["mean"], abs=0.02)
    assert full["privacy"]["epsilon"] == ideal["privacy"]["epsilon"]
    assert not (tmp_path / "full" / "identities").exists()


def test_too_few_parties_for_a_secure_sum_are_a_failure_that_says_so(data: Path, tmp_path: Path) -> None:
    """Two merchants cannot be a minimum cohort of five nodes, whatever the plan says."""
    done = simulate(
        data, tmp_path / "run", *MERCHANTS, "--secure-aggregation", "full", "--minimum-cohort", "3"
    )
    assert done.returncode != 0
    assert "minimum cohort is 3" in done.stderr
