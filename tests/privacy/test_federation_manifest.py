"""The federation's terms: one spelling, one authority, and nothing that means nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy.certificate_authority import AUTHORITY, CertificateAuthority
from privacy.errors import ManifestError
from privacy.federation_manifest import FederationManifest, sign_manifest, verify_manifest

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
TERMS = FederationManifest(
    federation="shops",
    domain="shops.example",
    trust="distributed",
    epsilon=8.0,
    delta=1e-6,
    minimum_cohort=5,
    secure_aggregation=True,
    catalogue_hash="ab" * 32,
    shoppers=12_000,
    merchants=20,
    rounds=12,
    settings={"dim": 128, "loss": "sampled_softmax", "recency": 0.5, "fusion": False},
)
SCALARS = (
    st.booleans()
    | st.integers(-(2**62), 2**62)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=50)
)


@pytest.fixture
def authority(tmp_path: Path) -> CertificateAuthority:
    """The federation's authority."""
    return CertificateAuthority.make(tmp_path / "authority", NOW)


def pem_of(authority: CertificateAuthority) -> bytes:
    """Its certificate."""
    return (authority.folder / AUTHORITY).read_bytes()


@given(settings=st.dictionaries(st.text(max_size=20), SCALARS, max_size=8))
def test_a_manifest_reads_back_as_it_was(settings: dict[str, str | int | float | bool]) -> None:
    """Any settings, and the digest is of the bytes."""
    terms = replace(TERMS, settings=settings)
    read = FederationManifest.from_bytes(terms.to_bytes())
    assert read == terms
    assert read.digest() == terms.digest()
    assert (terms.digest() == TERMS.digest()) == (dict(settings) == dict(TERMS.settings))


def test_a_manifest_signed_by_the_authority_is_believed(authority: CertificateAuthority) -> None:
    """The bytes, as they lie in every kit."""
    content = TERMS.to_bytes()
    assert verify_manifest(content, sign_manifest(TERMS, authority.key), pem_of(authority)) == TERMS


def test_a_manifest_of_another_authority_or_of_other_terms_is_not(
    authority: CertificateAuthority, tmp_path: Path
) -> None:
    """The message says where to get the right one."""
    other = CertificateAuthority.make(tmp_path / "other", NOW)
    weaker = replace(TERMS, minimum_cohort=2)
    for content, signature in (
        (TERMS.to_bytes(), sign_manifest(TERMS, other.key)),
        (weaker.to_bytes(), sign_manifest(TERMS, authority.key)),
        (TERMS.to_bytes(), b""),
    ):
        with pytest.raises(ManifestError, match="not signed by the federation's authority"):
            verify_manifest(content, signature, pem_of(authority))


def test_noise_is_drawn_from_a_seed_only_where_everybody_agreed_to_that_seed() -> None:
    """Whoever knows the seed can take the noise away, so the coordinator alone may not name one."""
    TERMS.check_entropy(-1)
    replace(TERMS, settings={"noise-seed": 5}).check_entropy(5)
    for terms in (
        TERMS,
        replace(TERMS, settings={"noise-seed": 4}),
        replace(TERMS, settings={"noise-seed": -1}),
    ):
        with pytest.raises(ManifestError, match="take the noise away"):
            terms.check_entropy(5)


@pytest.mark.parametrize(
    "change",
    [
        {"federation": ""},
        {"epsilon": 0.0},
        {"epsilon": float("inf")},
        {"epsilon": 8},
        {"delta": 1.0},
        {"minimum_cohort": 1},
        {"minimum_cohort": True},
        {"shoppers": -1},
        {"trust": "x" * 600},
        {"settings": {"name": ["a", "list"]}},
        {"settings": {"value": float("nan")}},
    ],
)
def test_terms_that_mean_nothing_are_refused(change: dict[str, object]) -> None:
    """Each names what is wrong."""
    with pytest.raises(ManifestError):
        replace(TERMS, **change)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff\xfe",
        b"[" * 60_000,
        b'{"a":1}' * 20_000,
        TERMS.to_bytes() + b" ",
        TERMS.to_bytes().replace(b'"rounds":12', b'"rounds": 12'),
        TERMS.to_bytes().replace(b'"rounds":12', b'"rounds":12.0'),
        TERMS.to_bytes().replace(b'"rounds":12', b'"rounds":1e999'),
        TERMS.to_bytes().replace(b'"rounds":12', b'"rounds":12,"rounds":12'),
        TERMS.to_bytes().replace(b'"rounds":12,', b""),
        TERMS.to_bytes().replace(b'"rounds":12', b'"rounds":"' + b"9" * 5000 + b'"'),
    ],
)
def test_what_is_not_the_one_spelling_is_refused(content: bytes) -> None:
    """Whatever comes, it is a `ManifestError`."""
    with pytest.raises(ManifestError):
        FederationManifest.from_bytes(content)


@given(st.binary(max_size=200))
def test_bytes_of_any_kind_are_refused_cleanly(content: bytes) -> None:
    """Nothing else than a `ManifestError` comes out."""
    with pytest.raises(ManifestError):
        FederationManifest.from_bytes(content)
