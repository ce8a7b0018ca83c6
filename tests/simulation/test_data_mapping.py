"""Mappings: TOML files, flags, and the ready ones of known sets."""

import gzip
from pathlib import Path

import pytest

from simulation.data import Clock, Mapping, MerchantRule, MerchantsBy, find_mapping, load, loading
from simulation.data.errors import MappingError, MissingColumn, UnreadableFile
from simulation.data.mapping import FileFormat, TimestampFormat
from simulation.data.mapping_file import read_mapping
from simulation.data.ready import ready_mapping, ready_names

WHOLE = """
name = "my-shop"
label = "real"
source = "our own shop, no licence"
clock = "days"
timestamp_format = "iso"
default_kind = "view"
test_kind = "purchase"
basket_kinds = ["view", "purchase", "view"]
[files]
events = "orders.csv"
items = "stock.csv"
users = "people.csv"
test = "later.csv"
format = "table"
[columns]
user_id = "customer"
[item_columns]
title = "label"
[user_columns]
user_id = "customer"
[kinds]
Basket = "add_to_cart"
[merchants]
attribute = "brand"
minimum_items = 5
small_groups = 3
[filters]
min_items_per_user = 2
min_users_per_item = 4
"""


def _toml(folder: Path, text: str) -> Path:
    path = folder / "fedrank-data.toml"
    path.write_text(text)
    return path


def test_every_key_of_a_mapping_file_is_read(tmp_path: Path) -> None:
    """The TOML file and the dataclass say the same."""
    assert read_mapping(_toml(tmp_path, WHOLE)) == Mapping(
        name="my-shop",
        label="real",
        source="our own shop, no licence",
        clock=Clock.DAYS,
        timestamp_format=TimestampFormat.ISO,
        file_format=FileFormat.TABLE,
        events_file="orders.csv",
        items_file="stock.csv",
        users_file="people.csv",
        test_file="later.csv",
        columns={"user_id": "customer"},
        item_columns={"title": "label"},
        user_columns={"user_id": "customer"},
        kinds={"Basket": "add_to_cart"},
        default_kind="view",
        test_kind="purchase",
        basket_kinds=("view", "purchase"),
        merchants=MerchantRule(by=MerchantsBy.ATTRIBUTE, name="brand", minimum_items=5, small_groups=3),
        min_items_per_user=2,
        min_users_per_item=4,
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('colums = "x"', "unknown key 'colums' in the mapping; known keys: name, label"),
        (
            '[columns]\ncustomer = "user_id"',
            "unknown key 'customer' in columns; known keys: user_id, item_id",
        ),
        ('[files]\nevent = "x.csv"', r"unknown key 'event' in \[files\]; known keys: events, items"),
        ('[item_columns]\nname = "x"', "unknown key 'name' in item_columns; known keys: item_id, title"),
        ('[merchants]\nbrand = "x"', r"unknown key 'brand' in \[merchants\]; known keys: column, attribute"),
        ("[filters]\nmin = 3", r"unknown key 'min' in \[filters\]"),
        ('[kinds]\nbasket = "basket"', "kinds: 'basket' is not known; choose one of: view"),
        ('label = "true"', "label: 'true' is not known; choose one of: real"),
        ('clock = "hours"', "clock: 'hours' is not known; choose one of: seconds, days, order, none"),
        ('default_kind = "buy"', "default_kind: 'buy' is not known"),
        ('[files]\nevents = "../secret.csv"', "leaves the data folder"),
        ('[files]\nevents = "/etc/passwd"', "leaves the data folder"),
        ('[merchants]\nattribute = "brand"\nhash = 5', "attribute and hash; keep one"),
        ("[merchants]\nhash = 0", "hashed_into is 0, it must be 1 or more"),
        ("[merchants]\nhash = true", "'hash' must be a whole number"),
        ("[filters]\nmin_items_per_user = -1", "min_items_per_user is -1"),
        ('basket_kinds = ["buy"]', "basket_kinds: 'buy' is not known; choose one of: view"),
        ('basket_kinds = "purchase"', "'basket_kinds' must be a list"),
        ("basket_kinds = [3]", "'basket_kinds' must be a text"),
        ("name = 3", "'name' must be a text"),
        ("columns = 3", r"write \[columns\]"),
    ],
)
def test_a_wrong_mapping_is_refused_with_what_would_be_right(tmp_path: Path, text: str, words: str) -> None:
    """The message names the file, the key, the value and the choices."""
    with pytest.raises(MappingError, match=rf"fedrank-data\.toml: .*{words}"):
        read_mapping(_toml(tmp_path, text))


