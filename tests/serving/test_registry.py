"""The registry keeps whole, verified model versions, and promotion is a separate act."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as numpy_strategies

from server.errors import CorruptVersion, InvalidModel, UnknownVersion
from server.registry import Registry

WEIGHTS = {"item_bias": np.arange(5, dtype=np.float32), "item_id": np.ones((5, 3), dtype=np.float32)}
CARD: dict[str, Any] = {
    "schema": {"items": 5},
    "privacy": {"epsilon": 8.0, "unit": "shopper", "note": "隐私"},
}


@pytest.fixture
def empty_registry(tmp_path: Path) -> Registry:
    """An empty registry whose folder does not exist yet; it takes what nobody has signed."""
    return Registry(tmp_path / "registry", unsigned=True)


def test_a_version_reads_back_as_it_was_added(empty_registry: Registry) -> None:
    """Weights keep names, shapes, dtypes and values; the card keeps its words."""
    added = empty_registry.add(WEIGHTS, CARD)
    found = Registry(empty_registry._root).get(added.version)
    assert found.card == CARD
    assert found.version == found.content_hash[:16] == added.content_hash[:16]
    assert found.weights.keys() == WEIGHTS.keys()
    for name, array in WEIGHTS.items():
        assert found.weights[name].dtype == array.dtype
        np.testing.assert_array_equal(found.weights[name], array)


def test_the_same_content_is_the_same_version_and_other_content_is_not(empty_registry: Registry) -> None:
    """Adding is idempotent by hash; a changed number or a changed card is another version."""
    first = empty_registry.add(WEIGHTS, CARD)
    assert empty_registry.add(dict(reversed(WEIGHTS.items())), CARD).version == first.version
    assert empty_registry.versions() == [first.version]
    nudged = empty_registry.add({**WEIGHTS, "item_bias": WEIGHTS["item_bias"] + np.float32(1e-6)}, CARD)
    described = empty_registry.add(WEIGHTS, {**CARD, "metrics": {}})
    reshaped = empty_registry.add({**WEIGHTS, "item_id": WEIGHTS["item_id"].T}, CARD)
    assert empty_registry.versions() == [first.version, nudged.version, described.version, reshaped.version]


@given(
    numpy_strategies.arrays(
        dtype=st.sampled_from([np.float32, np.float64, np.int64, np.int8, np.bool_]),
        shape=numpy_strategies.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
        elements={"allow_nan": False, "allow_infinity": False},
    )
)
def test_any_finite_array_survives_the_round_trip(
    tmp_path_factory: pytest.TempPathFactory, array: np.ndarray[Any, Any]
) -> None:
    """Scalars, empty arrays and every stored dtype come back equal, with the same shape."""
    empty_registry = Registry(tmp_path_factory.mktemp("registry"))
    back = empty_registry.get(empty_registry.add({"weight": array}, {}).version).weights["weight"]
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    np.testing.assert_array_equal(back, array)


@pytest.mark.parametrize("name", ["model.safetensors", "card.json"])
def test_a_flipped_bit_anywhere_in_a_version_is_detected(empty_registry: Registry, name: str) -> None:
    """Each byte of each file is covered: flipping one bit makes the version corrupt."""
    version = empty_registry.add(WEIGHTS, CARD).version
    path = empty_registry._root / "versions" / version / name
    content = path.read_bytes()
    for position in range(0, len(content), 7):
        flipped = bytearray(content)
        flipped[position] ^= 1
        path.write_bytes(bytes(flipped))
        with pytest.raises(CorruptVersion, match=version):
            empty_registry.get(version)
    path.write_bytes(content)
    assert empty_registry.get(version).card == CARD


@pytest.mark.parametrize("damage", ["truncated", "missing"])
def test_a_lost_or_cut_file_is_detected(empty_registry: Registry, damage: str) -> None:
    """A half-copied version is refused with its name, not half-loaded."""
    version = empty_registry.add(WEIGHTS, CARD).version
    path = empty_registry._root / "versions" / version / "model.safetensors"
    if damage == "missing":
        path.unlink()
    else:
        os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(CorruptVersion, match=f"{version} cannot be read"):
        empty_registry.get(version)


def test_a_version_under_another_name_is_detected(empty_registry: Registry) -> None:
    """Copying version A over the folder of version B does not make A's weights pass as B."""
    first = empty_registry.add(WEIGHTS, CARD).version
    second = empty_registry.add(WEIGHTS, {}).version
    folder = empty_registry._root / "versions"
    (folder / first).rename(folder / "0123456789abcdef")
    with pytest.raises(CorruptVersion, match=f"has the hash {first}"):
        empty_registry.get("0123456789abcdef")
    assert empty_registry.get(second).version == second


