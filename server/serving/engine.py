"""Loads the promoted model version over a catalogue, ranks with it, and swaps a newer one in atomically."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from model.features import HISTORY_LIMIT
from server.errors import NothingPromoted
from server.registry import Registry
from server.serving.catalogue import Catalogue, read_catalogue
from server.serving.order import Order, order_items
from server.serving.profile import Profile, read_profile
from server.serving.query import Basis, RankedItem, Ranking, RankQuery, Reason, Surface
from server.serving.reasons import explain
from server.serving.snapshot import Snapshot, build_snapshot


class Engine:
    """Answers rankings; one immutable snapshot at a time."""

    def __init__(
        self, registry: Registry, catalogue: Catalogue, *, merchant_id: str | None, version: str | None
    ) -> None:
        """Build the first snapshot; see `load`."""
        self._registry = registry
        self._catalogue = catalogue
        self._merchant_id = merchant_id
        self._pinned = version
        self._snapshot = self._build(self._wanted())

    @classmethod
    def load(
        cls,
        registry: Registry,
        catalogue_path: Path,
        *,
        merchant_id: str | None = None,
        version: str | None = None,
    ) -> Engine:
        """Load the promoted version, or the one given, over the catalogue, or one merchant's part of it.

        Raises `NothingPromoted`, `RegistryError` or `CatalogueError`.
        """
        return cls(registry, read_catalogue(catalogue_path), merchant_id=merchant_id, version=version)

    @property
    def snapshot(self) -> Snapshot:
        """What answers are made from now; take it once per request."""
        return self._snapshot

    def refresh(self) -> bool:
        """Take the promoted version if it is another than the one served; True if it was taken.

        The swap is one assignment: requests in flight keep their snapshot. Raises as `load`; on an error the
        old snapshot stays.
        """
        version = self._wanted()
        if version == self._snapshot.version:
            return False
        self._snapshot = self._build(version)
        return True

    def _wanted(self) -> str:
        version = self._pinned or self._registry.promoted()
        if version is None:
            raise NothingPromoted("the registry holds no promoted model version; promote one, then serve")
        return version

    def _build(self, version: str) -> Snapshot:
        return build_snapshot(self._registry.get(version), self._catalogue, self._merchant_id)


def rank(snapshot: Snapshot, query: RankQuery) -> Ranking:
    """Answer one question from one snapshot: at most `query.k` known items, none twice.

    Raises `UnknownItem` (detail) or `WrongModelVersion` (embedding).
    """
    profile = read_profile(snapshot, query)
    order = order_items(snapshot, query, profile)
    reasons = explain(snapshot, query, profile, order)
    return Ranking(
        model_version=snapshot.version,
        items=_listed(snapshot.catalogue, order, reasons),
        basis=Basis.NOT_USED if query.surface is Surface.DETAIL else profile.basis,
        unknown_history_items=profile.unknown,
        dropped_history_events=profile.dropped,
        notices=_notices(order, profile),
    )


def _listed(catalogue: Catalogue, order: Order, reasons: Sequence[Reason]) -> list[RankedItem]:
    return [
        RankedItem(
            item_id=catalogue.item_ids[item],
            merchant_id=catalogue.merchant_ids[item],
            title=catalogue.titles[item],
            reason=reason,
            score=score,
        )
        for item, score, reason in zip(order.items.tolist(), order.scores.tolist(), reasons, strict=True)
    ]


def _notices(order: Order, profile: Profile) -> tuple[str, ...]:
    if not profile.dropped or len(profile.history.items) < HISTORY_LIMIT:
        return order.notices
    cut = f"of the history only the newest {HISTORY_LIMIT} distinct events were read"
    return (*order.notices, cut)
