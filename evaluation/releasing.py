"""The registry of a run folder, and who signs there what the run releases."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from privacy.release_keys import release_signer
from privacy.signing import ReleaseSigner
from server.registry import Registry


def signing_registry(run: Path, federation: str) -> tuple[Registry, ReleaseSigner]:
    """Return a run's registry and its signer, who is listed there; the key is made where there is none yet."""
    signer = release_signer(run / "keys", federation, datetime.now(UTC))
    registry = Registry(run / "registry")
    registry.trust(signer.certificate)
    return registry, signer
