"""What a question's score is made of: one vector per question, and the parts that it was put together from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from server.serving.profile import Profile, Profiles
from server.serving.query import Surface
from server.serving.snapshot import Floats, Snapshot
from server.serving.tower import Fused, Reading
from server.serving.words import Matches

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Composed:
    """The scores of a batch.

    Attributes:
        fused: what the tower made of the profiles.
        weights: (b, features) of each surface.
        matches: by row, which items hold which words; on search only.
    """

    profiles: Profiles
    fused: Fused
    weights: Floats
    matches: Mapping[int, Matches]


@dataclass(frozen=True, slots=True)
class Parts:
    """What one question's score is made of: the score of item i is `query` . z_i, plus freshness on the candidates.

    The rows of an index are z = [v | w | p]. With a = `counts`, V the first dim columns of the reading's vectors, and
    t = `weights` in the order of `model.features.FUSION_FEATURES`, the parts of `query` are

    * `pooled[0]`: gain * sum a_0h V_h / sqrt(sum a_0h), the history; with `base` it is the user embedding; times t_0;
    * `pooled[1]`: the same of the session with a_1; times t_1;
    * `pooled[2]`: sum anchors_h w_h of the reading, what goes together; times t_2;
    * t_3 in the last column, the prior; t_4 times the reading's text.
    """

    batch: Composed
    row: int

    @property
    def query(self) -> Floats:
        """(D,)."""
        row: Floats = self.batch.fused.query[self.row]
        return row

    @property
    def weights(self) -> Floats:
        """(features,) of the surface."""
        row: Floats = self.batch.weights[self.row]
        return row

    @property
    def reading(self) -> Reading:
        """The events, newest first, and the vectors given."""
        return Profile(self.batch.profiles, self.row).reading

    @property
    def items(self) -> Ints:
        """(e,) whose event each row of the reading is; on detail the item looked at comes last."""
        inputs = self.batch.profiles.inputs
        return inputs.items[self.row, : inputs.sizes[self.row]]

    @property
    def counts(self) -> Floats:
        """(2, e) what each event counts in history and session."""
        return self.batch.fused.counts[self.row, :, : self.batch.profiles.inputs.sizes[self.row]]

    @property
    def pooled(self) -> Floats:
        """(3, D)."""
        row: Floats = self.batch.fused.pooled[self.row]
        return row

    @property
    def base(self) -> Floats:
        """(dim,) the moment, and the embedding or segment given."""
        row: Floats = self.batch.fused.base[self.row]
        return row

    @property
    def matches(self) -> Matches | None:
        """Which items hold which words; on search only."""
        return self.batch.matches.get(self.row)


def compose(snapshot: Snapshot, profiles: Profiles) -> Composed:
    """What each question's score is made of, with one call of the tower for all."""
    matches = {
        row: snapshot.words.match(one.query.words)
        for row, one in enumerate(profiles.asked)
        if one.query.surface is Surface.SEARCH
    }
    fused = snapshot.tower.run(profiles.inputs)
    return Composed(profiles, fused, snapshot.fusion[profiles.inputs.surface], matches)
