"""`fedrank bench federation`: what a real federation costs beyond training."""

from __future__ import annotations

from evaluation.bench.federation_rounds import round_rows
from evaluation.bench.rows import Row
from evaluation.bench.secure_aggregation import secure_rows
from evaluation.settings import Watch


def run(*, quick: bool, watch: Watch) -> list[Row]:
    """Measure secure aggregation, then rounds of real processes; `quick` takes smaller ones."""
    return [*secure_rows(quick=quick, watch=watch), *round_rows(quick=quick, watch=watch)]
