"""What the card of a model version tells of the watch over its exposure, and with which version it was compared."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

from model.catalogue import PublicItems
from server.coordination.exposure import GROWTH, Watched, watch
from server.coordination.learner import Learner
from server.registry import Registry

log = logging.getLogger("fedrank.coordination")

NAMED: Final = 100
"""Damped items that the card names, those that would have been shown most; the others are counted."""
ALIKE: Final = ("item_ids", "encoder", "schema", "user_tower", "loss")
"""Words of a card in which two versions must agree: between others every item's exposure changes."""
CLOSE: Final = 0.01
"""Share by which the epsilons of two versions may differ."""


def watched_exposure(
    registry: Registry, learner: Learner, catalogue: PublicItems, card: Mapping[str, Any]
) -> tuple[Watched, dict[str, Any]]:
    """Hold what was learned against the version in service; return what to release and the card's words.

    A version of other items or settings is not compared: the words say so, and a line in the log says why. Raises
    `RegistryError` where the version in service cannot be read.
    """
    served = registry.promoted()
    before = None if served is None else registry.get(served)
    if before is None or (differing := differences(before.card, card)):
        if before is not None:
            log.warning("exposure is not watched: version %s has another %s", served, ", ".join(differing))
        return Watched(weights=learner.weights, damped=()), {"compared_with": None, "damped_items": 0}
    found = watch(before.weights, learner.weights, learner.features)
    rows = [{**asdict(one), "item": catalogue.item_ids[one.item]} for one in found.damped[:NAMED]]
    words = {"compared_with": served, "growth": GROWTH, "damped_items": len(found.damped), "damped": rows}
    return found, words


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Return the words in which two cards differ so that their versions cannot be compared."""
    found = [name for name in ALIKE if before.get(name) != after.get(name)]
    old, new = (card.get("privacy", {}) for card in (before, after))
    if old.get("trust") != new.get("trust"):
        found.append("trust")
    if not math.isclose(*(card.get("epsilon") or 0.0 for card in (old, new)), rel_tol=CLOSE):
        found.append("epsilon")
    return found
