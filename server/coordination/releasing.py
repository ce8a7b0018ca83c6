"""The end of a run: what was learned becomes a version, watched and signed, in the registry; not promoted."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from model.catalogue import PublicItems
from privacy.signing import ReleaseSigner
from server.coordination.config import FederationConfig
from server.coordination.exposure_card import watched_exposure
from server.coordination.learner import Learner
from server.registry import ModelVersion, Registry

log = logging.getLogger("fedrank.coordination")


def release(
    config: FederationConfig, learner: Learner, catalogue: PublicItems, card: dict[str, Any]
) -> ModelVersion:
    """Add the version to the registry, signed by the key that the run names.

    Items that rise too fast beside the version in service are damped first, and the card names them. The run's name
    is the federation's in the signature. Raises `CertificateError` or `KeyringError` for a key that cannot be used,
    and `RegistryError`.
    """
    signer = ReleaseSigner.open(Path(config.signing_key), config.run_name) if config.signing_key else None
    registry = Registry(config.registry)
    watched, words = watched_exposure(registry, learner, catalogue, card)
    if watched.damped:
        log.warning(
            "%d items would have been shown more than twice as much as by version %s and are damped; "
            "the version's card names them: see `fedrank models show`",
            len(watched.damped),
            words["compared_with"],
        )
    return registry.add(watched.weights, card | {"exposure": words}, signer)
