"""A participant holds every task against what was agreed, and is in one round at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from secure_world import SHAPES, World, contributions, total, world
from test_secure_round import task

from client.secure_party import Party, laid_out, party_at
from client.stages import shortened
from privacy.accountant import mu_of
from privacy.distributed_noise import DELTA_SLACK
from privacy.errors import CertificateError, ManifestError, SecureAggregationError
from privacy.federation_identity import IdentityError, coordinator_identity, node_identity
from privacy.fixed_point import GRID
from privacy.secagg.coordinator import Aggregation
from privacy.secagg.manifest import RoundManifest
from proto.federation import RELEASE_ID, Phase, Task
from server.coordination.collecting import with_layout
from server.coordination.config import Participants
from server.coordination.influence import Influence
from server.coordination.secure_manifest import round_manifest
from simulation.grid import node_name
from simulation.identities import coordinator_kit

NAMES = tuple(node_name(node) for node in range(3))
SECURE_TASK = with_layout(task(), SHAPES, secure=True)


@pytest.fixture(scope="module")
def parties(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A federation of three merchants that agreed to masks and to a minimum cohort of 3."""
    with world(tmp_path_factory.mktemp("federation"), contributions(3)) as made:
        yield made


def manifest(parties: World, asked: Task = SECURE_TASK) -> RoundManifest:
    """What the coordinator signs for a task."""
    terms = coordinator_identity(coordinator_kit(parties.folder)).federation
    influence = Influence(kind=Participants.MERCHANTS, shoppers=5, merchants=3)
    return round_manifest(asked, NAMES, 3, terms, influence)


def invitation(parties: World, asked: Task = SECURE_TASK) -> dict[str, Any]:
    """The first question of a round, as a record."""
    return signed(parties, manifest(parties, asked))


def signed(parties: World, changed: RoundManifest) -> dict[str, Any]:
    """The first question of a round whose manifest the coordinator has made up."""
    identity = coordinator_identity(coordinator_kit(parties.folder))
    round_ = Aggregation(manifest=changed, signer=identity.signer, trusted=identity.trusted)
    return {**round_.begin()[NAMES[0]].to_record(), RELEASE_ID: changed.release_id}


def party(parties: World) -> Party:
    """The first merchant, in no round yet."""
    return Party(parties.folder / NAMES[0])


def test_a_contribution_in_the_open_is_refused_where_masks_were_agreed(parties: World) -> None:
    """Whatever the coordinator asks: nothing is computed, nothing is charged."""
    with pytest.raises(ManifestError, match="in the open; the federation agreed to masks"):
        party(parties).check(replace(SECURE_TASK, secure=False), None, 1)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"trust": "central"}, "has trust central, the federation agreed to none"),
        ({"minimum_cohort": 2}, "minimum cohort is 2, the federation agreed to at least 3"),
    ],
)
def test_a_task_that_protects_less_than_was_agreed_is_refused(
    parties: World, changes: dict[str, Any], reason: str
) -> None:
    """Less noise than agreed, or a smaller cohort."""
    with pytest.raises(ManifestError, match=reason):
        party(parties).check(replace(SECURE_TASK, **changes), None, 1)


def test_an_account_is_never_capped_above_the_budget_that_was_agreed(tmp_path: Path) -> None:
    """Epsilon 8 at delta 1e-6 in the signed manifest: a plan for epsilon 9 is refused, one for 8 goes on."""
    words = {"trust": "central", "noise_multiplier": 2.0, "mu2": 0.25}
    with world(tmp_path, contributions(3), trust="central") as parties:
        asked = party(parties)
        greedy = replace(SECURE_TASK, **words, cap_mu2=mu_of(9.0, 1e-6) ** 2)  # type: ignore[arg-type]
        with pytest.raises(ManifestError, match="epsilon 8 at delta 1e-06, which the federation agreed to"):
            asked.check(greedy, None, 1)
        with pytest.raises(SecureAggregationError, match="in no round"):  # the next thing to be checked
            asked.check(replace(greedy, cap_mu2=mu_of(8.0, 1e-6) ** 2), None, 1)


@pytest.mark.parametrize("agreed", [-1, 7])
def test_noise_in_shares_is_drawn_from_no_seed_that_was_not_agreed(tmp_path: Path, agreed: int) -> None:
    """Whoever names the seed could take the share away and see the contribution; one's own entropy always goes."""
    cap = mu_of(8.0, 1e-6 - DELTA_SLACK) ** 2
    noised = replace(SECURE_TASK, trust="distributed", noise_multiplier=2.0, mu2=0.25, cap_mu2=cap)
    with world(tmp_path, contributions(3), trust="distributed", noise_seed=agreed) as parties:
        asked = party(parties)
        for seed in (0, 5, 7, -1):
            with pytest.raises((ManifestError, SecureAggregationError)) as refusal:
                asked.check(replace(noised, noise_seed=seed), None, 1)
            # "in no round" is what is checked next
            reason = "in no round" if seed in (agreed, -1) else "names a seed for the participant's noise"
            assert reason in str(refusal.value)


