"""A registry lets only what a listed signer signed be promoted and served, and knows its way back."""

from __future__ import annotations

import json
import logging
import shutil
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from privacy.release_keys import release_signer
from privacy.signing import ReleaseSigner
from server.errors import CorruptVersion, NothingPromoted, UntrustedVersion
from server.promotion_history import Act
from server.registry import SIGNERS_FILE, Registry

WEIGHTS = {"item_bias": np.arange(5, dtype=np.float32)}


@pytest.fixture
def root(tmp_path: Path, signer: ReleaseSigner) -> Path:
    """The folder of a registry that lists the signer."""
    Registry(tmp_path / "registry").trust(signer.certificate)
    return tmp_path / "registry"


def add(root: Path, number: int, signer: ReleaseSigner | None) -> str:
    """Add the version of a number."""
    return (
        Registry(root).add({"item_bias": WEIGHTS["item_bias"] + number}, {"number": number}, signer).version
    )


def folder(root: Path, version: str) -> Path:
    """Where a version lies."""
    return root / "versions" / version


def test_what_a_listed_signer_signed_is_promoted_and_read(root: Path, signer: ReleaseSigner) -> None:
    """The signer is told; the signature is no part of the content."""
    version = add(root, 1, signer)
    registry = Registry(root)
    registry.promote(version)
    assert registry.promoted() == registry.trusted(version).version == version
    assert "fedrank release key" in str(registry.signer(version))
    (folder(root, version) / "signature.json").unlink()
    assert registry.get(version).version == version


def test_an_unsigned_version_is_refused_and_taken_only_where_somebody_says_so(
    root: Path, signer: ReleaseSigner, caplog: pytest.LogCaptureFixture
) -> None:
    """With the next step in the error, and a line in the log where it is taken; signing it mends it."""
    version = add(root, 1, None)
    for use in (Registry(root).promote, Registry(root).trusted, Registry(root).signer):
        with pytest.raises(UntrustedVersion, match=r"is not signed.*fedrank simulate.*--unsigned"):
            use(version)
    assert Registry(root).promoted() is None
    with caplog.at_level(logging.WARNING):
        Registry(root, unsigned=True).promote(version)
    assert "is not signed" in caplog.text and "taken all the same" in caplog.text
    assert add(root, 1, signer) == version
    assert Registry(root).signer(version)


def test_an_unknown_signer_is_refused_until_it_is_listed(
    root: Path, tmp_path: Path, signer: ReleaseSigner
) -> None:
    """An empty list knows nobody; a damaged one lets nothing pass."""
    stranger = release_signer(tmp_path / "stranger", "toy", datetime.now(UTC))
    version = add(root, 1, stranger)
    with pytest.raises(UntrustedVersion, match="none of the 1 known signers"):
        Registry(root).promote(version)
    Registry(root).trust(stranger.certificate)
    Registry(root).promote(version)
    assert Registry(root).signer(add(root, 2, signer))
    (root / SIGNERS_FILE).write_text("rubbish")
    with pytest.raises(UntrustedVersion, match="list of signers"):
        Registry(root).trusted(version)
    (root / SIGNERS_FILE).unlink()
    with pytest.raises(UntrustedVersion, match="none of the 0 known signers"):
        Registry(root).trusted(version)


def test_tampered_weights_and_cards_are_refused_even_under_a_new_name(
    root: Path, signer: ReleaseSigner
) -> None:
    """In place the hash tells; moved to where its new hash belongs, the signature does."""
    version, other = add(root, 1, signer), add(root, 2, None)
    shutil.copy(folder(root, version) / "signature.json", folder(root, other))
    with pytest.raises(UntrustedVersion, match="the signature"):
        Registry(root).promote(other)
    with pytest.raises(UntrustedVersion):
        Registry(root).signer(other)
    for name in ("card.json", "model.safetensors"):
        shutil.copy(folder(root, other) / name, folder(root, version))
        with pytest.raises(CorruptVersion, match="has the hash"):
            Registry(root).promote(version)
    with pytest.raises(UntrustedVersion, match="card"):
        Registry(root).signer(version)


def test_a_signature_of_another_federations_name_does_not_verify(root: Path, signer: ReleaseSigner) -> None:
    """The name in the record is part of what is signed."""
    path = folder(root, add(root, 1, signer)) / "signature.json"
    words: dict[str, Any] = json.loads(path.read_bytes())
    path.write_text(json.dumps(words | {"federation": "another"}))
    with pytest.raises(UntrustedVersion, match="is not that of"):
        Registry(root).trusted(path.parent.name)


def test_a_rollback_goes_back_along_what_was_served_and_skips_what_no_longer_verifies(
    root: Path, signer: ReleaseSigner
) -> None:
    """What was rolled back is not gone back to; a promotion of it is a new one; the file tells the story."""
    first, second, third, fourth = (add(root, number, signer) for number in range(4))
    registry = Registry(root, clock=map(float, count()).__next__)
    for version in (first, second, third, fourth):
        registry.promote(version)
    (folder(root, third) / "signature.json").unlink()
    assert registry.rollback() == registry.promoted() == second
    registry.promote(third) if (folder(root, third) / "signature.json").exists() else None
    assert registry.rollback() == first
    with pytest.raises(NothingPromoted, match="fedrank promote VERSION"):
        registry.rollback()
    registry.promote(fourth)
    registry.promote(first)
    assert registry.rollback() == fourth
    acts = [(line.version, line.act) for line in registry.promotions()]
    assert acts[4:6] == [(second, Act.ROLLBACK), (first, Act.ROLLBACK)]
    assert [line.at for line in registry.promotions()] == sorted(line.at for line in registry.promotions())


def test_a_registry_that_promoted_before_it_had_a_history_can_go_back_there(
    root: Path, signer: ReleaseSigner
) -> None:
    """Its pointer is the first line."""
    first, second = add(root, 1, signer), add(root, 2, signer)
    (root / "promoted").write_text(first)
    Registry(root).promote(second)
    assert Registry(root).rollback() == first


def test_a_promotion_that_was_noted_and_not_done_is_no_way_back(root: Path, signer: ReleaseSigner) -> None:
    """Somebody was cut off between: what serving takes counts, not what the history says last."""
    first, second, third = (add(root, number, signer) for number in range(3))
    registry = Registry(root)
    for version in (first, second, third):
        registry.promote(version)
    (root / "promoted").write_text(second)
    assert registry.rollback() == first


def test_a_damaged_history_stops_a_rollback_and_names_the_next_step(
    root: Path, signer: ReleaseSigner
) -> None:
    """Nothing is promoted on a guess."""
    registry, version = Registry(root), add(root, 1, signer)
    registry.promote(version)
    for damage in ("[", "{}", '[{"version": 1}]', '[{"version": "a", "act": "fly", "at": 1}]'):
        (root / "promotions.json").write_text(damage)
        if damage == "{}":
            assert registry.promotions() == []
            continue
        with pytest.raises(CorruptVersion, match="history of promotions"):
            registry.rollback()
    assert registry.promoted() == version
