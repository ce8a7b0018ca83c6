"""pfl-research (Apple): federated averaging with one local step, clipped by its own privacy mechanism."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from pfl.aggregate.simulate import SimulatedBackend
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.callback.base import TrainingProcessCallback
from pfl.data.federated_dataset import FederatedDataset
from pfl.data.pytorch import PyTorchTensorDataset
from pfl.hyperparam import NNEvalHyperParams, NNTrainHyperParams
from pfl.metrics import Metrics, Weighted
from pfl.model.pytorch import PyTorchModel
from pfl.postprocessor.base import Postprocessor
from pfl.privacy.privacy_mechanism import CentrallyAppliedPrivacyMechanism, NormClippingOnly

from evaluation.bench.peers.measuring import Cohort, Measured, cpu_seconds, most, peak_gib
from evaluation.bench.peers.tower import Tower, sums_of, tensors_of
from evaluation.bench.peers.work import CLIPPING_NORM, Sums, Work


class PflTower(Tower):
    """The tower with the method that pfl asks for besides `loss`."""

    def metrics(self, *shopper: torch.Tensor) -> dict[str, Weighted]:
        """Return the loss; asked for in the warming round only."""
        return {"loss": Weighted(self.loss(*shopper).item(), 1)}


class KeepFirst(Postprocessor):
    """Keeps the clipped sum of the first round, to compare it; pfl would only average it."""

    def __init__(self) -> None:
        """Nothing is kept yet."""
        self.sums: Sums = {}

    def postprocess_one_user(self, *, stats: Any, user_context: Any) -> tuple[Any, Metrics]:
        """Change nothing."""
        return stats, Metrics()

    def postprocess_server(
        self, *, stats: Any, central_context: Any, aggregate_metrics: Any
    ) -> tuple[Any, Metrics]:
        """Keep the sum of model differences; the difference after one step of rate 1 is the negative gradient."""
        if not self.sums:
            self.sums = {name: -value for name, value in sums_of(dict(stats.items())).items()}
        return stats, Metrics()


class Clock(TrainingProcessCallback):
    """Reads the CPU time after every round."""

    def __init__(self) -> None:
        """Nothing is read yet."""
        self.readings: list[float] = []

    def after_central_iteration(
        self, aggregate_metrics: Any, model: Any, *, central_iteration: int
    ) -> tuple[bool, Metrics]:
        """Read, and let the training go on."""
        self.readings.append(cpu_seconds())
        return False, Metrics()


def measure(work: Work, cohorts: Sequence[Cohort]) -> Measured:
    """Measure a whole pfl training, one central iteration for each cohort."""
    keep, clock = KeepFirst(), Clock()
    clipping = CentrallyAppliedPrivacyMechanism(NormClippingOnly(2.0, CLIPPING_NORM))
    data = _dataset(work, cohorts)
    tower = PflTower(work)
    model = PyTorchModel(tower, torch.optim.SGD, torch.optim.SGD(tower.parameters(), lr=0.0))
    FederatedAveraging().run(
        algorithm_params=NNAlgorithmParams(
            central_num_iterations=len(cohorts),
            evaluation_frequency=len(cohorts) + 1,
            train_cohort_size=len(cohorts[0]),
            val_cohort_size=None,
        ),
        backend=SimulatedBackend(training_data=data, val_data=data, postprocessors=[clipping, keep]),
        model=model,
        model_train_params=NNTrainHyperParams(
            local_num_epochs=1, local_learning_rate=1.0, local_batch_size=None
        ),
        model_eval_params=NNEvalHyperParams(local_batch_size=None),
        callbacks=[clock],
        send_metrics_to_platform=False,
    )
    rounds = zip(clock.readings[:-1], clock.readings[1:], strict=True)
    seconds = tuple(after - before for before, after in rounds)
    return Measured(cpu_seconds=seconds, peak_gib=peak_gib(), sums=keep.sums)


def _dataset(work: Work, cohorts: Sequence[Cohort]) -> FederatedDataset:
    """Return pfl's data set of shoppers, sampled in the order of the cohorts."""
    datasets = [
        PyTorchTensorDataset(shopper, user_id=str(s))
        for s, shopper in enumerate(tensors_of(work, most(cohorts)))
    ]
    order = iter([s for cohort in cohorts for s in cohort])
    return FederatedDataset(lambda s: datasets[s], lambda: next(order))
