"""What the card of a model version tells of the watch over its exposure, and with which version it was compared."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Final

from model.catalogue import PublicItems, digest_of_ids
from server.coordination.exposure import GROWTH, Watched, watch
from server.coordination.learner import Learner
from server.registry import ModelVersion, Registry

NAMED: Final = 100
"""Damped items that the card names, those that would have been shown most; the others are counted."""


def watched_exposure(
    registry: Registry, learner: Learner, catalogue: PublicItems
) -> tuple[Watched, dict[str, Any]]:
    """Hold what was learned against the version in service; return what to release and the card's words.

    Versions of other items, or read by another encoder, are not compared, and the words say so. Raises
    `RegistryError` where the version in service cannot be read.
    """
    served = registry.promoted()
    before = None if served is None else registry.get(served)
    if before is None or not _comparable(before, learner, catalogue):
        return Watched(weights=learner.weights, damped=()), {"compared_with": None, "damped_items": 0}
    found = watch(before.weights, learner.weights, learner.features)
    rows = [{**asdict(one), "item": catalogue.item_ids[one.item]} for one in found.damped[:NAMED]]
    words = {"compared_with": served, "growth": GROWTH, "damped_items": len(found.damped), "damped": rows}
    return found, words


def _comparable(before: ModelVersion, learner: Learner, catalogue: PublicItems) -> bool:
    card, encoder = before.card, learner.encoder
    same_items = card.get("item_ids") == digest_of_ids(catalogue.item_ids)
    return same_items and card.get("encoder") == {"name": str(encoder.name), "version": encoder.version}
