"""The Flower ServerApp of the coordinator: the same under `flwr run` and in the in-process grid."""

from __future__ import annotations

from flwr.app import ConfigRecord, Context
from flwr.serverapp import Grid, ServerApp

from model.catalogue import read_public_items
from server.coordination.budget import open_account, plan_of
from server.coordination.card import model_card
from server.coordination.config import FederationConfig
from server.coordination.federation import Federation
from server.registry import Registry

MODEL = "model"
"""Record of the run's state that names the version which the run added."""

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Plan, train, and add the model version to the registry; promotion is a separate act."""
    config = FederationConfig.from_run_config(context.run_config)
    catalogue = read_public_items(config.catalogue)
    account = open_account(config, catalogue)
    plan = plan_of(config, account)
    federation = Federation(grid, config, catalogue, plan, account)
    federation.run()
    learner = federation.learner
    card = model_card(config, plan, learner, catalogue)
    version = Registry(config.registry).add(learner.weights, card)
    context.state[MODEL] = ConfigRecord({"version": version.version})
