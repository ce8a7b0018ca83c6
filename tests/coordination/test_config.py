"""The run configuration is Flower's flat words, checked once."""

from __future__ import annotations

import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from run_words import WORDS, config

from fedrank.exits import USAGE, exit_code
from privacy.plan import Stage, Trust
from server.coordination.config import LOCAL_STEPS, ConfigError, FederationConfig, Participants

ROOT = Path(__file__).resolve().parents[2]


def test_words_become_types() -> None:
    """Enums, paths and numbers are read from plain words; what Flower adds beside them is left alone."""
    words = {**WORDS, "population": "/x", "participants": "both", "trust": "local"}
    read = FederationConfig.from_run_config(words)
    assert read.participants is Participants.BOTH
    assert read.trust is Trust.LOCAL
    assert read.registry == Path("/x/registry")
    assert (read.epsilon, type(read.epsilon)) == (8.0, float)


@pytest.mark.parametrize("word", list(WORDS))
def test_a_missing_word_is_named_with_the_next_step(word: str) -> None:
    """Without any one of its words there is no run."""
    words = {key: value for key, value in WORDS.items() if key != word}
    with pytest.raises(ConfigError, match=f"lacks '{word}'.*--run-config"):
        FederationConfig.from_run_config(words)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"rounds": -1}, "rounds is -1; it must be at least 0"),
        ({"rounds": "many"}, "rounds is 'many'; it must be a int"),
        ({"shoppers": 1}, "shoppers is 1"),
        ({"merchants": 0}, "merchants is 0"),
        ({"minimum_cohort": 0}, "minimum-cohort is 0"),
        ({"dim": 0}, "dim is 0"),
        ({"trust": "blind"}, "trust is 'blind'"),
        ({"participants": "bots"}, "participants is 'bots'"),
        ({"linkage": "yes"}, "linkage is 'yes'; it must be true or false"),
    ],
)
def test_a_word_out_of_range_is_refused(change: dict[str, Any], reason: str) -> None:
    """The word, its value and the bound are in the message; the command calls it wrong usage."""
    with pytest.raises(ConfigError, match=reason) as refusal:
        config(**change)
    assert exit_code(refusal.value) == USAGE


def test_local_steps_are_priced_one_by_one() -> None:
    """Under local trust each DP-SGD step of a round is a release of its own."""
    assert config(trust="local", rounds=3).releases[Stage.GRADIENT] == 3 * LOCAL_STEPS
    assert config(trust="central", rounds=3).releases[Stage.GRADIENT] == 3
    assert config().releases[Stage.LINKAGE] == 0
    assert config(linkage=True).releases[Stage.LINKAGE] == 1


def test_the_flower_app_declares_every_word_of_a_run() -> None:
    """`flwr run . --run-config` may override only declared words, so pyproject.toml declares all of them."""
    table = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["flwr"]["app"]
    wanted = {field.name.replace("_", "-") for field in fields(FederationConfig)} | {"population"}
    assert set(table["config"]) == wanted
    assert table["config"]["trust"] == "distributed"
    assert table["components"] == {
        "serverapp": "server.coordination.app:app",
        "clientapp": "client.app:app",
    }


def test_the_declared_defaults_name_no_data_and_start_nothing() -> None:
    """Without words of one's own the number of shoppers is refused before anything is asked."""
    table = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["flwr"]["app"]["config"]
    with pytest.raises(ConfigError, match="shoppers is 0"):
        FederationConfig.from_run_config(table)


def test_an_unknown_loss_or_user_tower_is_named() -> None:
    """A typing error is found before anything is asked of anybody."""
    with pytest.raises(ConfigError, match="loss is 'hinge'"):
        config(loss="hinge")
    with pytest.raises(ConfigError, match="user-tower is 'gru'"):
        config(user_tower="gru")
