"""Every input layout becomes the same validated `Dataset`."""

import gzip
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simulation.data import Clock, DataError, Mapping, load
from simulation.data.dataset import EVENT_SCHEMA, ITEM_SCHEMA
from simulation.data.errors import MissingColumn, UnknownLayout, UnreadableFile
from simulation.data.mapping import FileFormat

OWN = """user_id,item_id,kind,timestamp,quantity,price,ranking_id
u2,b,view,1600000300,,,
u1,a,purchase,1600000200,2,9.5,r7
u1,b,cart,1600000100,1,3.0,
"""


def _put(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    data = text.encode()
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


@pytest.mark.parametrize("name", ["events.csv", "events.csv.gz", "whatever.csv"])
def test_own_layout_is_read_from_a_folder_and_from_a_file(tmp_path: Path, name: str) -> None:
    """Plain and compressed files, by folder or by file, give one result in the promised schema."""
    path = _put(tmp_path, name, OWN)
    for source in (path, tmp_path):
        data = load(source)
        assert dict(data.events.schema) == {column: kind() for column, kind in EVENT_SCHEMA.items()}
        assert dict(data.items.schema) == {column: kind() for column, kind in ITEM_SCHEMA.items()}
        rows = data.events.select(
            "user_id", "item_id", "kind", "timestamp", "quantity", "price", "ranking_id"
        ).rows()
        assert rows == [
            ("u1", "b", "add_to_cart", 1600000100, 1.0, 3.0, None),
            ("u1", "a", "purchase", 1600000200, 2.0, 9.5, "r7"),
            ("u2", "b", "view", 1600000300, None, None, None),
        ]
        assert data.clock is Clock.SECONDS
        assert data.label == "user-supplied"
        assert (data.rejected_rows, data.users, data.given_test) == (0, None, None)


def test_parquet_with_typed_columns_gives_what_csv_gives(tmp_path: Path) -> None:
    """Integers, date-times and NaN in Parquet mean what the same text means in CSV."""
    frame = pl.read_csv(_put(tmp_path, "a.csv", OWN), schema_overrides={"user_id": pl.String})
    typed = frame.with_columns(
        pl.from_epoch("timestamp").dt.replace_time_zone("Asia/Tokyo", ambiguous="raise").alias("timestamp"),
        pl.col("price").fill_null(float("nan")),
    )
    shifted = typed.with_columns(pl.col("timestamp") + pl.duration(hours=9))
    shifted.write_parquet(tmp_path / "events.parquet")
    assert load(tmp_path / "events.parquet").events.equals(load(tmp_path / "a.csv").events)


def test_float_ids_in_parquet_lose_their_decimal_point(tmp_path: Path) -> None:
    """An id column that pandas turned into floats still matches the ids of the items table."""
    pl.DataFrame({"user_id": [1.0, 2.0], "item_id": [10.0, 11.0], "kind": ["view", "view"]}).write_parquet(
        tmp_path / "events.parquet"
    )
    _put(tmp_path, "items.csv", "item_id,title\n10,ten\n11,eleven\n")
    data = load(tmp_path)
    assert data.events["user_id"].to_list() == ["1", "2"]
    assert data.items["title"].to_list() == ["ten", "eleven"]


def test_recbole_atomic_files_are_read_with_their_items_and_users(tmp_path: Path) -> None:
    """Typed headers, bare quotes in titles, and the kind rating."""
    header = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    inter = header + "u1\ti1\t5\t881250949.0\nu2\ti2\t1\t881250950\n"
    events = _put(tmp_path, "ml.inter", inter)
    _put(
        tmp_path,
        "ml.item",
        'item_id:token\tmovie_title:token_seq\tclass:token_seq\ni1\tThe "Best" One\tDrama\n',
    )
    _put(tmp_path, "ml.user", "user_id:token\tage:token\nu1\t24\nu2\t31\n")
    for source in (tmp_path, events):
        data = load(source)
        assert data.events.select("user_id", "item_id", "kind", "timestamp").rows() == [
            ("u1", "i1", "rating", 881250949),
            ("u2", "i2", "rating", 881250950),
        ]
        assert data.items.select("item_id", "title", "category").rows() == [
            ("i1", 'The "Best" One', "Drama"),
            ("i2", None, None),
        ]
        assert data.users is not None and data.users.rows() == [("u1", "24"), ("u2", "31")]


def test_rectools_layout_is_recognised_by_its_datetime_column(tmp_path: Path) -> None:
    """Dates without a time of day give the clock DAYS; without a kind or a rating every event is a view."""
    _put(
        tmp_path,
        "interactions.csv",
        "user_id,item_id,weight,datetime\n1,7,1.0,2021-03-01\n1,8,2.0,2021-02-01\n",
    )
    data = load(tmp_path)
    assert data.events.select("item_id", "kind", "timestamp").rows() == [
        ("8", "view", 1612137600),
        ("7", "view", 1614556800),
    ]
    assert data.clock is Clock.DAYS


def test_lenskit_layout_keeps_low_ratings_as_events(tmp_path: Path) -> None:
    """A rating of one half is an event of kind rating like any other."""
    _put(tmp_path, "ratings.csv", "user,item,rating,timestamp\n1,7,0.5,1600000001\n1,8,5.0,1600000000\n")
    data = load(tmp_path)
    assert data.events.select("item_id", "kind").rows() == [("8", "rating"), ("7", "rating")]


def test_a_position_column_gives_the_clock_order(tmp_path: Path) -> None:
    """Without a time, `pos` orders each shopper's events."""
    _put(tmp_path, "events.csv", "user,pos,item\nu,1,b\nu,0,a\nv,0,c\n")
    data = load(tmp_path)
    assert data.clock is Clock.ORDER
    assert data.events["item_id"].to_list() == ["a", "b", "c"]


def test_events_without_time_keep_the_order_of_the_file(tmp_path: Path) -> None:
    """Clock NONE: timestamps are zero, and the sort by shopper is stable."""
    _put(tmp_path, "events.csv", "user_id,item_id,kind\nv,z,view\nu,c,view\nu,a,view\nu,b,view\n")
    data = load(tmp_path)
    assert data.clock is Clock.NONE
    assert data.events.select("user_id", "item_id", "timestamp").rows() == [
        ("u", "c", 0),
        ("u", "a", 0),
        ("u", "b", 0),
        ("v", "z", 0),
    ]


def test_sequence_lines_give_one_event_per_item_and_a_given_test(tmp_path: Path) -> None:
    """Lines `user item item ...`; a line without items is a shopper without events, not an error."""
    _put(tmp_path, "train.txt.gz", "0 5 7\n1 5\n2\n")
    _put(tmp_path, "test.txt", "0 9\n1 7\n")
    mapping = Mapping(
        events_file="train.txt.gz",
        test_file="test.txt",
        file_format=FileFormat.SEQUENCES,
        default_kind="rating",
    )
    data = load(tmp_path, mapping=mapping)
    assert data.events.select("user_id", "item_id", "kind").rows() == [
        ("0", "5", "rating"),
        ("0", "7", "rating"),
        ("1", "5", "rating"),
    ]
    assert data.given_test is not None
    assert data.given_test.select("user_id", "item_id", "timestamp").rows() == [("0", "9", 0), ("1", "7", 0)]
    assert data.items["item_id"].to_list() == ["5", "7", "9"]


def test_a_given_test_without_time_is_asked_after_the_shoppers_newest_event(tmp_path: Path) -> None:
    """Its rows carry the newest time of their shopper, and their own kind."""
    _put(tmp_path, "events.csv", OWN)
    _put(tmp_path, "held.csv", "user_id,item_id\nu1,z\nstranger,a\n")
    data = load(
        tmp_path, mapping=Mapping(events_file="events.csv", test_file="held.csv", test_kind="purchase")
    )
    assert data.given_test is not None
    assert data.given_test.schema == data.events.schema
    assert data.given_test.select("user_id", "kind", "timestamp").rows() == [
        ("stranger", "purchase", 0),
        ("u1", "purchase", 1600000200),
    ]
    assert "z" in data.items["item_id"].to_list()


def test_the_catalogue_covers_events_and_keeps_items_without_any(tmp_path: Path) -> None:
    """Catalogue rows stay; an item without a price takes the median of its events' prices."""
    _put(tmp_path, "events.csv", "user_id,item_id,kind,price\nu,a,view,1\nv,a,view,3\nv,b,view,5\n")
    _put(tmp_path, "items.csv", "item_id,title,price\nb,bee,4\nnew,never seen,\n")
    items = load(tmp_path).items
    assert items.select("item_id", "title", "price").rows() == [
        ("a", None, 2.0),
        ("b", "bee", 4.0),
        ("new", "never seen", None),
    ]


def test_a_return_has_a_positive_quantity(tmp_path: Path) -> None:
    """Shops write returns as negative quantities; the kind already says it."""
    _put(tmp_path, "events.csv", "user_id,item_id,kind,quantity\nu,a,return,-3\n")
    assert load(tmp_path).events.select("kind", "quantity").rows() == [("return", 3.0)]


@pytest.mark.parametrize("separator", ["\t", ";", "|"])
def test_other_separators_are_recognised_from_the_header(tmp_path: Path, separator: str) -> None:
    """Semicolons, tabs and bars separate columns as commas do."""
    _put(tmp_path, "events.csv", OWN.replace(",", separator))
    _put(tmp_path, "comma.txt", OWN)
    assert load(tmp_path / "events.csv").events.height == 3


def test_a_folder_with_several_candidates_is_refused_by_name(tmp_path: Path) -> None:
    """Guessing between two files would be silent; the error lists them and says how to choose."""
    _put(tmp_path, "one.csv", OWN)
    _put(tmp_path, "two.csv", OWN)
    with pytest.raises(UnknownLayout, match=r"one\.csv, two\.csv.*\[files\]"):
        load(tmp_path)
    _put(tmp_path, "events.csv", OWN)
    assert load(tmp_path).events.height == 3


@pytest.mark.parametrize(
    "content",
    [b"", b"\n\n", b"user_id,item_id\n\xff\xfe,1\n", b"\x1f\x8b\x08garbage", b'"user_id,item_id\nu,i\n'],
)
def test_bytes_that_are_no_table_are_refused_without_quoting_them(tmp_path: Path, content: bytes) -> None:
    """Empty, not UTF-8, half a gzip, an open quote: one readable error that names the file."""
    for name in ("events.csv", "events.csv.gz", "events.parquet"):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(UnreadableFile, match=name):
            load(path)


def test_a_cut_gzip_file_is_refused(tmp_path: Path) -> None:
    """A download that stopped early must not look like a shorter data set."""
    path = tmp_path / "events.csv.gz"
    path.write_bytes(gzip.compress((OWN + "u9,q,view,1600000400,,,\n" * 5000).encode())[:-20])
    with pytest.raises(UnreadableFile, match=r"events\.csv\.gz"):
        load(path)


def test_a_missing_path_is_refused(tmp_path: Path) -> None:
    """The error names what was looked for, not the whole path."""
    with pytest.raises(UnreadableFile, match="nowhere does not exist"):
        load(tmp_path / "nowhere")


def test_a_missing_needed_column_names_the_field_the_columns_found_and_the_flag(tmp_path: Path) -> None:
    """The message is the next step."""
    _put(tmp_path, "events.csv", "customer,item_id,kind\nc,i,view\n")
    with pytest.raises(MissingColumn, match=r"user_id.*customer, item_id, kind.*--column user_id=NAME"):
        load(tmp_path)


def test_a_column_twice_in_the_header_is_refused(tmp_path: Path) -> None:
    """Which of the two was meant cannot be known."""
    _put(tmp_path, "events.csv", "user_id,item_id,item_id\nu,i,j\n")
    with pytest.raises(DataError, match="'item_id' twice"):
        load(tmp_path)


_TEXT = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cs", "Cc"), include_characters='\n",; '),
    min_size=1,
    max_size=8,
).filter(lambda text: text.strip() == text and text != "")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(_TEXT, _TEXT, st.integers(0, 4_000_000_000)), min_size=1, max_size=12))
def test_any_ids_survive_csv_with_quotes_commas_and_line_breaks(
    tmp_path: Path, rows: list[tuple[str, str, int]]
) -> None:
    """What polars writes as CSV is read back as the same events, in stable order of shopper and time."""
    path = tmp_path / "events.csv"
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    frame.write_csv(path)
    data = load(path)
    expected = frame.sort("user_id", "timestamp", maintain_order=True)
    assert data.rejected_rows == 0
    assert data.events.select("user_id", "item_id", "timestamp").rows() == expected.rows()
