"""Merchants by column, by attribute and by hash; no item is ever without one."""

from collections import Counter
from hashlib import blake2b
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulation.data import Dataset, Mapping, MerchantRule, MerchantsBy, load
from simulation.data.errors import MappingError, MissingColumn
from simulation.data.merchants import by_attribute, hashed, stable_bucket


def _load(folder: Path, events: str, items: str | None = None, rule: MerchantRule | None = None) -> Dataset:
    (folder / "events.csv").write_text(events)
    if items is not None:
        (folder / "items.csv").write_text(items)
    return load(folder, mapping=Mapping(merchants=rule or MerchantRule()))


def test_a_merchant_column_of_the_events_is_used_and_items_take_the_commonest(tmp_path: Path) -> None:
    """Two merchants may sell one item; the event keeps its own merchant."""
    data = _load(tmp_path, "user_id,item_id,merchant_id\nu,a,m1\nv,a,m2\nw,a,m2\nw,b,m1\n")
    assert data.events["merchant_id"].to_list() == ["m1", "m2", "m2", "m1"]
    assert data.items.select("item_id", "merchant_id").rows() == [("a", "m2"), ("b", "m1")]
    assert data.merchants_from == "column merchant_id"


def test_an_event_without_its_merchant_is_rejected(tmp_path: Path) -> None:
    """Where events name their merchant, each of them must."""
    data = _load(tmp_path, "user_id,item_id,merchant_id\nu,a,m1\nv,b,\n")
    assert (data.rejected_rows, data.items["item_id"].to_list()) == (1, ["a"])


def test_a_merchant_column_of_the_items_is_used_and_orphans_are_grouped(tmp_path: Path) -> None:
    """An item without a merchant (or outside the table) joins the small merchants, and the report says so."""
    data = _load(tmp_path, "user_id,item_id\nu,a\nu,b\nu,c\n", "item_id,merchant_id\na,m1\nb,\n")
    assert data.items["merchant_id"].to_list() == ["m1", "small-merchants-1", "small-merchants-1"]
    assert data.events["merchant_id"].to_list() == ["m1", "small-merchants-1", "small-merchants-1"]
    assert data.merchants_from == "column merchant_id (2 items without one in 1 groups)"


@pytest.mark.parametrize("where", ["events", "items"])
def test_a_named_column_is_found_in_events_or_items(tmp_path: Path, where: str) -> None:
    """The rule names the file's own column."""
    rule = MerchantRule(by=MerchantsBy.COLUMN, name="seller")
    if where == "events":
        data = _load(tmp_path, "user_id,item_id,seller,merchant_id\nu,a,s1,x\n", None, rule)
    else:
        data = _load(tmp_path, "user_id,item_id,merchant_id\nu,a,x\n", "item_id,seller\na,s1\n", rule)
    assert data.events["merchant_id"].to_list() == ["s1"]
    assert data.merchants_from == "column seller"


def test_a_named_column_or_attribute_that_is_absent_is_an_error(tmp_path: Path) -> None:
    """It must not fall back to hashing."""
    for by in (MerchantsBy.COLUMN, MerchantsBy.ATTRIBUTE):
        rule = MerchantRule(by=by, name="seller")
        with pytest.raises(MissingColumn, match="seller"):
            _load(tmp_path, "user_id,item_id\nu,a\n", None, rule)
        with pytest.raises(MissingColumn, match="seller"):
            _load(tmp_path, "user_id,item_id\nu,a\n", "item_id,title\na,x\n", rule)
        (tmp_path / "items.csv").unlink()
    with pytest.raises(MappingError, match="name of the column"):
        MerchantRule(by=MerchantsBy.COLUMN)


