"""Which way of making sums a run takes."""

from __future__ import annotations

import random
from pathlib import Path

from flwr.serverapp import Grid

from privacy.federation_identity import coordinator_identity
from server.coordination.buckets import Buckets
from server.coordination.collecting import Collector
from server.coordination.config import FederationConfig
from server.coordination.exchange import Exchange
from server.coordination.influence import Influence
from server.coordination.open_round import OpenCollector
from server.coordination.secure_round import SecureCollector


def collector_of(grid: Grid, config: FederationConfig) -> Collector:
    """Return the run's way: in the open, or under masks."""
    exchange, influence = Exchange.of(grid, config), Influence.of(config)
    if not config.secure_aggregation:
        return OpenCollector(exchange=exchange, influence=influence, minimum_cohort=config.minimum_cohort)
    return SecureCollector(
        exchange=exchange,
        influence=influence,
        buckets=Buckets(smallest=config.minimum_nodes, count=config.buckets, combine=config.combine),
        identity=lambda: coordinator_identity(Path(config.coordinator_identity)),
        draw=random.Random(config.seed) if config.seed >= 0 else random.SystemRandom(),
    )
