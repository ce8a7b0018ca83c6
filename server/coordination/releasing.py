"""The end of a run: what it has learned becomes a model version, signed, in the registry; not promoted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from privacy.signing import ReleaseSigner
from server.coordination.config import FederationConfig
from server.coordination.learner import Learner
from server.registry import ModelVersion, Registry


def release(config: FederationConfig, learner: Learner, card: dict[str, Any]) -> ModelVersion:
    """Add the version to the registry, signed by the key that the run names.

    The run's name is the federation's in the signature. Raises `CertificateError` or `KeyringError` for a key that
    cannot be used, and `RegistryError`.
    """
    signer = ReleaseSigner.open(Path(config.signing_key), config.run_name) if config.signing_key else None
    return Registry(config.registry).add(learner.weights, card, signer)
