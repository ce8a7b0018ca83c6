"""What a federation file may say: the model of it, and a refusal that names the word for everything else."""

from __future__ import annotations

from pathlib import Path

import pytest
from federations import TEXT, federation

from deploy.errors import FederationFileError
from deploy.federation_model import SETTINGS, Address, KeysMadeBy
from privacy.plan import Trust
from server.coordination.config import FederationConfig


def test_a_federation_file_becomes_the_typed_model(tmp_path: Path) -> None:
    """Words, defaults, merchants in their order, and catalogues beside the file."""
    read = federation(tmp_path)
    assert (read.name, read.coordinator, read.rounds) == (
        "spring",
        Address(host="hub.shops.example", port=9092),
        3,
    )
    assert (read.trust, read.secure_aggregation, read.epsilon) == (Trust.DISTRIBUTED, True, 8.0)
    assert [merchant.id for merchant in read.merchants] == ["north", "south"]
    assert read.merchant("north").catalogue == tmp_path / "north.csv"
    assert read.merchant("south").keys is KeysMadeBy.OPERATOR
    assert read.shoppers == 1500
    assert read.settings == {"dim": 16, "clock": "seconds"}


@pytest.mark.parametrize(
    ("before", "after", "named"),
    [
        ('id = "south"', 'id = "north"', "'north' stands there more than once"),
        ('id = "south"', 'id = "North"', "more than once"),
        ('id = "south"', 'id = "coordinator"', "'coordinator'"),
        ('id = "south"', 'id = "so/uth"', "'so/uth'"),
        ('id = "south"', 'id = "../south"', "'../south'"),
        (
            "minimum_cohort = 2",
            "minimum_cohort = 3",
            "minimum_cohort is 3; it must be 2 to 2 (the federation has 2",
        ),
        ("minimum_cohort = 2", "minimum_cohort = 1", "minimum_cohort is 1"),
        (
            "hub.shops.example:9092",
            "hub.shops.example",
            "coordinator of the federation is 'hub.shops.example'",
        ),
        ("hub.shops.example:9092", "hub:70000", "'hub:70000'"),
        ("hub.shops.example:9092", "https://hub:9092", "'https://hub:9092'"),
        ("rank.north.example:8443", ":8443", "serving of merchant 'north' is ':8443'"),
        ("epsilon = 8", "epsilon = 0", "epsilon is 0.0"),
        ("epsilon = 8", "epsilon = nan", "epsilon is nan"),
        ("epsilon = 8", 'epsilon = "8"', "epsilon of the federation is '8'; it must be a number"),
        ("epsilon = 8", "", "lacks epsilon"),
        ("rounds = 3", "round = 3", "'round', which means nothing"),
        ("rounds = 3", "rounds = 3.5", "rounds of the federation is 3.5; it must be a whole number"),
        ("rounds = 3", 'rounds = 3\ntrust = "blind"', "'blind'; use one of distributed"),
        ("rounds = 3", "rounds = 3\nsecure_aggregation = false", "secure_aggregation is false"),
        ("shoppers = 300", "shoppers = 0", "shoppers of merchant 'south' is 0"),
        ("shoppers = 300", 'shoppers = 300\nkeys = "cloud"', "keys of merchant 'south' is 'cloud'"),
        ("domain = ", "contact = 7\ndomain = ", "contact of the federation is 7; it must be a text"),
        ('shops.example"\ncoord', 'Shops Example"\ncoord', "'Shops Example'"),
        ('name = "spring"', 'name = "the spring"', "'the spring'"),
        ("dim = 16", "registry = '/srv'", "settings has a word 'registry'"),
        ("dim = 16", "noise-seed = 7", "settings has a word 'noise-seed'"),
        ("dim = 16", "dim = 1.5", "dim of settings is 1.5"),
        ("dim = 16", "dim = [16]", "dim of settings is [16]"),
        ("[[merchants]]", "[merchants]", "cannot be read as TOML"),
    ],
)
def test_what_no_federation_can_have_is_refused_by_name(
    tmp_path: Path, before: str, after: str, named: str
) -> None:
    """The message names the file, the word, its value and the bound."""
    assert before in TEXT
    with pytest.raises(FederationFileError) as refused:
        federation(tmp_path, TEXT.replace(before, after))
    assert named in str(refused.value)
    assert "federation.toml" in str(refused.value)


@pytest.mark.parametrize("text", ["hub:9092", "10.0.0.7:1", "[::1]:65535", "hub-1.shops.example:443"])
def test_an_address_is_written_as_it_is_read(text: str) -> None:
    """Names, IPv4 and IPv6."""
    assert str(Address.read(text, "it")) == text


def test_the_words_that_a_federation_may_fix_are_words_of_a_run() -> None:
    """Each is a word of the coordinator's configuration, of the same type or a text that becomes it."""
    run = {name.replace("_", "-"): kind for name, kind in FederationConfig.__annotations__.items()}
    for word, default in SETTINGS.items():
        assert run[word] == type(default).__name__ or isinstance(default, str)


def test_a_whole_number_is_a_number_among_the_settings_too(tmp_path: Path) -> None:
    """A deadline of 60 seconds may be written without a point; what is no number is refused in plain words."""
    text = TEXT.replace("dim = 16", "dim = 16\ntimeout = 60")
    assert federation(tmp_path, text).settings["timeout"] == 60.0
    with pytest.raises(FederationFileError, match="timeout of settings is 'soon'; it must be a number"):
        federation(tmp_path, text.replace("= 60", '= "soon"'))