@pytest.mark.parametrize("name", ["", "0" * 16, "../../etc", "promoted", "F" * 16])
def test_an_unknown_version_is_refused_by_name(empty_registry: Registry, name: str) -> None:
    """No folder outside `versions/` is ever read, and promotion of nothing is refused."""
    empty_registry.add(WEIGHTS, CARD)
    with pytest.raises(UnknownVersion):
        empty_registry.get(name)
    with pytest.raises(UnknownVersion):
        empty_registry.promote(name)
    assert empty_registry.promoted() is None


def test_promotion_moves_one_pointer_and_never_to_a_corrupt_version(empty_registry: Registry) -> None:
    """Adding promotes nothing; a damaged version cannot be promoted and the old pointer stays."""
    first = empty_registry.add(WEIGHTS, CARD).version
    second = empty_registry.add(WEIGHTS, {}).version
    assert empty_registry.promoted() is None
    empty_registry.promote(first)
    empty_registry.promote(second)
    empty_registry.promote(first)
    assert empty_registry.promoted() == first
    (empty_registry._root / "versions" / second / "card.json").write_text("{ }")
    with pytest.raises(CorruptVersion):
        empty_registry.promote(second)
    assert empty_registry.promoted() == first


def test_a_damaged_pointer_is_an_error_and_not_an_empty_registry(empty_registry: Registry) -> None:
    """A cut pointer file is named, with what to do."""
    empty_registry.promote(empty_registry.add(WEIGHTS, CARD).version)
    (empty_registry._root / "promoted").write_text("01234")
    with pytest.raises(CorruptVersion, match="promote one again"):
        empty_registry.promoted()


@pytest.mark.parametrize(
    ("weights", "card"),
    [
        ({}, {}),
        ({"item_bias": np.array([1.0, np.nan])}, {}),
        ({"item_bias": np.array([1.0, np.inf])}, {}),
        ({"item_bias": np.array(["text"])}, {}),
        ({"item_bias": np.array([object()])}, {}),
        (WEIGHTS, {"metric": float("nan")}),
        (WEIGHTS, {"metric": object()}),
    ],
    ids=["no weights", "nan", "infinity", "text", "objects", "nan in card", "object in card"],
)
def test_what_could_not_rank_or_be_read_back_is_refused(
    empty_registry: Registry, weights: dict[str, Any], card: dict[str, Any]
) -> None:
    """Nothing is written for refused content."""
    with pytest.raises(InvalidModel):
        empty_registry.add(weights, card)
    assert empty_registry.versions() == []


def test_an_interrupted_write_leaves_no_version(
    empty_registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failure between the files and the rename is no version; the next add succeeds."""

    def full_disk(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "rename", full_disk)
    with pytest.raises(OSError, match="No space"):
        empty_registry.add(WEIGHTS, CARD)
    monkeypatch.undo()
    assert empty_registry.versions() == []
    assert list((empty_registry._root / "versions").iterdir()) == []
    assert (
        empty_registry.versions() == []
        and empty_registry.add(WEIGHTS, CARD).version in empty_registry.versions()
    )
