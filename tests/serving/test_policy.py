"""The knobs of a surface: what a policy file may say, and how it is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from server.errors import PolicyError
from server.serving.policy import OFF, Policy, SurfacePolicy, read_policy
from server.serving.query import Surface

EVERY_KNOB = """
[home]
diversity = 0.3
category_quota = 4
merchant_quota = 3
long_tail_share = 0.2
fresh_share = 0.1
fairness = 0.5
exploration_share = 0.05

[new_arrivals]
"""


def test_every_knob_is_off_but_the_floor_of_new_arrivals() -> None:
    """Without a policy only new arrivals promise a place to fresh items."""
    policy = Policy()
    assert all(policy.of(s).is_off for s in Surface if s is not Surface.NEW_ARRIVALS)
    assert policy.of(Surface.NEW_ARRIVALS) == SurfacePolicy(fresh_share=0.2)


def test_a_policy_file_sets_the_knobs_of_the_surfaces_it_names(tmp_path: Path) -> None:
    """Every knob is read; an empty table turns a default off; the others keep theirs."""
    (tmp_path / "policy.toml").write_text(EVERY_KNOB)
    policy = read_policy(tmp_path / "policy.toml")
    assert policy.of(Surface.HOME) == SurfacePolicy(
        diversity=0.3,
        category_quota=4,
        merchant_quota=3,
        long_tail_share=0.2,
        fresh_share=0.1,
        fairness=0.5,
        exploration_share=0.05,
    )
    assert policy.of(Surface.NEW_ARRIVALS) == policy.of(Surface.CART) == OFF


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[hom]\ndiversity = 0.1", r"\[hom\] is no surface; use home"),
        ("[home]\ndiversty = 0.1", r"\[home\] has no knob diversty; the knobs are diversity"),
        ("[home]\ndiversity = 1.1", r"\[home\] diversity is 1.1; use a number from 0 \(off\) to 1"),
        ("[cart]\nfairness = true", r"\[cart\] fairness is True"),
        ("[cart]\nfairness = nan", r"\[cart\] fairness is nan"),
        ("[cart]\nexploration_share = 0.6", "exploration_share is 0.6; use a number from 0 .off. to 0.5"),
        ("[home]\nmerchant_quota = 0", "merchant_quota is 0; use a whole number of at least 1"),
        ("[home]\ncategory_quota = 2.0", "category_quota is 2.0; use a whole number"),
        ("[home]\nlong_tail_share = 0.6\nfresh_share = 0.6", "together they may be at most 1"),
        ("home = 3", "home is 3; make it a table"),
        ("[home", "is no TOML"),
    ],
)
def test_a_policy_that_no_list_can_obey_is_refused_with_the_reason(
    tmp_path: Path, text: str, words: str
) -> None:
    """The file, the surface, the knob, the value and the bound are named."""
    (tmp_path / "policy.toml").write_text(text)
    with pytest.raises(PolicyError, match=words) as refusal:
        read_policy(tmp_path / "policy.toml")
    assert "policy.toml" in str(refusal.value)


def test_a_policy_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """Unlike promotions, a policy is named by a person and has to be there."""
    with pytest.raises(PolicyError, match="cannot be read"):
        read_policy(tmp_path / "none.toml")


@pytest.mark.parametrize("knob", ["diversity", "category_quota", "merchant_quota", "fairness"])
def test_a_knob_that_is_on_makes_the_list_anew(knob: str) -> None:
    """The quick way is for policies that have everything off."""
    knobs: dict[str, Any] = {knob: 1}
    assert SurfacePolicy(**knobs).reorders
    assert not SurfacePolicy(exploration_share=0.1).reorders
    assert not SurfacePolicy(exploration_share=0.1).is_off