def test_a_file_that_is_not_toml_is_refused(tmp_path: Path) -> None:
    """Also one that is not there."""
    with pytest.raises(UnreadableFile, match="not TOML"):
        read_mapping(_toml(tmp_path, "name = "))
    with pytest.raises(UnreadableFile, match=r"none\.toml cannot be read"):
        read_mapping(tmp_path / "none.toml")


def test_a_mapping_beside_the_data_is_used_and_flags_refine_it(tmp_path: Path) -> None:
    """Columns by TOML, then by flag; kinds by their own words, whatever the case."""
    (tmp_path / "orders.csv").write_text("customer,sku,what,when,cost\nc1,s1,Basket,1600000000,2\n")
    (tmp_path / "stock.csv").write_text("sku,label\ns1,a spoon\n")
    _toml(
        tmp_path,
        '[files]\nevents="orders.csv"\nitems="stock.csv"\n[columns]\nuser_id="customer"\nkind="what"\n'
        '[kinds]\nbasket="add_to_cart"\n',
    )
    flags = ["item_id=sku", "timestamp=when", "price=cost", "items.item_id=sku", "items.title=label"]
    data = load(tmp_path, mapping=find_mapping(tmp_path, columns=flags))
    assert data.events.select("user_id", "item_id", "kind", "timestamp", "price").rows() == [
        ("c1", "s1", "add_to_cart", 1600000000, 2.0)
    ]
    assert data.items.select("item_id", "title").rows() == [("s1", "a spoon")]


def test_an_explicit_mapping_file_goes_before_the_one_beside_the_data(tmp_path: Path) -> None:
    """`--mapping FILE` wins."""
    _toml(tmp_path, 'name = "beside"')
    other = tmp_path / "other.toml"
    other.write_text('name = "explicit"')
    assert find_mapping(tmp_path, file=other).name == "explicit"
    assert find_mapping(tmp_path).name == "beside"


@pytest.mark.parametrize("flag", ["user_id", "user_id=", "shops.user_id=a", "=a", "customer=user_id"])
def test_a_wrong_column_flag_is_refused(flag: str) -> None:
    """A flag is field=column of a known table."""
    with pytest.raises(MappingError):
        Mapping().with_columns([flag])


def test_a_mapped_column_that_is_absent_is_named(tmp_path: Path) -> None:
    """A typing error in a mapping does not fall back to guessing."""
    (tmp_path / "events.csv").write_text("user_id,item_id\nu,i\n")
    with pytest.raises(MissingColumn, match=r"column 'custmer' \(mapped to user_id\).*user_id, item_id"):
        load(tmp_path, mapping=Mapping(columns={"user_id": "custmer"}))
    (tmp_path / "items.csv").write_text("item_id,title\ni,x\n")
    with pytest.raises(MissingColumn, match=r"--column items\.brand=NAME"):
        load(tmp_path, mapping=Mapping(item_columns={"brand": "maker"}))


def test_a_named_file_that_is_absent_is_named(tmp_path: Path) -> None:
    """[files] must name files that exist."""
    (tmp_path / "events.csv").write_text("user_id,item_id\nu,i\n")
    with pytest.raises(UnreadableFile, match=r"no file 'stock\.csv'"):
        load(tmp_path, mapping=Mapping(items_file="stock.csv"))


def test_a_clock_of_none_drops_the_time(tmp_path: Path) -> None:
    """A time that is known to be meaningless (a crawl date) can be switched off."""
    (tmp_path / "events.csv").write_text("user_id,item_id,timestamp\nu,i,rubbish\n")
    data = load(tmp_path, mapping=Mapping(clock=Clock.NONE))
    assert (data.clock, data.events["timestamp"].to_list()) == (Clock.NONE, [0])


