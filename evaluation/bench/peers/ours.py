"""This project's own cohort: compiled loops over factored gradients."""

from __future__ import annotations

from collections.abc import Sequence

from client.contribution import gradient_share
from evaluation.bench.peers.measuring import Cohort, Measured, measured
from evaluation.bench.peers.work import CLIPPING_NORM, TRAINED, Sums, Work
from model.sampling import Examples


def clipped_sum(work: Work, examples: Examples) -> Sums:
    """Return the clipped sum of a cohort, as a participant computes it."""
    return gradient_share(work.weights, work.vectors, examples, work.log_q, TRAINED, CLIPPING_NORM)


def measure(work: Work, cohorts: Sequence[Cohort]) -> Measured:
    """Measure ours on each cohort; its arrays are laid out beforehand, as the tensors of the peers are."""
    ready = {int(cohort[0]): work.examples.select(cohort) for cohort in cohorts}
    return measured(lambda cohort: clipped_sum(work, ready[int(cohort[0])]), cohorts)
