"""A model version of the coordinator's registry, in the words in which nodes are offered it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from model.errors import UnreadableVersion
from model.versions import read, read_signature
from proto.versions import VersionOffer
from server.errors import CorruptVersion, UntrustedVersion


def offer_of(registry: Path, version: str) -> tuple[VersionOffer, dict[str, NDArray[Any]]]:
    """Return a version's offer and its weights by name.

    Raises:
        CorruptVersion: it is not there, or not as it was added.
        UntrustedVersion: it is not signed, so that every node would refuse it.
    """
    try:
        content = read(registry, version)
    except UnreadableVersion as error:
        raise CorruptVersion(
            f"model version {version} in {registry} {error}; run the federation again"
        ) from error
    signature = read_signature(registry, version)
    if signature is None:
        raise UntrustedVersion(
            f"model version {version} in {registry} is not signed, so no node takes it; name the coordinator's key "
            "in the word signing-key of the run, and run again"
        )
    return VersionOffer(version=version, card=content.card, signature=signature), content.weights