def test_all_ready_mappings_parse_and_carry_a_source() -> None:
    """One file per set, named as the set; every one states label and source."""
    assert ready_names() == [
        "amazon-video-pfedrec",
        "amazon18-industrial",
        "ml-100k",
        "ml-1m-lcfn",
        "online-retail",
        "retailrocket-mb",
    ]


@pytest.mark.parametrize("name", ready_names())
def test_a_folder_of_a_known_name_with_other_content_is_read_by_its_own_columns(
    tmp_path: Path, name: str
) -> None:
    """The name alone chooses nothing: files and columns must fit too."""
    folder = tmp_path / name
    folder.mkdir()
    (folder / "events.csv").write_text("user_id,item_id,kind,timestamp\nu,i,view,1600000000\n")
    assert ready_mapping(folder) is None
    assert load(folder).label == "user-supplied"
    for file in ("events.csv.gz", "ratings.csv.gz", "items.csv.gz", "users.csv.gz", "test_buy.csv.gz"):
        (folder / file).write_text("user_id,item_id\nu,i\n")
    (folder / "train.txt.gz").write_bytes(b"not gzip")
    (folder / "test.txt.gz").write_bytes(b"not gzip")
    assert ready_mapping(folder) is None


def test_a_folder_of_a_known_name_and_columns_takes_the_ready_mapping(tmp_path: Path) -> None:
    """Columns and kinds of the set are understood without any flag."""
    folder = tmp_path / "retailrocket-mb"
    folder.mkdir()
    (folder / "events.csv.gz").write_bytes(gzip.compress(b"user,item,kind,ts\n1,7,cart,1430623535\n"))
    (folder / "test_buy.csv.gz").write_bytes(gzip.compress(b"user,item\n1,8\n"))
    data = load(folder)
    assert (data.name, data.label, data.clock) == ("retailrocket-mb", "real", Clock.SECONDS)
    assert data.events["kind"].to_list() == ["add_to_cart"]
    assert data.given_test is not None and data.given_test["kind"].to_list() == ["purchase"]
    assert "CC BY-NC-SA" in data.source


@pytest.mark.parametrize(
    ("words", "columns", "kinds"),
    [
        ("", "user_id,item_id,kind,timestamp", ("add_to_cart", "purchase")),
        ('basket_kinds = ["view"]', "user_id,item_id,kind,timestamp", ("view",)),
        ("basket_kinds = []", "user_id,item_id,kind,timestamp", ()),
        ("", "user_id,item_id,price,timestamp", ("view",)),
        ("", "user_id,item_id,rating,timestamp", ()),
        ('default_kind = "purchase"', "user_id,item_id,price,timestamp", ("purchase",)),
        ('default_kind = "dismiss"', "user_id,item_id,price,timestamp", ()),
    ],
)
def test_what_makes_a_basket_is_told_by_mapping_and_columns_alone(
    tmp_path: Path, words: str, columns: str, kinds: tuple[str, ...]
) -> None:
    """A run publishes it, so no row may change it."""
    _toml(tmp_path, words)
    value = "{}" if "kind" in columns else "3"
    for odd in ("view", "purchase", "rating"):
        rows = [f"u{n},i{n},{value.format(kind)},170000000{n}" for n, kind in enumerate(("view", odd))]
        (tmp_path / "events.csv").write_text("\n".join([columns, *rows]) + "\n")
        assert load(tmp_path).basket_kinds == kinds


def test_ready_mappings_say_what_makes_a_basket() -> None:
    """Ratings make none; shops name what they record."""
    folder = Path(loading.__file__).parent / "mappings"
    named = {name: read_mapping(folder / f"{name}.toml").basket_kinds for name in ready_names()}
    assert named == {
        "amazon-video-pfedrec": (),
        "amazon18-industrial": (),
        "ml-100k": (),
        "ml-1m-lcfn": (),
        "online-retail": ("purchase",),
        "retailrocket-mb": ("add_to_cart", "purchase"),
    }
