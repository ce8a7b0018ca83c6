"""The manifest of a secure round, from its task and its cohort."""

from __future__ import annotations

import math
from typing import Final

from privacy.distributed_noise import NoiseShare
from privacy.federation_manifest import FederationManifest
from privacy.fixed_point import GRID
from privacy.plan import Trust
from privacy.secagg.manifest import RoundManifest, smallest_threshold
from proto.federation import Task, layout_of
from server.coordination.influence import Influence

NARROW, WIDE = 32, 64
HEADROOM: Final = 2
"""No sum is meant to come nearer to half the modulus than this factor: what is beyond is seen to be wrong."""


def round_manifest(
    task: Task, cohort: tuple[str, ...], smallest: int, federation: FederationManifest, influence: Influence
) -> RoundManifest:
    """Return what participants check and the coordinator signs.

    Args:
        cohort: names of those who are asked, sorted.
        smallest: fewest survivors.

    Raises:
        ManifestError: no round can be like that, such as one of a single participant.
    """
    step, bits = unit_of(task, cohort, influence)
    return RoundManifest(
        federation_digest=federation.digest(),
        release_id=task.release_id,
        stage=task.stage,
        round=task.round,
        model_hash=task.model_hash,
        trust=task.trust,
        clipping_norm=task.clipping_norm,
        noise_multiplier=task.noise_multiplier,
        minimum_cohort=smallest,
        threshold=smallest_threshold(len(cohort)),
        step=step,
        modulus_bits=bits,
        layout=tuple(layout_of(task).items()),
        cohort=cohort,
    )


def unit_of(task: Task, cohort: tuple[str, ...], influence: Influence) -> tuple[float, int]:
    """Return the value of an integer unit, and the bits of an integer that no honest sum passes.

    Noise of trust `distributed` brings a unit of its own; otherwise it is that of all contributions, made coarser
    where sums are so large that 64 bits would not hold them.
    """
    behind = [influence.participants_behind(name) for name in cohort]
    shoppers = sum(map(influence.shoppers_behind, cohort, behind))
    largest = HEADROOM * influence.bound(task, shoppers, sum(behind), entries=1)
    if task.trust == Trust.DISTRIBUTED:
        step = NoiseShare.of(task, sum(layout_of(task).values())).step
        return step, NARROW if largest < math.ldexp(step, NARROW - 1) else WIDE
    return max(GRID, math.ldexp(1.0, math.frexp(largest)[1] - WIDE + 1)), WIDE
