"""Where a node's data lie, from Flower's configuration of the node and of the run.

A merchant's node names its kit's data folder itself, and nothing of the run's configuration counts: a coordinator
cannot point it to other files. In simulation the run names the folder of a population, and the node its part of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from client.errors import ClientError
from client.store import EventStore
from privacy.keyring import Keyring

STORE, KEYS = "store/events.db", "keys"
"""Where a kit's data folder keeps the event store and the keyring, as a run folder does."""


class CohortError(ClientError, ValueError):
    """A node's configuration does not say whose events it holds."""


@dataclass(frozen=True, kw_only=True)
class Home:
    """Where a node's data lie: the folder of a population, and which part of it the node carries.

    Attributes:
        ledger_keys: folder of the ledger's keyring; empty: `keys` beside an SQLite ledger.
        merchant: the one merchant of a kit, whose folder holds no other; empty in simulation.
    """

    population: str
    ledger: str
    ledger_keys: str = ""
    node: int = 0
    nodes: int = 1
    merchant: str = ""


def home_of(node_config: Mapping[str, object], run_config: Mapping[str, object]) -> Home:
    """Read where a node's data lie from Flower's node and run configuration.

    Raises:
        CohortError: names the missing key.
    """
    try:
        if "kit" in node_config:
            return _kit_home(Path(str(node_config["data"])), str(node_config["merchant-id"]))
        return _simulated_home({**run_config, **node_config})
    except KeyError as missing:
        raise CohortError(
            f"the configuration of this node lacks {missing}; set it with --node-config or --run-config"
        ) from None


def prepare(data: Path, merchant: str) -> None:
    """Make the keyring and the event store of a kit's merchant, where they are missing.

    Raises `KeyringError`, `StoreUnavailable` or `WrongKeys`.
    """
    EventStore.open(data / STORE, Keyring.open(data / KEYS), merchant).close()


def _kit_home(data: Path, merchant: str) -> Home:
    return Home(population=str(data), ledger=str(data / "ledger.db"), merchant=merchant)


def _simulated_home(settings: Mapping[str, object]) -> Home:
    return Home(
        population=str(settings["population"]),
        ledger=str(settings["ledger"]),
        ledger_keys=str(settings.get("ledger-keys", "")),
        node=int(str(settings["partition-id"])),
        nodes=int(str(settings["num-partitions"])),
    )