def test_the_cap_leaves_delta_what_noise_on_integers_takes_of_it(tmp_path: Path) -> None:
    """Under trust distributed the agreed delta pays for the slack first; a cap that forgets it is refused."""
    noised = replace(SECURE_TASK, trust="distributed", noise_multiplier=2.0, mu2=0.25)
    with world(tmp_path, contributions(3), trust="distributed") as parties:
        asked = party(parties)
        with pytest.raises(ManifestError, match="cap on an account"):
            asked.check(replace(noised, cap_mu2=mu_of(8.0, 1e-6) ** 2), None, 1)
        with pytest.raises(SecureAggregationError, match="in no round"):  # the next thing to be checked
            asked.check(replace(noised, cap_mu2=mu_of(8.0, 1e-6 - DELTA_SLACK) ** 2), None, 1)


@pytest.mark.parametrize(("trust", "noise"), [("distributed", 2.0), ("none", 0.0)])
@pytest.mark.parametrize("factor", [2.0**-12, 2.0**24])
def test_a_unit_under_which_contributions_would_be_rounded_one_by_one_is_refused(
    tmp_path: Path, trust: str, noise: float, factor: float
) -> None:
    """On a coarse grid others' shares of noise cover nothing; a fine one would refuse by what an entry holds."""
    asked = replace(SECURE_TASK, trust=trust, noise_multiplier=noise, mu2=0.25, cap_mu2=1.0)
    with world(tmp_path, contributions(3), trust=trust) as parties:
        honest, victim = manifest(parties, asked), party(parties)
        victim.answer(Phase.ADVERTISE, signed(parties, replace(honest, step=honest.step * factor)))
        with pytest.raises(ManifestError, match="the round's unit is"):
            victim.check(asked, {}, 1)
        victim.answer(Phase.ADVERTISE, signed(parties, honest))
        with pytest.raises(SecureAggregationError):  # only the shares of the others are missing
            victim.check(asked, {}, 1)


def test_a_layout_that_is_not_the_signed_one_is_refused(parties: World) -> None:
    """Entries that a task adds would have noise, and no place; sensitivity counts the entries of the task."""
    victim = party(parties)
    victim.answer(Phase.ADVERTISE, invitation(parties))
    with pytest.raises(ManifestError, match="layout is not that of the signed manifest"):
        victim.check(with_layout(task(), {**SHAPES, "more": (3,)}, secure=True), {}, 1)


def test_what_passes_a_narrow_modulus_wraps_and_tells_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refusal would say without noise that somebody's entry is large; the sum is right modulo 2^32 units."""

    def narrow(*asked: Any) -> RoundManifest:
        return replace(round_manifest(*asked), modulus_bits=32, step=GRID)

    monkeypatch.setattr("server.coordination.secure_round.round_manifest", narrow)
    values = contributions(3)
    with world(tmp_path, values) as parties:
        found = parties.collect(task())
    assert not found.refused
    for name, value in total(values).items():
        off = np.mod(found.totals[name] - value + 0.5, 1.0) - 0.5
        np.testing.assert_allclose(off, 0.0, atol=3 * GRID)


def test_shares_of_noise_must_fit_the_cohort_that_is_promised(parties: World) -> None:
    """Noise calibrated for more participants than a sum may have is too little; the price would be a lie."""
    asked = party(parties)
    asked.answer(Phase.ADVERTISE, invitation(parties))
    with pytest.raises(ManifestError, match="calibrated for 4 participants, and a sum of 3 may be released"):
        asked.check(replace(SECURE_TASK, minimum_cohort=4), None, 1)
    with pytest.raises(
        SecureAggregationError
    ):  # four fit where two answer under one name; only shares are missing
        asked.check(replace(SECURE_TASK, minimum_cohort=4), None, 2)


@pytest.mark.parametrize("phase", [Phase.SHARE, Phase.CONFIRM, Phase.UNMASK])
def test_a_question_of_no_round_or_of_another_is_refused(parties: World, phase: Phase) -> None:
    """A restarted node is in no round; a late question does not touch the round that is on."""
    asked = party(parties)
    with pytest.raises(SecureAggregationError, match="in no round of that release"):
        asked.answer(phase, {RELEASE_ID: SECURE_TASK.release_id})
    asked.answer(Phase.ADVERTISE, invitation(parties))
    with pytest.raises(SecureAggregationError, match="in no round of that release"):
        asked.answer(phase, {RELEASE_ID: "toy/x/0-counts"})
    with pytest.raises(SecureAggregationError, match="in no round of that release"):
        asked.masked(replace(SECURE_TASK, release_id="toy/x/0-counts"), {})
    assert asked._current(SECURE_TASK.release_id).turn == "share"


