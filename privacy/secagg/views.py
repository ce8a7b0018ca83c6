"""What all participants of a round must see alike, and the checks that each of them makes for itself."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from privacy.cipher import aad_of
from privacy.errors import SecureAggregationError
from privacy.secagg.identity import Signer, Trusted, statement
from privacy.secagg.manifest import RoundManifest
from privacy.secagg.masks import digest_of, is_public_key
from privacy.secagg.messages import Advertisement, Masked, Shares, Unmasking

Signed = TypeVar("Signed", Advertisement, Shares, Masked, Unmasking)


def sign(message: Signed, signer: Signer, digest: bytes, name: str) -> Signed:
    """Return the message with its sender's signature."""
    return replace(message, signature=signer.sign(message.statement(digest, name)))


def check_advertisement(manifest: RoundManifest, trusted: Trusted, name: str, one: Advertisement) -> None:
    """Raise unless a participant of the cohort has signed these keys for this round."""
    if name not in manifest.cohort:
        raise SecureAggregationError(f"{name} is not in the cohort of the signed manifest")
    if not (is_public_key(one.sealing_key) and is_public_key(one.masking_key)):
        raise SecureAggregationError(f"a public key of {name} is none, or has another spelling")
    trusted.check(name, one.certificate, one.statement(manifest.digest, name), one.signature)


def check_roster(
    manifest: RoundManifest, trusted: Trusted, advertisements: Mapping[str, Advertisement]
) -> None:
    """Raise unless enough participants are there, each with its own signed keys and none with another's."""
    check_enough(manifest, advertisements)
    for name, one in advertisements.items():
        check_advertisement(manifest, trusted, name, one)
    keys = [key for one in advertisements.values() for key in (one.sealing_key, one.masking_key)]
    if len(set(keys)) < len(keys):
        raise SecureAggregationError("two public keys of the roster are the same; somebody speaks for two")


def check_enough(manifest: RoundManifest, names: Collection[str]) -> None:
    """Raise unless as many participants are named as the signed manifest demands."""
    if len(names) < manifest.fewest:
        raise SecureAggregationError(
            f"{len(names)} participants are named; the signed manifest demands {manifest.fewest}"
        )


def survivors_statement(
    manifest: RoundManifest,
    advertisements: Mapping[str, Advertisement],
    dealers: Sequence[str],
    survivors: Sequence[str],
) -> bytes:
    """Return what participants confirm to each other: the keys, who dealt shares, and who contributed; all sorted."""
    keys = [
        aad_of(name, one.sealing_key, one.masking_key, one.commitment)
        for name, one in sorted(advertisements.items())
    ]
    seen = digest_of("view", *keys), digest_of("dealers", *dealers)
    return statement("survivors", manifest.digest, *seen, *survivors)
