"""One federated training run in this process: the coordinator's app and the participants' app over one grid."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from model.catalogue import read_public_items
from model.encoders import EncoderName
from model.head import Basis
from model.losses import Loss
from model.schema import UserTower
from model.spectral import Start
from privacy.plan import Plan, Trust, statistics_of
from privacy.secagg.manifest import SMALLEST_COHORT
from server.coordination.budget import open_account, plan_of
from server.coordination.config import Combine, FederationConfig, Participants
from server.registry import ModelVersion, Registry
from simulation.errors import FederationFailed, TooFewParticipants
from simulation.identities import coordinator_kit, identities
from simulation.population import Population

log = logging.getLogger("fedrank.simulation")

RunConfig = dict[str, str | int | float | bool]

DEVICES_PER_MESSAGE = 512
MERCHANTS_PER_MESSAGE = 16
LONGEST_RUN_NAME = 60
"""The run's name begins every release id, which the ledger bounds to 200 characters."""
SYSTEM_ENTROPY = -1


class SecureAggregation(StrEnum):
    """How a simulation makes its sums: `full` by the protocol, with one party per node; `ideal` in the open."""

    FULL = "full"
    IDEAL = "ideal"


@dataclass(frozen=True, kw_only=True)
class FederationSettings:
    """What a person chooses about a federation.

    Attributes:
        rounds: gradient rounds after those of statistics.
        devices_per_message: how many devices one Flower message serves.
        minimum_cohort: fewest participants whose sum is released.
        basket_kinds: event kinds that make a basket, separated by commas; empty: baskets are not learned.
        fusion: whether the weights of the surfaces' scores are learned.
        noise_seed: repeatable noise, for tests and simulation; None takes the system's entropy.
    """

    participants: Participants
    trust: Trust
    epsilon: float
    delta: float
    rounds: int
    clock: str
    seed: int = 0
    noise_seed: int | None = None
    dim: int = 128
    loss: Loss = Loss.SAMPLED_SOFTMAX
    user_tower: UserTower = UserTower.POOLING
    encoder: EncoderName = EncoderName.HASHED
    basis: Basis = Basis.ITEMS
    recency: float = Start.recency
    prior: float = Start.prior
    damping: float = Start.damping
    basket_kinds: str = ""
    fusion: bool = False
    devices_per_message: int = DEVICES_PER_MESSAGE
    minimum_cohort: int = 1
    secure_aggregation: SecureAggregation = SecureAggregation.IDEAL
    buckets: int = 1
    combine: Combine = Combine.SUM
    timeout: float = 3600.0

    @property
    def releases_linkage(self) -> bool:
        """Whether the noised number of merchants per shopper is released: it belongs to the merchants' guarantee."""
        return self.participants is not Participants.SHOPPERS and self.trust is not Trust.NONE

    @property
    def statistics_rounds(self) -> int:
        """Rounds of statistics before the gradient rounds."""
        public = self.basis is Basis.CONTENT
        return sum(statistics_of(self.trust, public_basis=public, baskets=bool(self.basket_kinds)).values())

    @property
    def all_rounds(self) -> int:
        """Rounds of the whole run."""
        return self.statistics_rounds + self.rounds + int(self.fusion)

    def without_privacy(self) -> FederationSettings:
        """Return the same federation without noise and masks: a yardstick that no real data should ever leave by."""
        return replace(self.in_the_open(), trust=Trust.NONE)

    def in_the_open(self) -> FederationSettings:
        """Return the same federation with ideal sums, which are the same sums without the work of masking."""
        return replace(self, secure_aggregation=SecureAggregation.IDEAL, buckets=1, combine=Combine.SUM)


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where one run keeps what it makes.

    Attributes:
        ledger_keys: folder of the ledger's keyring; empty: `keys` beside an SQLite ledger.
        signing_key: file of the key that signs the model version; empty: nobody does.
    """

    name: str
    registry: Path
    ledger: str
    checkpoints: Path
    ledger_keys: str = ""
    signing_key: str = ""


def run_config_of(
    population: Population, settings: FederationSettings, place: Place, spent_mu2: float = 0.0
) -> RunConfig:
    """Return Flower's run configuration; `flwr run . --run-config` takes the same words."""
    shoppers = len(population.devices) + len(population.merchants_per_shopper)
    full = settings.secure_aggregation is SecureAggregation.FULL
    return {
        "run-name": place.name[:LONGEST_RUN_NAME],
        "population": str(population.folder),
        "catalogue": str(population.folder / "catalogue.parquet"),
        "ledger": place.ledger,
        "ledger-keys": place.ledger_keys,
        "registry": str(place.registry),
        "signing-key": place.signing_key,
        "offer-version": False,
        "checkpoints": str(place.checkpoints),
        "participants": str(settings.participants),
        "trust": str(settings.trust),
        "epsilon": settings.epsilon,
        "delta": settings.delta,
        "runs": 1,
        "rounds": settings.rounds,
        "shoppers": shoppers,
        "merchants": max(1, len(population.merchants)),
        "minimum-cohort": settings.minimum_cohort,
        "minimum-nodes": minimum_nodes_of(population, settings) if full else 1,
        "journal": "",
        "dim": settings.dim,
        "clock": settings.clock,
        "spent-mu2": spent_mu2,
        "linkage": settings.releases_linkage,
        "loss": str(settings.loss),
        "user-tower": str(settings.user_tower),
        "encoder": str(settings.encoder),
        "basis": str(settings.basis),
        "recency": settings.recency,
        "prior": settings.prior,
        "damping": settings.damping,
        "basket-kinds": settings.basket_kinds,
        "fusion": settings.fusion,
        "seed": settings.seed,
        "noise-seed": SYSTEM_ENTROPY if settings.noise_seed is None else settings.noise_seed,
        "timeout": settings.timeout,
        "secure-aggregation": full,
        "coordinator-identity": str(coordinator_kit(identities_of(population))) if full else "",
        "buckets": settings.buckets,
        "combine": str(settings.combine),
        "declared-shoppers": "",
    }


