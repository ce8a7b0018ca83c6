"""Ranks with the promoted model version over a catalogue, and swaps a newer state of either in atomically."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from model.features import HISTORY_LIMIT
from server.errors import ServerError
from server.registry import Registry
from server.serving.candidates import generate
from server.serving.exposure import Exposure
from server.serving.fields import names_of
from server.serving.nearest import Candidates
from server.serving.policy import Policy
from server.serving.pools import pools_of
from server.serving.profile import Asked, Profile, check, read_profiles
from server.serving.promotions import Promotion
from server.serving.query import RankQuery, Surface
from server.serving.ranking import Ranking
from server.serving.reasons import explain
from server.serving.rerank import Chosen, rerank
from server.serving.scoring import Parts, compose
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
        queries = [one.query for one in asked]
        profiles, inputs = read_profiles(snapshot, asked)
        parts = compose(snapshot, queries, profiles, inputs)
        wanted = [self._pool(query) for query in queries]
        freshest = [self._policy.of(query.surface).fresh_share > 0 for query in queries]
        candidates = generate(snapshot, queries, profiles, parts, wanted, freshest)
        return [
            self._ranking(snapshot, *question)
            for question in zip(queries, profiles, parts, candidates, strict=True)
        ]

    def _pool(self, query: RankQuery) -> int:
        return query.k if self._policy.of(query.surface).is_off else max(POOL, 4 * query.k)

    def _ranking(
        self, snapshot: Snapshot, query: RankQuery, profile: Profile, parts: Parts, candidates: Candidates
    ) -> Ranking:
        knobs = self._policy.of(query.surface)
        chosen = rerank(snapshot, candidates, knobs, query.k, self._exposure, query.seed, now=query.timestamp)
        return Ranking(
            snapshot=snapshot,
            items=chosen.items,
            scores=chosen.scores,
            candidates=len(candidates.items),
            basis=profile.basis,
            reasons=explain(snapshot, query, profile, parts, chosen) if query.reasons else (),
            propensities=chosen.propensities,
            promotions=_promotions(snapshot, query, chosen),
            unknown_history_items=profile.unknown,
            dropped_history_events=profile.dropped,
            notices=(*candidates.notices, *chosen.notices, *_notices(profile)),
        )


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
    return snapshot


def _promotions(snapshot: Snapshot, query: RankQuery, chosen: Chosen) -> Mapping[int, Promotion]:
    if query.surface is not Surface.PROMOTION:
        return {}
    best = {
        place: snapshot.promotions.best(item, query.timestamp)
        for place, item in enumerate(chosen.items.tolist())
    }
    return {place: promotion for place, promotion in best.items() if promotion is not None}


def _notices(profile: Profile) -> tuple[str, ...]:
    if not profile.dropped or len(profile.read.items) < HISTORY_LIMIT:
        return ()
    return (f"of the history only the newest {HISTORY_LIMIT} distinct events were read",)
