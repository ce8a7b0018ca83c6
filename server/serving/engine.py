"""Ranks with the promoted model version over a catalogue, and swaps a newer state of either in atomically."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from model.features import HISTORY_LIMIT
from server.errors import ServerError
from server.registry import Registry
from server.serving.candidates import generate
from server.serving.exposure import Exposure
from server.serving.fields import names_of
from server.serving.nearest import Candidates
from server.serving.policy import Policy
from server.serving.pools import pools_of
from server.serving.profile import Asked, Profiles, check, read_profiles
from server.serving.promotions import Promotion
from server.serving.query import RankQuery, Reason, Surface
from server.serving.ranking import Ranking
from server.serving.reasons import explain
from server.serving.reasons_causes import tables_of
from server.serving.rerank import Chosen, rerank
from server.serving.scoring import compose
from server.serving.snapshot import Snapshot
from server.serving.snapshot_source import SnapshotSource

POOL = 200
"""Candidates that the knobs of a surface choose from, at least; four times the list where that is more."""


class Engine:
    """Answers rankings; one immutable snapshot at a time."""

    def __init__(self, source: SnapshotSource, policy: Policy) -> None:
        """Take the first snapshot; see `load`."""
        self._source = source
        self._policy = policy
        self._exposure = Exposure()
        self._state = source.state()
        self._snapshot = _ready(source.snapshot(self._state))

    @classmethod
    def load(
        cls,
        registry: Registry,
        catalogue_path: Path,
        *,
        merchant_id: str | None = None,
        version: str | None = None,
        policy: Policy | None = None,
    ) -> Engine:
        """Load the promoted version, or the one given, over the catalogue, or one merchant's part of it.

        Raises `NothingPromoted`, `RegistryError` or `CatalogueError`.
        """
        source = SnapshotSource(registry, catalogue_path, merchant_id=merchant_id, version=version)
        return cls(source, policy or Policy())

    @property
    def snapshot(self) -> Snapshot:
        """What answers are made from now; take it once per request."""
        return self._snapshot

    def refresh(self) -> bool:
        """Take the promoted version, changes of the catalogue and promotions; True if there was anything to take.

        The swap is one assignment: requests in flight keep their snapshot. Raises as `load`; on an error the
        old snapshot stays.
        """
        state = self._source.state()
        if state == self._state:
            return False
        self._snapshot, self._state = _ready(self._source.snapshot(state)), state
        return True

    def rank(self, queries: Sequence[RankQuery]) -> list[Ranking]:
        """As `answer`, but raises the error of the first question that is at fault."""
        rankings = []
        for answer in self.answer(queries):
            if isinstance(answer, ServerError):
                raise answer
            rankings.append(answer)
        return rankings

    def answer(self, queries: Sequence[RankQuery]) -> list[Ranking | ServerError]:
        """Answer questions from the snapshot of this moment: each at most `k` known items, none twice.

        Together they cost less than one by one. A question at fault gets its error, and takes no other with it:
        `UnknownItem` (detail), `WrongModelVersion` (embedding) or `InvalidRequest`.
        """
        snapshot = self._snapshot
        checked = [_checked(snapshot, query) for query in queries]
        rankings = iter(self._rank(snapshot, [one for one in checked if isinstance(one, Asked)]))
        return [next(rankings) if isinstance(one, Asked) else one for one in checked]

    def _rank(self, snapshot: Snapshot, asked: Sequence[Asked]) -> list[Ranking]:
        if not asked:
            return []
        composed = compose(snapshot, read_profiles(snapshot, asked))
        wanted = [self._pool(one.query) for one in asked]
        freshest = [self._policy.of(one.query.surface).fresh_share > 0 for one in asked]
        candidates = generate(snapshot, composed, wanted, freshest)
        chosen = [self._chosen(snapshot, *pair) for pair in zip(asked, candidates, strict=True)]
        reasons = explain(snapshot, composed, chosen)
        return _rankings(snapshot, composed.profiles, candidates, chosen, reasons)

    def _pool(self, query: RankQuery) -> int:
        return query.k if self._policy.of(query.surface).is_off else max(POOL, 4 * query.k)

    def _chosen(self, snapshot: Snapshot, asked: Asked, candidates: Candidates) -> Chosen:
        query, knobs = asked.query, self._policy.of(asked.query.surface)
        return rerank(snapshot, candidates, knobs, query.k, self._exposure, query.seed, now=query.timestamp)


def _rankings(
    snapshot: Snapshot,
    profiles: Profiles,
    candidates: Sequence[Candidates],
    chosen: Sequence[Chosen],
    reasons: Sequence[Sequence[Reason]],
) -> list[Ranking]:
    past, read = np.diff(profiles.known.marks[::2], prepend=0, axis=1).tolist()
    return [
        Ranking(
            snapshot=snapshot,
            items=listed.items,
            scores=listed.scores,
            candidates=len(found.items),
            basis=profiles.bases[row],
            reasons=reasons[row],
            propensities=listed.propensities,
            promotions=_promotions(snapshot, one.query, listed),
            unknown_history_items=len(one.history) + len(one.session) - past[row],
            dropped_history_events=past[row] - read[row],
            notices=(*found.notices, *listed.notices, *_notices(past[row], read[row])),
        )
        for row, (one, found, listed) in enumerate(zip(profiles.asked, candidates, chosen, strict=True))
    ]


def _checked(snapshot: Snapshot, query: RankQuery) -> Asked | ServerError:
    """A question, or why it cannot be answered."""
    try:
        return check(snapshot, query)
    except ServerError as error:
        return error


def _ready(snapshot: Snapshot) -> Snapshot:
    """The snapshot, with what its first question would have to wait for."""
    pools_of(snapshot)
    names_of(snapshot.items)
    tables_of(snapshot)
    return snapshot


def _promotions(snapshot: Snapshot, query: RankQuery, chosen: Chosen) -> Mapping[int, Promotion]:
    if query.surface is not Surface.PROMOTION:
        return {}
    best = {
        place: snapshot.promotions.best(item, query.timestamp)
        for place, item in enumerate(chosen.items.tolist())
    }
    return {place: promotion for place, promotion in best.items() if promotion is not None}


def _notices(known: int, read: int) -> tuple[str, ...]:
    if known == read or read < HISTORY_LIMIT:
        return ()
    return (f"of the history only the newest {HISTORY_LIMIT} distinct events were read",)
