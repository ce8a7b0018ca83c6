"""A federation as real processes, from its description to a ranking and back into the next round."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from small_federation import FIRST, MERCHANTS, SHOPPER, World, alive, bought, federation, fedrank

from client.ranking import RankingClient, RankingError
from client.ranking_connection import ClientTls
from client.ranking_words import Question, Surface
from server.registry import Registry

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A federation with the defaults: secure aggregation, noise in shares; no process outlives it."""
    with federation(tmp_path_factory.mktemp("private"), words={}) as running:
        yield running
        ended = running.started.all()
        assert len(ended) >= 10
    assert not alive(ended)


@pytest.fixture(scope="module")
def version(world: World) -> str:
    """The version of one run."""
    run = json.loads(fedrank("federation", "run", str(world.kits.coordinator), "--json"))
    return str(run["version"])


def test_a_run_gives_every_merchant_the_version_that_the_coordinator_has_signed(
    world: World, version: str
) -> None:
    """Rounds under masks with everybody's noise; `fedrank federation status` tells of them."""
    found = json.loads(fedrank("federation", "status", str(world.kits.coordinator), "--json"))
    assert found["run"]["state"] == "finished"
    assert found["newest"] == version
    assert [one["stage"] for one in found["rounds"]][-3:] == ["gradient"] * 3
    assert all(one["cohort"] == list(MERCHANTS) and not one["refused"] for one in found["rounds"])
    assert found["nodes"] == dict.fromkeys(MERCHANTS, True)
    assert 0 < found["budget"]["spent_epsilon"] <= found["budget"]["epsilon"]
    for name in MERCHANTS:
        registry = Registry(world.merchant(name).data / "registry")
        assert registry.versions() == [version]
        assert registry.signer(version)
        privacy = registry.card(version)["privacy"]
        assert privacy["trust"] == "distributed"


def test_a_promoted_version_ranks_over_mutual_tls_and_feedback_lands_encrypted(
    world: World, version: str
) -> None:
    """The endpoint runs by the words of its kit's unit; a caller without a certificate gets nothing."""
    data = str(world.merchant(FIRST).data)
    fedrank("promote", version, "--run", data)
    before = world.events(FIRST)
    with world.serving(FIRST) as client:
        ranking = client.rank(Question(surface=Surface.HOME, shopper=SHOPPER, k=5))
        assert ranking.model_version == version
        assert {item.merchant_id for item in ranking.items} == {FIRST}
        done = client.record([bought("event-1")])
        assert (done.acknowledged, done.unknown_items) == (1, 0)
        authority = (world.kits.callers(FIRST) / "ca.pem").read_bytes()
        with (
            RankingClient(world.endpoint, tls=ClientTls(authority=authority)) as stranger,
            pytest.raises(RankingError),
        ):
            stranger.rank(Question(surface=Surface.HOME))
    assert world.events(FIRST) == before + 1
    stored = world.stored(FIRST)
    assert not [
        word
        for word in (SHOPPER, bought("event-1").item_id, "purchase", "event-1")
        if word.encode() in stored
    ]
