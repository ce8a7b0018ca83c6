"""The card of a model version: its schema, its data's clock, and its privacy statement."""

from __future__ import annotations

import math
from typing import Any

from model.catalogue import PublicItems, digest_of_ids
from model.schema import FUSION, complement_of
from privacy.plan import Plan, Trust
from server.coordination.config import FederationConfig
from server.coordination.learner import Learner


def model_card(
    config: FederationConfig, plan: Plan, learner: Learner, catalogue: PublicItems
) -> dict[str, Any]:
    """Return what the registry keeps beside the weights; everything in it is public or released."""
    return {
        "schema": {"items": learner.schema.items, "dim": learner.schema.dim},
        "item_ids": digest_of_ids(catalogue.item_ids),
        "user_tower": str(config.user_tower),
        "loss": str(config.loss),
        "encoder": {"name": str(learner.encoder.name), "version": learner.encoder.version},
        "clock": config.clock,
        "run_name": config.run_name,
        "head_items": len(learner.head),
        "learned": {
            "complement_columns": complement_of(learner.weights).shape[1],
            "basket_kinds": config.basket_kinds.split(",") if config.basket_kinds else [],
            "fusion": FUSION in learner.weights,
        },
        "privacy": privacy_statement(config, plan),
    }


def privacy_statement(config: FederationConfig, plan: Plan) -> dict[str, Any]:
    """Return the guarantee in words and numbers; epsilon is null where there is none."""
    epsilon = plan.total_epsilon()
    return {
        "epsilon": None if math.isinf(epsilon) else epsilon,
        "delta": plan.delta,
        "unit": "shopper",
        "trust": str(plan.trust),
        "participants": str(config.participants),
        "mechanism": "none" if math.isinf(epsilon) else "gaussian",
        "rounds": config.all_rounds,
        "spent_before_mu2": plan.spent_mu2,
        "noise": _noise_words(config),
        "releases": [
            {
                "stage": str(release.stage),
                "count": release.count,
                "clipping_norm": release.clipping_norm,
                "noise_multiplier": release.noise_multiplier,
                "mu2": None if math.isinf(release.mu2) else release.mu2,
            }
            for release in plan.releases
        ],
    }


def _noise_words(config: FederationConfig) -> str:
    """Return where the noise came from."""
    if config.trust is Trust.NONE:
        return "none"
    return "seeded (simulation)" if config.noise_seed >= 0 else "operating system entropy"
