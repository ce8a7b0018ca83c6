"""The Flower ServerApp of the coordinator: the same in a federation of processes and in the in-process grid."""

from __future__ import annotations

from pathlib import Path

from flwr.app import ConfigRecord, Context
from flwr.serverapp import Grid, ServerApp

from model.catalogue import PublicItems, read_public_items
from privacy.errors import PrivacyError
from privacy.failpoints import passed
from server.coordination.budget import Account, open_account, plan_of
from server.coordination.card import model_card
from server.coordination.config import FederationConfig
from server.coordination.exchange import Exchange
from server.coordination.federation import Federation
from server.coordination.journal_run import RunJournal, journal_of
from server.coordination.releasing import release
from server.coordination.status import StatusFile
from server.coordination.version_round import Taken, offer_version
from server.errors import ServerError

MODEL = "model"
"""Record of the run's state that names the version which the run added."""

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Train, or go on training, and add the model version to the registry; promotion is a separate act."""
    config = FederationConfig.from_run_config(context.run_config)
    catalogue = read_public_items(config.catalogue)
    account = open_account(config, catalogue)
    with journal_of(config, account) as journal:
        folder = Path(config.journal) if config.journal else None
        status = StatusFile(folder, run=journal.run_id, rounds=config.all_rounds)
        try:
            version = _trained(grid, config, catalogue, account, journal, status)
            taken = _offered(grid, config, version)
        except Exception as failure:
            status.failed(_told(failure))
            raise
        status.finished(version, taken.by, taken.refused)
        journal.finish()
        passed("run: journal finished")
    context.state[MODEL] = ConfigRecord({"version": version})


def _trained(
    grid: Grid,
    config: FederationConfig,
    catalogue: PublicItems,
    account: Account,
    journal: RunJournal,
    status: StatusFile,
) -> str:
    """Do the rounds that are to come and return the version; one that a crash left finished is the same version."""
    plan = journal.entries[0].plan if journal.entries else plan_of(config, account)
    federation = Federation(grid, config, catalogue, plan, account, journal, status)
    federation.run()
    passed("run: learned")
    card = model_card(config, federation.rounds.performed(), federation.learner, catalogue)
    added = release(config, federation.learner, catalogue, card)
    passed("run: version added")
    return added.version


def _offered(grid: Grid, config: FederationConfig, version: str) -> Taken:
    """Give the version to the nodes, where the run says so."""
    if not config.offer_version:
        return Taken(by=(), refused=())
    taken = offer_version(Exchange.of(grid, config), config.registry, version)
    passed("run: version offered")
    return taken


def _told(failure: Exception) -> str:
    """Return the words of an error that was raised on purpose; of another, which may quote anything, its kind."""
    on_purpose = isinstance(failure, ServerError | PrivacyError)
    return str(failure) if on_purpose else f"unexpected {type(failure).__name__}; see the coordinator's log"
