"""How many merchants a shopper buys from: merchants cannot link shoppers, so this fact is released under noise.

The report needs it to state the guarantee of a person who is active at k merchants. Only a simulator, which
holds all events, can count it. The unit is (merchant, shopper): without it a person moves from one bin to the next,
so the L2 sensitivity of the histogram is sqrt(2). It is noised once, by the simulator, under any trust model.
"""

from __future__ import annotations

import uuid

import numpy as np

from privacy.ledger import Ledger
from privacy.ledger_records import Charge
from privacy.mechanism import GaussianSum, NoiseSource
from privacy.plan import Plan, Stage
from simulation.population import Population

PERCENTILE = 0.95


def released_linkage(population: Population, plan: Plan, ledger: Ledger, noise: NoiseSource) -> int:
    """Charge every shopper at every merchant, then return the noised 95th percentile of merchants per shopper."""
    release = plan.of(Stage.LINKAGE)
    if release.noise_multiplier is None:
        raise ValueError("linkage is released under noise only; a plan of trust none has none")
    mechanism = GaussianSum(
        clipping_norm=release.clipping_norm, noise_multiplier=release.noise_multiplier, noise=noise
    )
    release_id = f"linkage/{uuid.uuid4().hex}"
    for merchant in population.merchants:
        charge = Charge(
            release_id=release_id,
            holder=merchant,
            stage=str(Stage.LINKAGE),
            round=0,
            noise_multiplier=release.noise_multiplier,
            clipping_norm=release.clipping_norm,
            mu2=release.mu2,
        )
        ledger.reserve(charge, population.shoppers_of(merchant), plan.cap_mu2)
    most = len(population.merchants)  # public, so the histogram's length tells nothing
    counts = np.clip(population.merchants_per_shopper, 1, most)
    histogram = np.bincount(counts, minlength=most + 1)[1:]
    noisy = np.maximum(mechanism.release(histogram.astype(np.float64)), 0.0)
    for merchant in population.merchants:
        ledger.commit(release_id, merchant)
    reached = np.cumsum(noisy) >= PERCENTILE * max(float(noisy.sum()), 1.0)
    return int(np.argmax(reached)) + 1 if reached.any() else len(noisy)