def test_an_attribute_makes_merchants_of_its_big_values_only(tmp_path: Path) -> None:
    """Rare brands share a group and stay whole; items without a brand are grouped too."""
    brands = {"i1": "Big", "i2": "Big", "i3": "Big", "i4": "Rare", "i5": "Rare", "i6": ""}
    items = "item_id,brand\n" + "".join(f"{item},{brand}\n" for item, brand in brands.items())
    rule = MerchantRule(by=MerchantsBy.ATTRIBUTE, name="brand", minimum_items=3, small_groups=10)
    data = _load(tmp_path, "user_id,item_id,merchant_id\nu,i1,ignored\nu,elsewhere,ignored\n", items, rule)
    owner = dict(data.items.select("item_id", "merchant_id").rows())
    assert {owner[item] for item in ("i1", "i2", "i3")} == {"Big"}
    assert {owner[item] for item in ("i4", "i5", "i6", "elsewhere")} == {"small-merchants-1"}
    assert data.merchants_from == "item attribute brand (>= 3 items; the rest in 1 groups)"
    assert data.events["merchant_id"].to_list() == ["Big", "small-merchants-1"]


def test_an_attribute_that_all_items_have_often_needs_no_groups() -> None:
    """The words for the report then name none."""
    values = pl.DataFrame({"item_id": ["a", "b"], "value": ["m", "m"]})
    frame, words = by_attribute(values, MerchantRule(by=MerchantsBy.ATTRIBUTE, name="brand", minimum_items=2))
    assert frame["merchant_id"].to_list() == ["m", "m"]
    assert words == "item attribute brand (>= 2 items)"


def test_without_any_rule_items_are_hashed_into_twenty_merchants(tmp_path: Path) -> None:
    """All events of an item go to one merchant; the shares are near even."""
    events = "user_id,item_id\n" + "".join(f"u,{i}\nv,{i}\n" for i in range(2000))
    data = _load(tmp_path, events)
    sizes = Counter(data.items["merchant_id"])
    assert len(sizes) == 20
    assert min(sizes.values()) > 50 and max(sizes.values()) < 160  # mean 100, sd 9.7: six sd
    assert data.merchants_from == "items hashed into 20 merchants"
    assert data.events.group_by("item_id").agg(pl.col("merchant_id").n_unique())["merchant_id"].max() == 1


def test_the_hash_is_blake2b_and_so_the_same_everywhere() -> None:
    """Python's own hash differs between processes; this one is pinned to its definition."""
    digest = blake2b("löffel".encode(), digest_size=8, person=b"merchants").digest()
    assert stable_bucket("löffel", 20) == int.from_bytes(digest, "big") % 20
    frame, _ = hashed(pl.Series(["löffel"]), MerchantRule(by=MerchantsBy.HASH, hashed_into=20))
    assert frame["merchant_id"].to_list() == [f"merchant-{stable_bucket('löffel', 20) + 1:02}"]


_VALUES = st.lists(
    st.one_of(st.none(), st.integers(0, 30).map(lambda n: f"brand{n}")), min_size=1, max_size=200
)


@settings(max_examples=100, deadline=None)
@given(values=_VALUES, minimum=st.integers(1, 12), groups=st.integers(1, 6))
def test_grouping_drops_no_item_and_keeps_groups_of_comparable_size(
    values: list[str | None], minimum: int, groups: int
) -> None:
    """Every item has one merchant, a value is never torn, and groups differ by less than one small value."""
    frame = pl.DataFrame(
        {"item_id": [f"i{n}" for n in range(len(values))], "value": values}, schema_overrides=_TYPES
    )
    rule = MerchantRule(by=MerchantsBy.ATTRIBUTE, name="brand", minimum_items=minimum, small_groups=groups)
    owned, _ = by_attribute(frame, rule)
    owner = dict(owned.rows())
    assert sorted(owner) == sorted(frame["item_id"])
    counts = Counter(value for value in values if value is not None)
    for value, count in counts.items():
        owners = {owner[item] for item, other in frame.rows() if other == value}
        assert len(owners) == 1
        assert (owners == {value}) == (count >= minimum)
    small = Counter(name for name in owner.values() if name.startswith("small-merchants-"))
    largest = max([count for count in counts.values() if count < minimum], default=1)
    assert len(small) <= groups
    if small:
        assert max(small.values()) - min(small.values()) <= largest


_TYPES: dict[str, type[pl.DataType]] = {"item_id": pl.String, "value": pl.String}
