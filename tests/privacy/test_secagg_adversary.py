"""A lying coordinator, alone or with a few participants: whatever it asks, it learns no sum of too few."""

from __future__ import annotations

import random

import pytest

from evaluation.bench.secure_adversary import Adversary, Watched
from evaluation.bench.secure_aggregation_faults import adversarial_runs, attack_rows
from evaluation.bench.secure_attacks import ATTACKS
from evaluation.bench.secure_world import World
from privacy.secagg.messages import Confirmation, Confirmations, Survivors, Unmasking


@pytest.fixture(scope="module")
def world() -> World:
    """Seven shops that agreed to a minimum cohort of three."""
    return World.make(7, minimum_cohort=3)


class Careless(Watched):
    """A participant that confirms and unmasks whatever it is asked, as often as it is asked."""

    def confirm(self, survivors: Survivors) -> Confirmation:
        """Sign any list."""
        self._survivors = survivors.names
        return Confirmation(signature=self._signer.sign(self._view()))

    def unmask(self, confirmations: Confirmations) -> Unmasking:
        """Give the shares that the last list asks for."""
        alive = set(self._survivors)
        keys = {peer: share for peer, share in self.stolen["keys"].items() if peer not in alive}
        seeds = {peer: self.stolen["seeds"][peer] for peer in alive}
        return Unmasking(seeds=seeds, keys=keys, signature=b"")


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_refused_and_reveals_nothing(world: World, name: str) -> None:
    """Each of the attacks several times, with other sides and victims."""
    rng = random.Random(name)
    verdicts = [Adversary(world, rng).run(ATTACKS[name]) for _ in range(6)]
    assert not any(verdict.revealed for verdict in verdicts)
    assert all(verdict.refusals > 0 for verdict in verdicts)


def test_an_honest_round_lets_the_coordinator_work_out_the_whole_sum_alone(world: World) -> None:
    """The judge is able to: it finds the sum of all honest participants, and nobody refuses."""
    adversary = Adversary(world, random.Random(2))
    verdict = adversary.run(None)
    assert verdict.groups == (frozenset(adversary.honest),)
    assert (verdict.refusals, verdict.revealed) == (0, False)


@pytest.mark.parametrize("name", ["both shares of one participant", "survivors below the minimum"])
def test_the_judge_sees_what_careless_participants_give_away(world: World, name: str) -> None:
    """Without the participants' checks the same attacks reveal inputs; overlapping lists the threshold bars alone."""
    rng = random.Random(5)
    verdicts = [Adversary(world, rng, Careless).run(ATTACKS[name]) for _ in range(10)]
    assert any(verdict.revealed for verdict in verdicts)


def test_a_sample_of_adversarial_runs_reveals_nothing() -> None:
    """All attacks in turn, as in the long run."""
    found = adversarial_runs(2 * len(ATTACKS))
    assert (found.revealed, found.unnoticed) == (0, 0)
    assert found.refusals >= found.runs
    assert [row.met for row in attack_rows(found)] == [True, True, None]