def plan_before(run_config: RunConfig, participants: int) -> Plan:
    """Return the plan that the coordinator will make from this run configuration.

    Raises:
        TooFewParticipants: no round could reach the minimum cohort.
        BudgetError: nothing useful is left of the budget.
    """
    config = FederationConfig.from_run_config(run_config)
    if participants < config.minimum_cohort:
        raise TooFewParticipants(
            f"{participants} participants are there and the minimum cohort is {config.minimum_cohort}; nothing was "
            "charged; let more take part (--participants), or lower --minimum-cohort"
        )
    return plan_of(config, open_account(config, read_public_items(config.catalogue)))


def nodes_of(population: Population, settings: FederationSettings) -> int:
    """Return the number of Flower nodes; in simulation each carries a cohort of merchants and of devices.

    Where each is a party of secure aggregation, a merchant is one by itself, and there are enough for every bucket.
    """
    full = settings.secure_aggregation is SecureAggregation.FULL
    for_merchants = math.ceil(len(population.merchants) / (1 if full else MERCHANTS_PER_MESSAGE))
    for_devices = math.ceil(len(population.devices) / settings.devices_per_message)
    parties = min(SMALLEST_COHORT * settings.buckets, population.participants) if full else 1
    return max(for_merchants, for_devices, parties)


def minimum_nodes_of(population: Population, settings: FederationSettings) -> int:
    """Return how many nodes carry a minimum cohort at least; secure aggregation never sums fewer than two."""
    nodes = nodes_of(population, settings)
    each = max(1, len(population.merchants) // nodes + len(population.devices) // nodes)
    return max(SMALLEST_COHORT, math.ceil(settings.minimum_cohort / each))


def identities_of(population: Population) -> Path:
    """Return where the identities of simulated parties lie while a run lasts."""
    return population.folder / "identities"


def train(
    population: Population,
    settings: FederationSettings,
    place: Place,
    run_config: RunConfig,
    on_reply: Callable[[], None] = lambda: None,
) -> ModelVersion:
    """Train one model version and return it; it is in the registry and not promoted.

    Raises:
        FederationFailed: the run added no version.
        BudgetError, CohortTooSmall: from the coordinator.
    """
    from client.app import app as client_app  # Flower loads only where it runs
    from server.coordination.app import MODEL
    from server.coordination.app import app as server_app
    from simulation.grid import InProcessGrid, node_name, run_in_process

    logging.getLogger("flwr").setLevel(logging.ERROR)
    full = settings.secure_aggregation is SecureAggregation.FULL
    log.info(
        "sums are %s", "made under the masks of secure aggregation" if full else "ideal: made in the open"
    )
    nodes = nodes_of(population, settings)
    with _identified(population, settings, run_config, [node_name(p) for p in range(nodes)]) as folder:
        grid = InProcessGrid(
            client_app, nodes=nodes, run_config=run_config, identities=folder, on_reply=on_reply
        )
        state = run_in_process(server_app, grid, run_config)
    if MODEL not in state.config_records:
        raise FederationFailed(f"run {place.name} ended without a model version; see its log with --verbose")
    return Registry(place.registry).get(str(state.config_records[MODEL]["version"]))


@contextmanager
def _identified(
    population: Population, settings: FederationSettings, run_config: RunConfig, nodes: Sequence[str]
) -> Iterator[Path | None]:
    """Give each node an identity where it is a party of secure aggregation."""
    if settings.secure_aggregation is SecureAggregation.IDEAL:
        yield None
        return
    with identities(identities_of(population), nodes, FederationConfig.from_run_config(run_config)) as folder:
        yield folder
