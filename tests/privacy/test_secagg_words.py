"""Manifests, records, encodings and signatures of a round: one spelling, bounded, and nothing is taken on trust."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from evaluation.bench.secure_world import DOMAIN, NOW, World
from privacy.errors import CertificateError, ManifestError, SecureAggregationError
from privacy.secagg.encoding import decode, decode_units, encode, encode_units
from privacy.secagg.identity import Signer, Trusted, coordinator_uri, node_uri, statement
from privacy.secagg.manifest import RoundManifest, smallest_threshold
from privacy.secagg.messages import (
    Advertisement,
    Confirmations,
    Delivery,
    Masked,
    Message,
    Roster,
    Shares,
    Survivors,
    Unmasking,
)

KEY = bytes(32)
ADVERTISEMENT = Advertisement(
    sealing_key=KEY, masking_key=KEY, commitment=KEY, certificate=b"c" * 600, signature=b"s" * 70
)
MESSAGES: list[Message] = [
    ADVERTISEMENT,
    Roster.of({"b": ADVERTISEMENT, "a": replace(ADVERTISEMENT, masking_key=bytes(range(32)))}),
    Shares(sealed={"b": bytes(82)}, digests={"a": bytes(64), "b": bytes(64)}, signature=b"s"),
    Delivery(sealed={}),
    Masked(content=bytes(40), signature=b"s"),
    Survivors(names=("a", "b")),
    Confirmations(signature={"a": b"x", "b": b"y"}),
    Unmasking(seeds={"a": bytes(33)}, keys={}, signature=b"s"),
]


@pytest.fixture(scope="module")
def world() -> World:
    """Four shops."""
    return World.make(4, minimum_cohort=3)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_message_survives_its_record(message: Message) -> None:
    """Records are flat: bytes, lists of names, lists of bytes."""
    record = message.to_record()
    assert type(message).from_record(record) == message
    assert all(isinstance(value, bytes | list) for value in record.values())


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        (Advertisement, {"sealing_key": bytes(31)}),
        (Advertisement, {"sealing_key": "0" * 32}),
        (Advertisement, {"certificate": bytes(5000)}),
        (Advertisement, {"signature": None}),
        (Roster, {"names/signature": ["b", "a"]}),
        (Roster, {"names/signature": ["a", "a"]}),
        (Roster, {"names/signature": ["a"]}),
        (Roster, {"names/signature": ["a", "../b"]}),
        (Roster, {"names/signature": ["a", 1]}),
        (Roster, {"names/signature": "ab"}),
        (Shares, {"sealed": [bytes(81)]}),
        (Survivors, {"names": [f"n{number:03d}" for number in range(257)]}),
        (Masked, {"content": b""}),
        (Unmasking, {"seeds": [bytes(34)]}),
    ],
)
def test_a_record_that_does_not_fit_is_refused(kind: type[Message], change: dict[str, object]) -> None:
    """By type, length, number, order and spelling; the message names the field's kind."""
    sound = next(message for message in MESSAGES if type(message) is kind).to_record()
    with pytest.raises(SecureAggregationError, match=kind.__name__):
        kind.from_record({**sound, **change})


def test_a_roster_whose_columns_name_different_participants_is_refused() -> None:
    """Each field alone may look sound."""
    record = MESSAGES[1].to_record() | {"names/signature": ["a", "c"]}
    with pytest.raises(SecureAggregationError, match="same names"):
        Roster.from_record(record).advertisements()


def test_a_signature_is_for_one_message_of_one_participant_in_one_round() -> None:
    """Whatever changes, other bytes are signed."""
    digest = bytes(32)
    message = Shares(sealed={"b": bytes(82)}, digests={"a": bytes(64), "b": bytes(64)}, signature=b"s")
    variants = {
        message.statement(digest, "a"),
        message.statement(digest, "b"),
        message.statement(b"\1" * 32, "a"),
        Masked(content=bytes(40), signature=b"").statement(digest, "a"),
        Shares(sealed={"c": bytes(82)}, digests={"a": bytes(64), "b": bytes(64)}, signature=b"").statement(
            digest, "a"
        ),
    }
    assert len(variants) == 5
    assert replace(message, signature=b"other").statement(digest, "a") in variants


