"""The words of a run of a federation of processes: what its manifest fixes, where its kit lies, and defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from deploy.federation_model import SETTINGS
from deploy.kit import CoordinatorKit
from privacy.canonical import Scalar

JOURNAL: Final = "journal"
"""Folder of journals and of the status in the coordinator's data folder."""
OF_PROCESSES: Final[Mapping[str, Scalar]] = {
    "participants": "merchants",
    "ledger-keys": "",
    "offer-version": True,
    "spent-mu2": 0.0,
    "noise-seed": -1,
}
"""Words that are the same in every federation of processes."""


def run_words(kit: CoordinatorKit) -> dict[str, Scalar]:
    """Return the configuration of a run; what the authority has signed comes before every default."""
    agreed, data = kit.federation, kit.data
    return {
        **OF_PROCESSES,
        **SETTINGS,
        "minimum-nodes": agreed.minimum_cohort,
        **kit.settings,
        "declared-shoppers": ",".join(f"{name}={count}" for name, count in kit.declared_shoppers.items()),
        "run-name": agreed.federation,
        "trust": agreed.trust,
        "epsilon": agreed.epsilon,
        "delta": agreed.delta,
        "rounds": agreed.rounds,
        "shoppers": agreed.shoppers,
        "merchants": agreed.merchants,
        "minimum-cohort": agreed.minimum_cohort,
        "secure-aggregation": agreed.secure_aggregation,
        "coordinator-identity": str(kit.folder),
        "catalogue": str(kit.catalogue),
        "ledger": str(data / "ledger.db"),
        "registry": str(data / "registry"),
        "checkpoints": str(data / "rounds"),
        "journal": str(data / JOURNAL),
        "signing-key": str(kit.key),
    }
