"""The attacks: each turns the questions of an honest coordinator into those of a lying one, in one phase or more."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any, Final

from evaluation.bench.secure_adversary import Adversary, Attack, Questions
from evaluation.bench.secure_world import World
from privacy.secagg import masks
from privacy.secagg.manifest import RoundManifest
from privacy.secagg.messages import Advertisement, Confirmations, Delivery, Invitation, Roster, Survivors

Change = Callable[[Adversary, str, Any], Any]


def _at(phase: int, change: Change, *, all_of_them: bool = False) -> Attack:
    """Change the questions of one phase: the victim's, or everybody's."""

    def attack(adversary: Adversary, now: int, questions: Questions) -> Questions:
        if now != phase:
            return questions
        return [
            (name, change(adversary, name, question) if all_of_them or name == adversary.victim else question)
            for name, question in questions
        ]

    return attack


def overlapping_lists(adversary: Adversary, phase: int, questions: Questions) -> Questions:
    """Half of the participants hear that the victim is alive, the other half that it has dropped out."""
    if phase != 3:
        return questions
    everybody = [name for name, _ in questions]
    half = set(adversary.rng.sample(adversary.honest, len(adversary.honest) // 2)) - {adversary.victim}
    half |= {next(name for name in adversary.honest if name != adversary.victim)}
    dead = tuple(sorted(name for name in everybody if name != adversary.victim))
    return [(name, Survivors(names=dead) if name in half else question) for name, question in questions]


def different_dealers(adversary: Adversary, name: str, question: Delivery) -> Delivery:
    """The victim does not hear of one dealer that the others hear of."""
    missing = adversary.rng.choice(sorted(question.sealed))
    return Delivery(sealed={peer: sealed for peer, sealed in question.sealed.items() if peer != missing})


def keys_of_the_attacker(adversary: Adversary, name: str, question: Roster) -> Roster:
    """Everybody but the victim itself appears with keys that the coordinator has made, unsigned."""
    return _changed(question, name, lambda _, one: replace(one, **_made_up(adversary)))


def keys_signed_by_a_traitor(adversary: Adversary, name: str, question: Roster) -> Roster:
    """The same, signed by some member's own key with its own certificate."""
    signer = adversary.world.members[adversary.honest[-1]]

    def change(peer: str, one: Advertisement) -> Advertisement:
        made = replace(one, **_made_up(adversary), certificate=signer.certificate)
        return replace(made, signature=signer.sign(made.statement(adversary.manifest.digest, peer)))

    return _changed(question, name, change)


def foreign_certificates(adversary: Adversary, name: str, question: Roster) -> Roster:
    """The same, with certificates of another authority that name the very members."""
    members = _foreign(len(adversary.manifest.cohort)).members

    def change(peer: str, one: Advertisement) -> Advertisement:
        made = replace(one, **_made_up(adversary), certificate=members[peer].certificate)
        return replace(made, signature=members[peer].sign(made.statement(adversary.manifest.digest, peer)))

    return _changed(question, name, change)


def exchanged_keys(adversary: Adversary, name: str, question: Roster) -> Roster:
    """Two members stand in the roster with each other's keys."""
    one, other = adversary.rng.sample(sorted(question.signature.keys() - {name}), 2)
    columns = question.advertisements()
    columns[one], columns[other] = columns[other], columns[one]
    return Roster.of(columns)


def small_roster(adversary: Adversary, name: str, question: Roster) -> Roster:
    """The victim sees fewer participants than the manifest demands."""
    kept = _few(adversary, name, question.signature)
    return Roster.of({peer: one for peer, one in question.advertisements().items() if peer in kept})


def small_delivery(adversary: Adversary, name: str, question: Delivery) -> Delivery:
    """The victim gets shares of fewer dealers than the manifest demands."""
    kept = _few(adversary, name, question.sealed)
    return Delivery(sealed={peer: sealed for peer, sealed in question.sealed.items() if peer in kept})