def test_a_round_manifest_reads_back_and_its_digest_covers_every_word(world: World) -> None:
    """No two manifests share a digest."""
    manifest = world.manifest()
    assert RoundManifest.from_bytes(manifest.to_bytes()) == manifest
    changes: list[dict[str, Any]] = [
        {"release_id": "release-2"},
        {"model_hash": "1" * 16},
        {"clipping_norm": 2.0},
        {"noise_multiplier": 2.0},
        {"step": 0.5},
        {"modulus_bits": 64},
        {"layout": (("everyone", 4), ("other", 4))},
        {"threshold": 4},
        {"minimum_cohort": 4},
    ]
    assert len({replace(manifest, **change).digest for change in changes} | {manifest.digest}) == 10


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"threshold": 2}, "threshold"),
        ({"threshold": 5}, "threshold"),
        ({"minimum_cohort": 1}, "minimum cohort"),
        ({"cohort": ("shop-001", "shop-000")}, "sorted"),
        ({"cohort": ("shop-000", "shop-000")}, "sorted"),
        ({"cohort": ("shop-000",)}, "cohort"),
        ({"cohort": tuple(f"n{number:03d}" for number in range(257)), "threshold": 200}, "2 to 256"),
        ({"modulus_bits": 16}, "32 or 64"),
        ({"step": 0.0}, "unit"),
        ({"step": float("nan")}, "step"),
        ({"clipping_norm": -1.0}, "clipping norm"),
        ({"noise_multiplier": 0.0}, "noise multiplier"),
        ({"trust": "none"}, "noise multiplier"),
        ({"layout": ()}, "layout"),
        ({"layout": (("a", 1), ("a", 1))}, "layout"),
        ({"layout": (("a", 0),)}, "layout"),
        ({"layout": (("a", 2**29),)}, "layout"),
    ],
)
def test_a_round_that_cannot_stand_is_refused(world: World, change: dict[str, Any], words: str) -> None:
    """The message names the word."""
    with pytest.raises(ManifestError, match=words):
        world.manifest(**change)


@pytest.mark.parametrize(("cohort", "threshold"), [(2, 2), (3, 3), (4, 3), (7, 5), (50, 34), (256, 171)])
def test_the_threshold_is_above_two_thirds(cohort: int, threshold: int) -> None:
    """And it is the smallest such number."""
    assert smallest_threshold(cohort) == threshold
    assert 3 * threshold > 2 * cohort >= 3 * (threshold - 1)


def test_a_round_below_what_was_agreed_is_refused(world: World) -> None:
    """Other terms, other trust, smaller cohorts."""
    world.manifest().check_agreed(world.federation)
    for change in ({"minimum_cohort": 2}, {"trust": "local"}, {"federation_digest": "0" * 64}):
        with pytest.raises(ManifestError):
            world.manifest(**change).check_agreed(world.federation)


def test_a_task_that_says_other_than_the_manifest_is_refused(world: World) -> None:
    """The words that both hold have to be the same."""
    manifest = world.manifest()
    words = json.loads(manifest.to_bytes())
    manifest.check_same(words)
    with pytest.raises(ManifestError, match="noise_multiplier"):
        manifest.check_same(words | {"noise_multiplier": 0.5})


def test_a_sum_is_cut_along_the_layout(world: World) -> None:
    """Parts come back under their names, and are views of the sum."""
    manifest = world.manifest(layout=(("a", 2), ("b", 3)))
    total = np.arange(5)
    parts = manifest.parts(total)
    assert {name: part.tolist() for name, part in parts.items()} == {"a": [0, 1], "b": [2, 3, 4]}
    assert all(np.shares_memory(part, total) for part in parts.values())


@given(
    arrays.arrays(
        np.float64, st.tuples(st.integers(1, 5), st.integers(0, 20)), elements=st.floats(-100, 100)
    ),
    st.sampled_from([32, 64]),
)
def test_a_sum_of_encoded_values_is_the_sum_of_values(values: np.ndarray[Any, Any], bits: int) -> None:
    """To half a unit for each of them, and exactly that of the rounded values."""
    step = 2.0**-16
    encoded = [encode(row, step, bits, parties=5) for row in values]
    total = sum(encoded[1:], encoded[0])
    assert np.array_equal(decode(total, step), np.rint(values / step).sum(axis=0) * step)


