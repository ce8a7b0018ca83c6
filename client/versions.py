"""What a node does with a model version that the coordinator offers: it is kept only as it was signed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from client.errors import ClientError
from model.errors import UnfitVersion
from model.versions import Content, checked_weights, store
from privacy.errors import SignatureError
from privacy.failpoints import passed
from privacy.signing import Signature, Signers
from proto.versions import VersionOffer


class VersionRefused(ClientError):
    """An offered model version is not the one that a known signer signed for this federation."""


def take_version(
    offer: VersionOffer,
    weights: Mapping[str, NDArray[Any]],
    *,
    registry: Path,
    signers: Signers,
    federation: str,
) -> str:
    """Verify an offered version, write it into a registry's folder, and return who signed it.

    It is promoted by nobody here: which version is served is a separate act. The same version again writes nothing.
    Raises `VersionRefused`; nothing is written then.
    """
    try:
        content = Content(checked_weights(weights), offer.card)
        signer = signers.check(
            Signature.from_bytes(offer.signature),
            content_hash=content.content_hash,
            card_hash=content.card_hash,
            federation=federation,
        )
    except (UnfitVersion, SignatureError) as error:
        raise VersionRefused(f"the model version {offer.version[:16]!r} is refused: {error}") from error
    passed("version: verified")
    store(registry, content, offer.signature)
    passed("version: stored")
    return signer
