"""What a question's score is made of: one vector per question, and the parts that it was put together from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from server.serving.profile import Profile
from server.serving.query import RankQuery, Surface
from server.serving.snapshot import Floats, Snapshot
from server.serving.tower import Inputs, Reading
from server.serving.words import Matches

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The score of item i is `query` . z_i, plus what freshness counts on the candidates.

    The rows of an index are z = [v | w | p]. With a = `counts`, V the first dim columns of the reading's vectors, and
    t = `weights` in the order of `model.features.FUSION_FEATURES`, the parts of `query` are

    * `pooled[0]`: gain * sum a_0h V_h / sqrt(sum a_0h), the history; with `base` it is the user embedding; times t_0;
    * `pooled[1]`: the same of the session with a_1; times t_1;
    * `pooled[2]`: sum anchors_h w_h of the reading, what goes together; times t_2;
    * t_3 in the last column, the prior; t_4 times the reading's text.

    Attributes:
        query: (D,).
        weights: (features,) of the surface.
        reading: the events, newest first, and the vectors given.
        items: (e,) whose event each row of the reading and of `counts` (2, e) is; on detail the item looked at comes
            last.
        pooled: (3, D).
        base: (dim,) the moment, and the embedding or segment given.
        matches: which items hold which words; on search only.
    """

    query: Floats
    weights: Floats
    reading: Reading
    items: Ints
    counts: Floats
    pooled: Floats
    base: Floats
    matches: Matches | None


def compose(
    snapshot: Snapshot, queries: Sequence[RankQuery], profiles: Sequence[Profile], inputs: Inputs
) -> list[Parts]:
    """The parts of each question's score, with one call of the tower for all; `inputs` are those of the profiles."""
    fused = snapshot.tower.run(inputs)
    return [
        Parts(
            query=fused.query[row],
            weights=snapshot.fusion[profile.reading.surface],
            reading=profile.reading,
            items=_items(profile),
            counts=fused.counts[row, :, : len(profile.reading.vectors)],
            pooled=fused.pooled[row],
            base=fused.base[row],
            matches=snapshot.words.match(query.words) if query.surface is Surface.SEARCH else None,
        )
        for row, (query, profile) in enumerate(zip(queries, profiles, strict=True))
    ]


def _items(profile: Profile) -> Ints:
    return profile.read.items if profile.anchor is None else np.append(profile.read.items, profile.anchor)
