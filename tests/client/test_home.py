"""Where a node's data lie: a merchant's kit alone says it, whatever a coordinator writes into a run."""

from __future__ import annotations

import pytest

from client.home import CohortError, Home, home_of

KIT = {"kit": "/kit", "data": "/kit/data", "merchant-id": "north"}


def test_a_kit_names_its_merchant_and_its_own_data() -> None:
    """Store, keys and ledger lie in the kit's data folder."""
    assert home_of(KIT, {}) == Home(population="/kit/data", ledger="/kit/data/ledger.db", merchant="north")


def test_a_run_cannot_point_a_merchant_to_other_files() -> None:
    """Words of the run that name places count in simulation only."""
    words = {
        "population": "/etc",
        "ledger": "postgresql://elsewhere/",
        "ledger-keys": "/elsewhere",
        "merchant-id": "south",
    }
    assert home_of(KIT, words) == home_of(KIT, {})


def test_a_kit_that_does_not_say_whose_it_is_is_refused() -> None:
    """The missing word is named."""
    with pytest.raises(CohortError, match="merchant-id"):
        home_of({"kit": "/kit", "data": "/kit/data"}, {})


def test_simulation_takes_the_runs_folder_and_the_nodes_part() -> None:
    """One node of many carries its share of a population."""
    home = home_of(
        {"partition-id": 2, "num-partitions": 8}, {"population": "runs/demo", "ledger": "runs/demo/ledger.db"}
    )
    assert home == Home(population="runs/demo", ledger="runs/demo/ledger.db", node=2, nodes=8)