def test_garbage_as_an_invitation_leaves_the_round_that_is_on(parties: World) -> None:
    """Nobody but the coordinator ends a round."""
    asked = party(parties)
    asked.answer(Phase.ADVERTISE, invitation(parties))
    for forged in ({}, {**invitation(parties), "signature": b"x" * 70}):
        with pytest.raises(SecureAggregationError):
            asked.answer(Phase.ADVERTISE, forged)
    assert asked._current(SECURE_TASK.release_id).turn == "share"


@pytest.mark.parametrize(("name", "value"), [("clipping_norm", 9.0), ("model_hash", "abd"), ("round", 2)])
def test_a_task_that_differs_from_the_signed_manifest_is_refused(
    parties: World, name: str, value: object
) -> None:
    """What is signed is what is computed."""
    asked = party(parties)
    asked.answer(Phase.ADVERTISE, invitation(parties))
    with pytest.raises(ManifestError, match=f"the task's {name} is"):
        asked.check(replace(SECURE_TASK, **{name: value}), {}, 1)  # type: ignore[arg-type]


def test_parts_take_their_places_and_nothing_else() -> None:
    """A part that is missing is zeros; one of another size, or without a place, is refused."""
    layout = (("a", 2), ("b", 4))
    np.testing.assert_array_equal(laid_out({"b": np.ones((2, 2))}, layout), [0, 0, 1, 1, 1, 1])
    with pytest.raises(SecureAggregationError, match="has 2 places for part 'a', which takes 3"):
        laid_out({"a": np.ones(3)}, layout)
    with pytest.raises(SecureAggregationError, match="has 0 places for part 'c'"):
        laid_out({"c": np.ones(1)}, layout)


@pytest.mark.parametrize("shoppers", [0, 3, 40])
def test_a_participant_sends_no_more_than_its_declared_shoppers_may_add(
    tmp_path: Path, shoppers: int
) -> None:
    """Ten were declared: what forty add is shortened to the length of ten; under trust local nothing is."""
    share = {"devices": np.full(40, 0.6 / np.sqrt(40)), "everyone/gain": np.full((3, 5), 0.8 / np.sqrt(15))}
    parts = {name: shoppers * value for name, value in share.items()}
    with world(tmp_path, contributions(3), declared_shoppers="node-0=10") as parties:
        sent = party(parties).within_declared(SECURE_TASK, parts)
        undeclared = Party(parties.folder / NAMES[1]).within_declared(SECURE_TASK, parts)
        local = party(parties).within_declared(replace(SECURE_TASK, trust="local"), parts)
    for name, value in share.items():
        np.testing.assert_allclose(sent[name], min(shoppers, 10) * value)
        np.testing.assert_array_equal(undeclared[name], parts[name])
        np.testing.assert_array_equal(local[name], parts[name])


@given(st.integers(0, 2**32 - 1), st.floats(0.1, 5.0))
def test_shortening_never_lets_one_shopper_count_for_more(seed: int, longest: float) -> None:
    """Two sums that differ by a share of norm 1 are at most 1 apart afterwards too."""
    draw = np.random.default_rng(seed)
    share, base = draw.standard_normal(6), 3.0 * draw.standard_normal(6)
    share /= np.linalg.norm(share)
    one, other = (shortened({"a": value}, longest)["a"] for value in (base, base + share))
    assert np.linalg.norm(one - other) <= 1 + 1e-9
    assert np.linalg.norm(one) <= longest * (1 + 1e-9)


def test_one_process_has_one_party_for_each_folder(parties: World) -> None:
    """Messages of a round come one by one, and meet the same state."""
    folder = str(parties.folder / NAMES[1])
    assert party_at(folder) is party_at(folder)
    assert party_at(folder) is not party_at(str(parties.folder / NAMES[2]))


def test_an_identity_is_read_from_files_that_fit_together(parties: World, tmp_path: Path) -> None:
    """Its name is that of the certificate; without its key, or with a coordinator's certificate, it is none."""
    assert node_identity(parties.folder / NAMES[2]).name == NAMES[2]
    own, other = parties.folder / NAMES[0], coordinator_kit(parties.folder)
    for name in ("ca.pem", "revoked.pem", "federation.json", "federation.sig", "node.pem"):
        (tmp_path / name).write_bytes((own / name).read_bytes())
    with pytest.raises(IdentityError, match=r"node\.key is not there"):
        node_identity(tmp_path)
    (tmp_path / "node.pem").write_bytes((other / "coordinator.pem").read_bytes())
    with pytest.raises(CertificateError, match="names no participant of the domain simulation"):
        node_identity(tmp_path)
    (tmp_path / "ca.pem").unlink()
    with pytest.raises(IdentityError, match=r"ca\.pem cannot be read"):
        node_identity(tmp_path)
