"""A node keeps an offered model version only as the coordinator signed it for this federation."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.versions import VersionRefused, take_version
from privacy.release_keys import release_signer
from privacy.signing import Signers
from proto.federation import WireError
from proto.versions import MAX_CARD_BYTES, VersionOffer
from server.coordination.offering import offer_of
from server.errors import CorruptVersion, UntrustedVersion
from server.registry import Registry

WEIGHTS = {"item_bias": np.arange(5, dtype=np.float32), "gain": np.ones((2, 3), dtype=np.float32)}


@pytest.fixture(scope="module")
def offered(tmp_path_factory: pytest.TempPathFactory) -> tuple[VersionOffer, dict[str, Any], Signers]:
    """A coordinator's offer, its weights, and whom nodes believe."""
    home = tmp_path_factory.mktemp("coordinator")
    signer = release_signer(home / "keys", "toy", datetime.now(UTC))
    version = Registry(home / "registry").add(WEIGHTS, {"note": "隐私"}, signer).version
    offer, weights = offer_of(home / "registry", version)
    return offer, weights, Signers.read(signer.certificate)


def test_an_offered_version_arrives_as_it_was_released(offered: Any, tmp_path: Path) -> None:
    """Over the wire's records, into a registry that lists the coordinator; not promoted, and taken twice as once."""
    offer, weights, signers = offered
    for _ in range(2):
        received = VersionOffer.from_record(offer.to_record())
        told = take_version(received, weights, registry=tmp_path, signers=signers, federation="toy")
        assert "fedrank release key" in told
    registry = Registry(tmp_path)
    for certificate in signers.certificates:
        from cryptography.hazmat.primitives.serialization import Encoding

        registry.trust(certificate.public_bytes(Encoding.PEM))
    assert registry.versions() == [offer.version] and registry.promoted() is None
    found = registry.trusted(offer.version)
    assert found.card == {"note": "隐私"}
    np.testing.assert_array_equal(found.weights["gain"], WEIGHTS["gain"])


@pytest.mark.parametrize("change", ["weights", "card", "signature", "federation", "signers", "nan"])
def test_anything_changed_on_the_way_is_refused_and_leaves_nothing(
    offered: Any, tmp_path: Path, change: str
) -> None:
    """Weights, card, signature, another federation's version, an unknown coordinator, numbers that are none."""
    offer, weights, signers = offered
    federation = "another" if change == "federation" else "toy"
    if change in ("weights", "nan"):
        weights = {**weights, "gain": weights["gain"] + (np.nan if change == "nan" else 1)}
    if change in ("card", "signature"):
        offer = replace(offer, **{change: getattr(offer, change).replace(b'"', b"'", 1)})
    if change == "signers":
        signers = Signers()
    with pytest.raises(VersionRefused, match="is refused"):
        take_version(offer, weights, registry=tmp_path, signers=signers, federation=federation)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "change", [{"version": 1}, {"card": "text"}, {"signature": None}, {"card": bytes(MAX_CARD_BYTES + 1)}]
)
def test_an_offer_in_other_words_is_refused(offered: Any, change: dict[str, Any]) -> None:
    """Of another type, absent or too long: the field is named."""
    with pytest.raises(WireError, match=next(iter(change))):
        VersionOffer.from_record({**offered[0].to_record(), **change})


def test_a_coordinator_does_not_offer_what_nobody_would_take(tmp_path: Path) -> None:
    """An unsigned version and one that is not there; the error says what to do."""
    version = Registry(tmp_path).add(WEIGHTS, {}).version
    with pytest.raises(UntrustedVersion, match="signing-key"):
        offer_of(tmp_path, version)
    with pytest.raises(CorruptVersion, match="run the federation again"):
        offer_of(tmp_path, "0" * 16)
