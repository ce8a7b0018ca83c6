"""The card of a model version: its schema, its data's clock, and its privacy statement."""

from __future__ import annotations

import math
from typing import Any

from model.catalogue import PublicItems, digest_of_ids
from model.schema import FUSION, complement_of
from privacy.plan import Plan, Trust
from server.coordination.config import FederationConfig
from server.coordination.learner import Learner

SILENT_PARTS = (10, 3)
"""Parts of all participants, one in so many, for which the card says what holds if they add no noise."""


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
        "mechanism": "none" if math.isinf(epsilon) else _mechanism(plan),
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
        **(_shares(config, plan) if plan.trust is Trust.DISTRIBUTED else {}),
    }


def _mechanism(plan: Plan) -> str:
    return "discrete gaussian, in shares" if plan.trust is Trust.DISTRIBUTED else "gaussian"


def _shares(config: FederationConfig, plan: Plan) -> dict[str, Any]:
    """Return for how many participants the noise is calibrated, and what is left of it if some add none.

    A participant that lies cannot be told from one that adds its share: the statement is for f that do not, of the
    smallest cohort that is released.
    """
    most = config.most_participants
    silent = sorted({0, 1, *(math.ceil(most / part) for part in SILENT_PARTS)})
    stated = {lying: plan.epsilon_if_silent(lying, config.minimum_cohort) for lying in silent}
    return {
        "minimum_cohort": config.minimum_cohort,
        "most_participants": most,
        "if_silent": [
            {"participants": lying, "epsilon": None if math.isinf(epsilon) else epsilon}
            for lying, epsilon in stated.items()
        ],
    }


def _noise_words(config: FederationConfig) -> str:
    """Return where the noise came from."""
    if config.trust is Trust.NONE:
        return "none"
    return "seeded (simulation)" if config.noise_seed >= 0 else "operating system entropy"