def small_survivors(adversary: Adversary, name: str, question: Survivors) -> Survivors:
    """Everybody hears that fewer have survived than the manifest demands."""
    return Survivors(names=tuple(sorted(_few(adversary, adversary.victim, question.names))))


def few_confirmations(adversary: Adversary, name: str, question: Confirmations) -> Confirmations:
    """Fewer than the threshold have confirmed."""
    kept = _few(adversary, name, question.signature)
    return Confirmations(signature={peer: one for peer, one in question.signature.items() if peer in kept})


def forged_confirmations(adversary: Adversary, name: str, question: Confirmations) -> Confirmations:
    """Everybody is asked to unmask with signatures that members made of something else."""
    stranger = adversary.world.members[adversary.honest[-1]].sign(os.urandom(32))
    return Confirmations(signature=dict.fromkeys(question.signature, stranger))


def both_shares(adversary: Adversary, phase: int, questions: Questions) -> Questions:
    """After unmasking a second list, in which the victim has dropped out, and unmasking once more."""
    if phase != 4:
        return questions
    names = tuple(sorted(name for name in adversary.answers[2] if name != adversary.victim))
    lists: Questions = [(name, Survivors(names=names)) for name in names]
    return questions + lists + [(name, adversary.confirmations(name, names)) for name in names]


def second_contribution(adversary: Adversary, phase: int, questions: Questions) -> Questions:
    """The victim is asked for its contribution twice, the second time among others."""
    if phase != 2:
        return questions
    return questions + [
        (name, different_dealers(adversary, name, question))
        for name, question in questions
        if isinstance(question, Delivery)
    ]


def exchanged_shares(adversary: Adversary, name: str, question: Delivery) -> Delivery:
    """What two dealers have sealed for the victim changes places."""
    one, other = adversary.rng.sample(sorted(question.sealed), 2)
    sealed = dict(question.sealed)
    sealed[one], sealed[other] = sealed[other], sealed[one]
    return Delivery(sealed=sealed)


def replayed_release(adversary: Adversary, phase: int, questions: Questions) -> Questions:
    """The whole round a second time, after it was released."""
    if phase == 0:
        adversary.answered.add(adversary.manifest.release_id)
    return questions


def replayed_messages(adversary: Adversary, phase: int, questions: Questions) -> Questions:
    """An earlier round of the very same manifest; then its keys, shares or confirmations in place of today's."""
    if phase == 0:
        adversary.run(None)
        adversary.earlier = adversary.answers
        adversary.unmasked.clear()
        adversary.restart()
        adversary.replayed = adversary.rng.choice((1, 2, 4))
    if phase != adversary.replayed:
        return questions
    today, adversary.answers = adversary.answers, [*adversary.earlier[:phase], *adversary.answers[phase:]]
    old = dict(adversary.questions(phase))
    adversary.answers = today
    return [(name, old[name]) for name, _ in questions]


def altered_manifest(adversary: Adversary, name: str, question: Invitation) -> Invitation:
    """One word of the manifest is another than the coordinator has signed."""
    return replace(question, manifest=_words(adversary, question.manifest))


def different_manifests(adversary: Adversary, name: str, question: Invitation) -> Invitation:
    """The victim is shown another manifest than the others, validly signed."""
    return adversary.invitation(_words(adversary, question.manifest))


def foreign_coordinator(adversary: Adversary, name: str, question: Invitation) -> Invitation:
    """The manifest is signed by another authority's coordinator, or by a member."""
    signers = (_foreign(len(adversary.manifest.cohort)).coordinator, adversary.world.members[name])
    return adversary.invitation(question.manifest, adversary.rng.choice(signers))


