"""Questions about the small marketplace of the conftest, and its towers computed by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from model.features import KINDS, Context, Histories, moments
from model.fusion import fusion_weights
from model.schema import Weights
from model.two_tower import encode_users
from server.registry import ModelVersion
from server.serving.catalogue import Catalogue
from server.serving.catalogue_changes import folded
from server.serving.engine import Engine
from server.serving.prepared_columns import base_columns
from server.serving.profile import Profile, check, read_profiles
from server.serving.query import PastEvent, RankQuery, Surface
from server.serving.ranking import Ranking
from server.serving.scoring import Parts, compose
from server.serving.snapshot import Snapshot, coarse_of, snapshot_of

NOW = 1_700_000_000
HOME = RankQuery(surface=Surface.HOME, k=10, timestamp=NOW)
Floats = npt.NDArray[np.float32]


def bought(*items: int, kind: str = "purchase") -> list[PastEvent]:
    """Events of one kind, an hour apart, the last one newest."""
    return [
        PastEvent(item_id=f"item-{item:02d}", kind=kind, time=NOW - 3600 * (len(items) - place))
        for place, item in enumerate(items)
    ]


def build_snapshot(model: ModelVersion, catalogue: Catalogue, merchant_id: str | None = None) -> Snapshot:
    """What a prepared folder would hold of a version over a catalogue, in memory; `merchant_id` cuts it to one."""
    columns = base_columns(model, catalogue, folded([]), merchant_id)
    return snapshot_of(model.version, model.card, columns, coarse_of(columns))


def profile_of(snapshot: Snapshot, query: RankQuery) -> Profile:
    """What is known of the shopper of one question."""
    return Profile(read_profiles(snapshot, [check(snapshot, query)]), 0)


def parts_of(snapshot: Snapshot, query: RankQuery) -> Parts:
    """What the score of one question is made of."""
    return Parts(compose(snapshot, read_profiles(snapshot, [check(snapshot, query)])), 0)


def rank(engine: Engine, query: RankQuery) -> Ranking:
    """The answer to one question."""
    return engine.rank([query])[0]


def ids(ranking: Ranking) -> list[str]:
    """The item ids of an answer, best first."""
    return [item.item_id for item in ranking.listed()]


def names(rows: Sequence[int] | npt.NDArray[np.int64]) -> list[str]:
    """The ids of the marketplace's items."""
    return [f"item-{row:02d}" for row in rows]


def history_of(events: Sequence[PastEvent], now: int = NOW) -> Histories:
    """What the user tower reads of events, by the towers' own rules."""
    rows = [int(event.item_id.removeprefix("item-")) for event in events]
    times = [min(now, now if event.time is None else event.time) for event in events]
    order = sorted(range(len(events)), key=lambda place: times[place])
    return Histories(
        np.array([0, len(events)], dtype=np.int64),
        np.array([rows[place] for place in order], dtype=np.int32),
        np.array([KINDS.index(events[place].kind) for place in order], dtype=np.int8),
        np.array([times[place] for place in order], dtype=np.int64),
    ).recent()


def user_of(
    snapshot: Snapshot,
    weights: Weights,
    events: Sequence[PastEvent],
    surface: Surface,
    *,
    moment: bool = True,
) -> Floats:
    """The user embedding (dim,) by `model.two_tower`; without the context rows unless `moment`."""
    own = weights if moment else {**weights, "context": 0 * weights["context"]}
    looks = moments([Context(surface=surface.value, timestamp=NOW)])
    vectors = np.asarray(snapshot.index.vectors[:, : snapshot.dim])
    return np.asarray(encode_users(own, vectors, history_of(events), looks)[0], dtype=np.float32)


def score_by_hand(
    snapshot: Snapshot,
    weights: Weights,
    surface: Surface,
    events: Sequence[PastEvent],
    session: Sequence[PastEvent] = (),
) -> Floats:
    """(items,) affinity, session and prior, each by the weight of the surface; `session` is part of `events`."""
    affinity, of_session, _, prior, _, _ = fusion_weights(weights)[list(Surface).index(surface)]
    vectors = np.asarray(snapshot.index.vectors[:, : snapshot.dim])
    user = affinity * user_of(snapshot, weights, events, surface)
    user = user + of_session * user_of(snapshot, weights, session, surface, moment=False)
    return np.asarray(vectors @ user + prior * weights["item_bias"], dtype=np.float32)


item_names = st.one_of(st.integers(0, 59).map("item-{:02d}".format), st.sampled_from(["", "item-999", "删"]))
past_events = st.builds(
    PastEvent,
    item_id=item_names,
    kind=st.sampled_from(KINDS),
    time=st.one_of(st.none(), st.integers(0, 2 * NOW)),
)
queries = st.builds(
    RankQuery,
    surface=st.sampled_from(Surface),
    k=st.integers(1, 200),
    timestamp=st.integers(0, 2 * NOW),
    history=st.one_of(st.none(), st.lists(past_events, max_size=130)),
    stored=st.booleans(),
    words=st.sampled_from(["coffee", "tea 绿茶", "nothing", "brand1 tea"]),
    item_id=st.integers(0, 59).map("item-{:02d}".format),
    exclude_seen=st.booleans(),
    session=st.lists(past_events, max_size=5),
    segment=st.sampled_from([None, 0]),
    hidden=st.lists(item_names, max_size=10),
    categories=st.sampled_from([(), ("Grocery > shelf 1",), ("Grocery",), ("no such",)]),
    merchants=st.sampled_from([(), ("merchant-1", "merchant-2"), ("nobody",)]),
    reasons=st.booleans(),
)
"""Whatever may be asked."""
