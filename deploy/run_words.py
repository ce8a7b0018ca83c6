"""The words of a run of a federation of processes: what its manifest fixes, where its kit lies, and defaults."""

from __future__ import annotations

from typing import Final

from deploy.kit import CoordinatorKit

Scalar = str | int | float | bool

JOURNAL: Final = "journal"
"""Folder of journals and of the status in the coordinator's data folder."""
SYSTEM_ENTROPY: Final = -1
DEFAULTS: Final[dict[str, Scalar]] = {
    "participants": "merchants",
    "ledger-keys": "",
    "offer-version": True,
    "spent-mu2": 0.0,
    "dim": 128,
    "clock": "seconds",
    "linkage": False,
    "basket-kinds": "",
    "fusion": False,
    "loss": "sampled_softmax",
    "user-tower": "pooling",
    "encoder": "hashed",
    "basis": "items",
    "recency": 0.5,
    "prior": 0.25,
    "damping": 0.2,
    "seed": SYSTEM_ENTROPY,
    "noise-seed": SYSTEM_ENTROPY,
    "timeout": 600.0,
    "buckets": 1,
    "runs": 1,
    "combine": "sum",
    "declared-shoppers": "",
}
"""Words that a manifest may leave open; the learner's are those of `fedrank simulate`."""


def run_words(kit: CoordinatorKit) -> dict[str, Scalar]:
    """Return the configuration of a run; what the authority has signed comes before every default."""
    agreed, data = kit.federation, kit.data
    return {
        **DEFAULTS,
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
