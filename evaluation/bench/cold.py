"""Items absent from train, in the accuracy bench: the content tower against content neighbours and popularity."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from evaluation.bench.judging import SETS
from evaluation.bench.rows import Row
from evaluation.cold_items import Candidates
from evaluation.cold_table import NEIGHBOURS, NO_DP, POPULARITY, PRIVATE, cold_table
from evaluation.protocol import Result, paired_difference
from model.catalogue import read_public_items
from model.encoders import EncoderName, encoder_named
from model.errors import EncoderError
from privacy.accountant import default_delta
from simulation.data import load
from simulation.population import write_catalogue

DATA = "amazon18-industrial"
EPSILON = 8.0
METRIC = "recall@50"


@dataclass(frozen=True, kw_only=True)
class ColdFound:
    """The pooled results of all models, and the encoder that every content model used."""

    encoder: EncoderName
    results: dict[str, Result]


def cold_found() -> ColdFound:
    """Judge all models on all folds, with the multilingual encoder where it is installed."""
    dataset = load(SETS / DATA)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "catalogue.parquet"
        write_catalogue(dataset.items, path)
        catalogue = read_public_items(path)
    try:
        encoder = encoder_named(EncoderName.MULTILINGUAL)
    except EncoderError:
        encoder = encoder_named(EncoderName.HASHED)
    results = cold_table(
        dataset,
        catalogue,
        encoder.encode(catalogue.columns),
        epsilon=EPSILON,
        delta=default_delta(dataset.events["user_id"].n_unique()),
        candidates=Candidates.COLD,
    )
    return ColdFound(encoder=EncoderName(encoder.name), results=results)


def cold_rows(found: ColdFound) -> list[Row]:
    """Return what the content tower is above, by the lower end of the paired interval."""
    rows = []
    for ours in (NO_DP, PRIVATE):
        words = f"{DATA}, items absent from train ({found.encoder}): {METRIC}, {ours}"
        rows.append(Row(measure=words, value=found.results[ours].mean(METRIC), unit=METRIC))
        for floor in (NEIGHBOURS, POPULARITY):
            low = paired_difference(found.results[ours], found.results[floor], METRIC).low
            measure = f"{words} less {floor}, lower end of the 95 % interval"
            rows.append(Row(measure=measure, value=low, unit=METRIC, target=0.0))
    return rows