def weak_manifest(adversary: Adversary, name: str, question: Invitation) -> Invitation:
    """A threshold of half the cohort, too small a cohort, no noise, or no such terms: all validly signed."""
    size = len(adversary.manifest.cohort)
    weak: dict[str, Any] = adversary.rng.choice(
        (
            {"threshold": size // 2},
            {"threshold": 2 * size // 3},
            {"minimum_cohort": adversary.manifest.minimum_cohort - 1},
            {"cohort": [name, *sorted(set(adversary.manifest.cohort) - {name})[:1]], "threshold": 2},
            {"cohort": [name], "threshold": 1, "minimum_cohort": 1},
            {"noise_multiplier": 0.0},
            {"trust": "none", "noise_multiplier": 0.0},
            {"federation_digest": "0" * 64},
            {"cohort": sorted(set(adversary.manifest.cohort) - {name})},
        )
    )
    return adversary.invitation(_spelled(json.loads(question.manifest) | weak))


ATTACKS: Final[Mapping[str, Attack]] = {
    "overlapping lists of the living and the dead": overlapping_lists,
    "another list of dealers for one participant": _at(2, different_dealers),
    "keys that the coordinator made": _at(1, keys_of_the_attacker),
    "keys that another member signed": _at(1, keys_signed_by_a_traitor),
    "certificates of another authority": _at(1, foreign_certificates),
    "keys exchanged between members": _at(1, exchanged_keys),
    "a roster below the minimum": _at(1, small_roster),
    "dealers below the minimum": _at(2, small_delivery),
    "survivors below the minimum": _at(3, small_survivors, all_of_them=True),
    "confirmations below the threshold": _at(4, few_confirmations),
    "forged confirmations": _at(4, forged_confirmations, all_of_them=True),
    "both shares of one participant": both_shares,
    "a contribution asked twice": second_contribution,
    "shares exchanged on their way": _at(2, exchanged_shares),
    "a released round once more": replayed_release,
    "messages of an earlier round": replayed_messages,
    "a manifest changed after it was signed": _at(0, altered_manifest),
    "another manifest for one participant": _at(0, different_manifests),
    "a manifest signed by somebody else": _at(0, foreign_coordinator, all_of_them=True),
    "a manifest below what was agreed": _at(0, weak_manifest, all_of_them=True),
}
"""Every attack by its words."""


def _made_up(adversary: Adversary) -> dict[str, bytes]:
    """Return fresh keys whose private halves the adversary keeps."""
    pairs = {
        masks.public_of(masks.private_key(secret)): secret for secret in (os.urandom(32), os.urandom(32))
    }
    adversary.attacker_keys |= pairs
    sealing, masking = pairs
    return {"sealing_key": sealing, "masking_key": masking}


def _changed(roster: Roster, name: str, change: Callable[[str, Advertisement], Advertisement]) -> Roster:
    """Change everybody's advertisement but that of `name`."""
    return Roster.of(
        {peer: one if peer == name else change(peer, one) for peer, one in roster.advertisements().items()}
    )


def _few(adversary: Adversary, name: str, names: Any) -> set[str]:
    """Keep fewer names than the manifest demands, `name` among them where it was."""
    others = sorted(set(names) - {name})
    return set(adversary.rng.sample(others, min(len(others), adversary.manifest.fewest - 2))) | {name}


def _words(adversary: Adversary, manifest: bytes) -> bytes:
    """Change one word of a manifest to another that could stand there."""
    words = json.loads(manifest)
    changes: dict[str, Any] = {
        "model_hash": "f" * 16,
        "release_id": "release-2",
        "stage": "counts",
        "round": words["round"] + 1,
        "clipping_norm": 2.0 * words["clipping_norm"],
        "noise_multiplier": 0.5 * words["noise_multiplier"],
        "threshold": words["threshold"] + 1,
        "step": 2.0 * words["step"],
    }
    name = adversary.rng.choice(sorted(changes))
    return RoundManifest.from_bytes(_spelled(words | {name: changes[name]})).to_bytes()


def _spelled(words: Mapping[str, Any]) -> bytes:
    return json.dumps(words, sort_keys=True, separators=(",", ":")).encode()


@lru_cache(maxsize=4)
def _foreign(size: int) -> World:
    """Return another federation with members of the same names."""
    return World.make(size)
