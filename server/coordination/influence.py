"""How much one participant may add to a sum: a clipping norm for each shopper that it declared, and its noise.

Every honest share has an L2 norm of at most C, so what a participant with n shoppers sends has one of at most n C,
before noise. Whoever sends more is no honest participant, whatever single entries look like.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from privacy.distributed_noise import NoiseShare
from privacy.plan import Trust
from proto.federation import Task
from server.coordination.config import FederationConfig, Participants

NOISE_REACH: Final = 20.0
"""A standard normal vector of d entries is longer than sqrt(d) + 20 with probability exp(-200) (Lipschitz bound)."""
ROUNDING: Final = 1e-4
"""Share by which rounding in single precision may lengthen a contribution."""


@dataclass(frozen=True, kw_only=True)
class Influence:
    """The public numbers from which bounds follow.

    Attributes:
        shoppers, merchants: of the whole federation.
        declared: shoppers of single participants by name; of the others only the federation's number is known.
    """

    kind: Participants
    shoppers: int
    merchants: int
    declared: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, config: FederationConfig) -> Influence:
        """Return what the run's configuration declares."""
        return cls(
            kind=config.participants,
            shoppers=config.shoppers,
            merchants=config.merchants,
            declared=config.declared,
        )

    def participants_behind(self, name: str) -> int:
        """Return the most participants that may answer under one name: itself, or in simulation a whole group."""
        if name in self.declared:
            return 1
        shoppers = 0 if self.kind is Participants.MERCHANTS else self.shoppers
        merchants = 0 if self.kind is Participants.SHOPPERS else self.merchants
        return shoppers + merchants

    def shoppers_behind(self, name: str, participants: int = 1) -> int:
        """Return the most shoppers whose shares an answer may hold that stands for so many participants."""
        if name in self.declared:
            return self.declared[name]
        if self.kind is Participants.SHOPPERS:
            return min(participants, self.shoppers)
        both = int(self.kind is Participants.BOTH)  # a shopper's device, beside its merchants
        return self.shoppers * (min(participants, self.merchants) + both)

    def bound(self, task: Task, shoppers: int, participants: int, entries: int) -> float:
        """Return the longest L2 norm of a sum over so many shoppers and participants, of so many entries."""
        noise = share_std(task, entries) * math.sqrt(participants) * (math.sqrt(entries) + NOISE_REACH)
        return (task.clipping_norm * shoppers + noise) * (1 + ROUNDING)


def share_std(task: Task, entries: int) -> float:
    """Return the standard deviation of the noise that one participant adds to each of so many entries."""
    if task.trust == Trust.DISTRIBUTED:
        return NoiseShare.of(task, entries).std
    return task.noise_multiplier * task.clipping_norm if task.trust == Trust.LOCAL else 0.0
