"""One round of secure aggregation: exact sums, phases in order, and liars among the participants are named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from secagg_rounds import one_hot, whole_round

from evaluation.bench.secure_world import World, answers_of
from privacy.errors import CohortLost, OutOfTurn, SecureAggregationError
from privacy.secagg import masks
from privacy.secagg.coordinator import Aggregation, Phase
from privacy.secagg.messages import Delivery, Masked, Message, Shares, Survivors, Unmasking
from privacy.secagg.participant import Turn
from privacy.secagg.views import sign

LIAR = "shop-003"


@pytest.fixture(scope="module")
def world() -> World:
    """Seven shops, of which five are needed."""
    return World.make(7)


class Round:
    """A round that a test goes through phase by phase."""

    def __init__(self, world: World, **changes: Any) -> None:
        """Invite everybody."""
        self.world, self.manifest = world, world.manifest(7, **changes)
        self.aggregation: Aggregation = world.aggregation(self.manifest)
        self.members = {name: world.participant(name) for name in self.manifest.cohort}
        values = one_hot(self.manifest.cohort, 7)
        self.answer = {name: answers_of(one, values[name]) for name, one in self.members.items()}
        self.questions: Mapping[str, Message] = self.aggregation.begin()
        self.phase = 0

    def answers(self) -> dict[str, Any]:
        """Have everybody answer who was asked."""
        return {name: self.answer[name][self.phase](question) for name, question in self.questions.items()}

    def go(self, until: int, without: frozenset[str] = frozenset()) -> None:
        """Go through the phases before `until` honestly."""
        while self.phase < until:
            self.close({name: answer for name, answer in self.answers().items() if name not in without})

    def close(self, answers: Mapping[str, Message]) -> None:
        """Let these answers come, and end the phase."""
        for name, answer in answers.items():
            self.aggregation.accept(name, answer)
        self.questions = self.aggregation.close()
        self.phase += 1

    def signed(self, message: Any, name: str = LIAR) -> Any:
        """Sign a changed message anew, as its sender can."""
        return sign(message, self.world.members[name], self.manifest.digest, name)

    def finish(self) -> list[int]:
        """End the last phase honestly."""
        for name, answer in self.answers().items():
            self.aggregation.accept(name, answer)
        return [int(value) for value in self.aggregation.finish()]


def test_the_sum_is_exact_and_holds_everybody_once(world: World) -> None:
    """One-hot contributions add up to ones."""
    manifest = world.manifest(7)
    total, aggregation = whole_round(world, manifest, one_hot(manifest.cohort, 7))
    assert total.tolist() == [1] * 7
    assert aggregation.survivors == manifest.cohort
    assert aggregation.complaints == []


@pytest.mark.parametrize("phase", range(5))
def test_two_of_seven_may_leave_at_any_phase(world: World, phase: int) -> None:
    """Before contributing they are not in the sum; afterwards they are."""
    manifest = world.manifest(7)
    leaving = {"shop-001": phase, "shop-004": phase}
    total, _ = whole_round(world, manifest, one_hot(manifest.cohort, 7), leaving)
    expected = np.ones(7)
    expected[[1, 4]] = phase > 2
    assert total.tolist() == expected.tolist()


@pytest.mark.parametrize("phase", range(5))
def test_a_round_that_three_of_seven_leave_releases_nothing(world: World, phase: int) -> None:
    """Four are below two thirds."""
    manifest = world.manifest(7)
    leaving = dict.fromkeys(("shop-000", "shop-002", "shop-006"), phase)
    with pytest.raises(CohortLost, match="releases nothing"):
        whole_round(world, manifest, one_hot(manifest.cohort, 7), leaving)


def test_sums_wrap_modulo_2_to_the_64_too() -> None:
    """The wide modulus, two participants, values of both signs."""
    world = World.make(2)
    manifest = world.manifest(3, modulus_bits=64)
    values = {name: np.array([1, 2**64 - 5, 2**40], dtype="<u8") for name in manifest.cohort}
    total, _ = whole_round(world, manifest, values)
    assert total.tolist() == [2, 2**64 - 10, 2**41]


def test_masks_are_whole_and_the_values_stay_as_they_are(world: World) -> None:
    """A contribution longer than one piece of mask comes back exactly; no input is written to."""
    manifest = world.manifest(200_001)
    values = {name: np.full(200_001, number, dtype="<u4") for number, name in enumerate(manifest.cohort)}
    total, _ = whole_round(world, manifest, values, {"shop-006": 2})
    assert set(total.tolist()) == {0 + 1 + 2 + 3 + 4 + 5}
    assert all(set(values[name].tolist()) == {n} for n, name in enumerate(manifest.cohort))


def test_an_answer_counts_once_and_only_in_its_phase(world: World) -> None:
    """What is late, early, repeated or unasked changes nothing."""
    going = Round(world)
    first = going.answers()
    for name, answer in first.items():
        going.aggregation.accept(name, answer)
        with pytest.raises(OutOfTurn, match="counted once"):
            going.aggregation.accept(name, answer)
    for name, message in (("stranger", first[LIAR]), (LIAR, Survivors(names=("a",)))):
        with pytest.raises(OutOfTurn, match="not awaited"):
            going.aggregation.accept(name, message)
    assert going.aggregation.awaited == frozenset()
    going.questions, going.phase = going.aggregation.close(), 1
    with pytest.raises(OutOfTurn, match="phase share"):
        going.aggregation.accept(LIAR, first[LIAR])
    going.go(4)
    assert going.finish() == [1] * 7
    with pytest.raises(OutOfTurn):
        going.aggregation.finish()


def test_a_question_out_of_turn_changes_nothing_for_a_participant(world: World) -> None:
    """A repeated invitation, or a list of survivors before its time, is refused; the round goes on."""
    going = Round(world)
    invitation: Any = going.questions[LIAR]
    going.go(1)
    member = going.members[LIAR]
    for ask in (lambda: member.advertise(invitation), lambda: member.confirm(Survivors(names=(LIAR,)))):
        with pytest.raises(OutOfTurn, match=f"{LIAR} was asked to"):
            ask()
    assert member.turn is Turn.SHARE
    going.go(4)
    assert going.finish() == [1] * 7


def test_a_participant_that_refused_says_nothing_more(world: World) -> None:
    """Its secrets are gone, and the round goes on without it."""
    going = Round(world)
    going.go(2)
    member, delivery = going.members[LIAR], going.questions[LIAR]
    assert isinstance(delivery, Delivery)
    with pytest.raises(SecureAggregationError, match="does not open"):
        member.receive(Delivery(sealed=dict.fromkeys(delivery.sealed, bytes(82))))
    assert member.turn is Turn.GIVEN_UP
    with pytest.raises(OutOfTurn):
        member.receive(delivery)
    going.questions = {name: question for name, question in going.questions.items() if name != LIAR}
    going.go(4)
    assert going.finish() == [1, 1, 1, 0, 1, 1, 1]


def test_a_release_is_contributed_to_once(world: World) -> None:
    """Also where it was charged between the invitation and the shares."""
    answered: set[str] = set()
    going = Round(world)
    member = world.participant(LIAR, answered)
    going.answer[LIAR] = answers_of(member, np.zeros(7, dtype="<u4"))
    going.go(2)
    answered.add(going.manifest.release_id)
    with pytest.raises(SecureAggregationError, match="has contributed to release"):
        member.receive(going.questions[LIAR])  # type: ignore[arg-type]


def test_a_contribution_of_another_shape_or_type_is_refused_on_both_sides(world: World) -> None:
    """The participant does not send it, and the coordinator does not take it."""
    going = Round(world)
    going.go(2)
    for values in (np.zeros(6, dtype="<u4"), np.zeros(7, dtype="<u8"), np.zeros((7, 1), dtype="<u4")):
        member = Round(world)
        member.go(2)
        with pytest.raises(SecureAggregationError, match="a contribution has type"):
            answers_of(member.members[LIAR], values)[2](member.questions[LIAR])
    short = going.signed(Masked(content=bytes(24), signature=b""))
    with pytest.raises(
        SecureAggregationError, match=r"shop-003 in phase contribute: .* 24 bytes; the round's have 28"
    ):
        going.aggregation.accept(LIAR, short)
    assert LIAR in going.aggregation.awaited


def test_an_answer_that_its_sender_did_not_sign_for_this_round_is_refused(world: World) -> None:
    """Another's contribution, or one's own of another round, is not counted."""
    earlier, going = Round(world, release_id="release-0"), Round(world)
    earlier.go(2)
    going.go(2)
    old, own = earlier.answers(), going.answers()
    for name, answer in ((LIAR, old[LIAR]), (LIAR, own["shop-001"]), ("shop-001", own[LIAR])):
        with pytest.raises(SecureAggregationError, match="was not signed by its key"):
            going.aggregation.accept(name, answer)
    going.close(own)
    going.go(4)
    assert going.finish() == [1] * 7


@pytest.mark.parametrize("key", [bytes(32), (1).to_bytes(32, "little"), (2**255 - 20).to_bytes(32, "little")])
@pytest.mark.parametrize("which", ["sealing_key", "masking_key"])
def test_a_key_of_small_order_is_refused_at_once_and_spoils_nothing(
    world: World, which: str, key: bytes
) -> None:
    """With it nobody could agree on a secret: everybody would give the round up over one liar."""
    going = Round(world)
    answers = going.answers()
    forged = going.signed(replace(answers.pop(LIAR), **{which: key}))
    with pytest.raises(SecureAggregationError, match=f"{LIAR} in phase advertise: a public key of {LIAR}"):
        going.aggregation.accept(LIAR, forged)
    going.close(answers)
    going.go(4)
    assert sum(going.finish()) == 6


def test_false_shares_are_left_aside_and_their_giver_is_named(world: World) -> None:
    """Six honest answers are enough; the seventh lies about every share."""
    going = Round(world)
    going.go(4)
    answers = going.answers()
    lying: Unmasking = answers[LIAR]
    answers[LIAR] = going.signed(replace(lying, seeds=dict.fromkeys(lying.seeds, bytes(33))))
    for name, answer in answers.items():
        going.aggregation.accept(name, answer)
    assert going.aggregation.finish().tolist() == [1] * 7
    assert len(going.aggregation.complaints) == 7
    assert all(f"{LIAR} gave" in words for words in going.aggregation.complaints)


@pytest.mark.parametrize("survives", [False, True])
def test_a_dealer_of_shares_of_another_secret_is_named_and_nothing_is_released(
    world: World, survives: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both secrets: of a survivor the seed, of one who dropped out the key."""
    going = Round(world)
    going.go(1)
    secrets = going.members[LIAR]._secrets
    if survives:
        monkeypatch.setattr(secrets, "seed", b"x" * 32)
    else:
        monkeypatch.setattr(secrets, "masking", masks.private_key(b"x" * 32))
    going.go(2)
    going.close({name: answer for name, answer in going.answers().items() if survives or name != LIAR})
    going.go(4)
    with pytest.raises(SecureAggregationError, match=f"{LIAR} dealt shares of another"):
        going.finish()
    assert going.aggregation.phase is Phase.OVER


def test_answers_about_others_than_was_asked_are_refused(world: World) -> None:
    """Shares for too few, and shares of the wrong peers."""
    going = Round(world)
    going.go(1)
    shares: Shares = going.answers()[LIAR]
    fewer = going.signed(replace(shares, sealed=dict(list(shares.sealed.items())[1:])))
    with pytest.raises(SecureAggregationError, match="speaks of 5 participants, not of exactly the 6"):
        going.aggregation.accept(LIAR, fewer)
    both = going.signed(Unmasking(seeds={}, keys={LIAR: bytes(33)}, signature=b""))
    with pytest.raises(OutOfTurn):
        going.aggregation.accept(LIAR, both)