@pytest.mark.parametrize("bits", [32, 64])
def test_values_that_could_wrap_or_are_not_finite_are_refused(bits: int) -> None:
    """Up to the bound all is exact; beyond it, nothing is sent."""
    bound = 2 ** (bits - 1) // 4
    near = np.array([bound - 2**12, -(bound - 2**12)], dtype=np.int64)
    total = sum([encode_units(near, bits, 4)] * 3, encode_units(near, bits, 4))
    assert decode_units(total).tolist() == (4 * near).tolist()
    for bad in (float("nan"), float("inf"), float(bound), -1e300):
        with pytest.raises(SecureAggregationError, match="could wrap"):
            encode(np.array([0.0, bad]), 1.0, bits, parties=4)
    for whole in (bound, -bound):
        with pytest.raises(SecureAggregationError, match="could wrap"):
            encode_units(np.array([0, whole]), bits, 4)


def changed(world: World, **change: Any) -> Trusted:
    """Return whom the world trusts, with a change."""
    return replace(world.trusted, **change)


REFUSALS: dict[str, Callable[[World, Signer], tuple[Trusted, str, Signer, bytes]]] = {
    "names somebody else": lambda world, signer: (world.trusted, "shop-001", signer, b"m"),
    "not issued by": lambda world, _: (world.trusted, "shop-000", World.make(2).members["shop-000"], b"m"),
    "expired": lambda world, signer: (
        changed(world, now=lambda: (NOW + timedelta(days=91)).timestamp()),
        "shop-000",
        signer,
        b"m",
    ),
    "revoked": lambda world, signer: (changed(world, revoked=_Everybody()), "shop-000", signer, b"m"),
    "not signed by its key": lambda world, signer: (
        world.trusted,
        "shop-000",
        replace(signer, key=world.members["shop-001"].key),
        b"m",
    ),
    "cannot be read": lambda world, signer: (
        world.trusted,
        "shop-000",
        replace(signer, certificate=b"no certificate"),
        b"m",
    ),
    "too long": lambda world, signer: (
        world.trusted,
        "shop-000",
        replace(signer, certificate=bytes(9999)),
        b"m",
    ),
}


class _Everybody(frozenset[tuple[bytes, int]]):
    """A revocation list with everybody on it."""

    def __contains__(self, entry: object) -> bool:
        return True


def test_a_members_signature_counts(world: World) -> None:
    """The certificate names it, the authority issued it, the key signed."""
    signer, message = world.members["shop-000"], statement("test", "a", b"b")
    world.trusted.check("shop-000", signer.certificate, message, signer.sign(message))
    world.trusted.check_coordinator(world.coordinator.certificate, message, world.coordinator.sign(message))
    with pytest.raises(CertificateError, match="somebody else"):
        world.trusted.check_coordinator(signer.certificate, message, signer.sign(message))


@pytest.mark.parametrize("words", REFUSALS)
def test_a_signature_that_does_not_count_is_refused_by_reason(world: World, words: str) -> None:
    """Each way in which it can be wrong."""
    trusted, name, signer, message = REFUSALS[words](world, world.members["shop-000"])
    with pytest.raises(CertificateError, match=words):
        trusted.check(name, signer.certificate, message, signer.sign(message))


def test_names_and_domains_have_one_spelling() -> None:
    """What could be read in two ways stands in no certificate."""
    assert node_uri(DOMAIN, "shop-1") == f"spiffe://{DOMAIN}/merchant/shop-1/node"
    assert coordinator_uri(DOMAIN) == f"spiffe://{DOMAIN}/coordinator"
    for domain, name in (
        (DOMAIN, "a/b"),
        (DOMAIN, ".."),
        (DOMAIN, ""),
        (DOMAIN, "ä"),
        ("Shops", "a"),
        ("a/b", "a"),
    ):
        with pytest.raises(CertificateError):
            node_uri(domain, name)


def test_statements_of_different_parts_or_kinds_are_different_bytes() -> None:
    """Parts are length-prefixed, kinds are separated by a zero byte."""
    assert (
        len(
            {
                statement("a", "bc"),
                statement("a", "b", "c"),
                statement("ab", "c"),
                statement("a", b"b", "c", ""),
            }
        )
        == 4
    )
