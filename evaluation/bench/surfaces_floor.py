"""The exposure floor: the places of home that go to items nobody has bought yet, without a floor and with one."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

from evaluation.bench.rows import Row
from evaluation.bench.surfaces_judging import federation_of
from evaluation.bench.surfaces_studies import DRAWN, Learning, Study
from evaluation.cold_items import cold_cut
from evaluation.surfaces import Exam, judge
from evaluation.surfaces_engine import answers, engine_of
from evaluation.surfaces_sessions import new_arrivals_exam
from evaluation.trials import population_of, trial
from server.serving.policy import Policy, SurfacePolicy
from server.serving.query import Surface
from simulation.data import Dataset

DEPTH = 20
FLOORS = (0.0, 0.2)
"""Values of the knob `fresh_share` on home."""
LISTED_NOW = 0
"""The novelties' listing date: the set has no clock, its moments are positions, a few seconds after 1970."""


@dataclass(frozen=True, kw_only=True)
class Floor:
    """What one floor gave: the share of places, and how many of the novelties that were wanted were found there."""

    name: str
    floor: float
    places: float
    found: float

    def row(self) -> Row:
        """Return the row of the bench; the floor is the target, as a list of 20 can keep it exactly."""
        words = f"home, {self.name}, floor {self.floor:g}: share of the first {DEPTH} places for novelties"
        return Row(measure=words, value=self.places, unit="share", target=self.floor)


def floors(dataset: Dataset, learning: Learning, most: int) -> list[Floor]:
    """Train without a fifth of the catalogue, and ask home with each floor."""
    cut = cold_cut(dataset, 0)
    exam = home_with_novelties(new_arrivals_exam(dataset, cut), most)
    study = Study(dataset=dataset, split=cut.split, papers=())
    with population_of(cut.split, dataset.items) as population:
        version = trial(population, federation_of(learning, study, DRAWN))
    found = []
    for floor in FLOORS:
        policy = Policy(surfaces={Surface.HOME: SurfacePolicy(fresh_share=floor)})
        with tempfile.TemporaryDirectory() as folder:
            lists = answers(engine_of(Path(folder), exam, version, policy), exam, DEPTH)
        share = float(np.isin(lists, cut.cold).mean())
        recall = judge(str(floor), lists, exam).mean(f"recall@{DEPTH}")
        found.append(Floor(name=exam.name, floor=floor, places=share, found=recall))
    return found


def home_with_novelties(exam: Exam, most: int) -> Exam:
    """Return the same questions put to home, where every item competes; novelties have been listed just now."""
    listed = pl.when("new_arrival").then(pl.lit(LISTED_NOW)).otherwise(None).cast(pl.Int64)
    questions = tuple(replace(question, candidates=None) for question in exam.questions[:most])
    items = exam.items.with_columns(listed.alias("listed_at")).drop("new_arrival")
    return replace(exam, surface=Surface.HOME, items=items, questions=questions)
