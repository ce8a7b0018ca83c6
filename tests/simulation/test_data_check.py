"""The report of `fedrank data check`, as a value and on the command line."""

import json
import math
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from fedrank.commands.data import app
from simulation.data import check
from simulation.data.errors import DataError
from simulation.data.quality import outliers

HEADER = "user_id,item_id,kind,timestamp,quantity,price,shelf\n"
ROWS = [f"u{n % 3},i{n},purchase,{1600000000 + n},1,2.0,s\n" for n in range(20)]
BAD = [",i,view,1600000000,1,1,s\n", "u0,i0,purchase,1600000900,70000,3000,s\n"]


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A small shop with one bad row, one exact duplicate and one outlier."""
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "events.csv").write_text(HEADER + "".join([*ROWS, ROWS[0], *BAD]))
    (folder / "items.csv").write_text("item_id,title\n" + "".join(f"i{n},thing {n}\n" for n in range(10)))
    return folder


def test_the_report_counts_what_was_put_in(shop: Path) -> None:
    """Every number is the one of the file above."""
    report = check(shop, now=datetime.fromtimestamp(1600000900, UTC) + timedelta(days=3))
    assert (report.name, report.layout, report.files) == (
        "shop",
        "own",
        {"events": "events.csv", "items": "items.csv"},
    )
    assert (report.rows, report.events, report.rejected_rows) == (23, 22, 1)
    assert (report.shoppers, report.items, report.catalogue_items) == (3, 20, 20)
    assert report.items_without_details == 10
    assert report.kinds == {"purchase": 22}
    assert report.kinds_from == "column kind"
    assert (report.oldest, report.newest) == ("2020-09-13T12:26:40+00:00", "2020-09-13T12:41:40+00:00")
    assert report.staleness is not None and report.staleness.newest_age_days == 3.0
    assert report.duplicates == 1
    assert report.missing["events.user_id"] == 1
    assert report.unused_columns == ["shelf"]
    assert [(one.column, one.rows) for one in report.outliers] == [("quantity", 1), ("price", 1)]


def test_events_after_now_are_counted_as_future(shop: Path) -> None:
    """A wrong clock or unit shows as events that have not happened yet."""
    report = check(shop, now=datetime.fromtimestamp(1600000010, UTC))
    assert report.staleness is not None
    assert report.staleness.future_rows == 10
    assert report.staleness.newest_age_days < 0


def test_without_a_calendar_nothing_is_stale(tmp_path: Path) -> None:
    """Positions have no age."""
    (tmp_path / "events.csv").write_text("user,pos,item\nu,0,a\nu,1,b\n")
    report = check(tmp_path, now=datetime(2025, 1, 1, tzinfo=UTC))
    assert (report.clock, report.oldest, report.newest, report.staleness) == ("order", None, None, None)
    json.dumps(report.to_json())


@settings(max_examples=100, deadline=None)
@given(
    values=st.lists(st.floats(0.001, 1e4), min_size=4, max_size=60),
    factor=st.floats(0.01, 100.0),
)
def test_outliers_do_not_depend_on_the_unit(values: list[float], factor: float) -> None:
    """Cents or pounds: the rule works on ratios, so bounds scale and the count stays (ties aside)."""
    one = outliers(pl.DataFrame({"price": values}), "price")
    other = outliers(pl.DataFrame({"price": [value * factor for value in values]}), "price")
    assert one is not None and other is not None
    assert math.isclose(other.low, one.low * factor, rel_tol=1e-9)
    assert math.isclose(other.high, one.high * factor, rel_tol=1e-9)
    clear = [value for value in values if not one.low * (1 - 1e-6) <= value <= one.high * (1 + 1e-6)]
    assert one.rows >= len(clear) and other.rows >= len(clear)


def test_constant_values_allow_a_factor_of_thirty_two_and_no_more() -> None:
    """Spread is at least ln 2, five of them are 32: 31 is ordinary where all else is 1, 33 is not."""
    frame = pl.DataFrame({"quantity": [1.0] * 100 + [31.0, 33.0, 0.0]})
    found = outliers(frame, "quantity")
    assert found is not None
    assert (found.rows, found.zeros) == (1, 1)
    assert outliers(pl.DataFrame({"quantity": [None, 0.0]}), "quantity") is None


def test_bounds_of_absurd_prices_stay_finite() -> None:
    """JSON has no infinity."""
    found = outliers(pl.DataFrame({"price": [1e300, 1e308]}), "price")
    assert found is not None and math.isfinite(found.high)


def test_json_on_the_command_line_is_one_object_and_nothing_else(shop: Path, tmp_path: Path) -> None:
    """Machines read standard output; the rejected rows go to the file that was named."""
    target = tmp_path / "bad.csv"
    result = CliRunner().invoke(app, ["check", str(shop), "--json", "--rejected", str(target)])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert (report["rows"], report["rejected_rows"], report["rejected_file"]) == (23, 1, str(target))
    assert target.read_text() == "file,line,column,reason\nevents.csv,23,user_id,is missing\n"


def test_the_report_for_people_names_the_rejected_file_and_reasons(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without --rejected the rows still go to a file, in the current folder."""
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["check", str(shop)])
    assert result.exit_code == 0, result.output
    for words in ("23 read, 22 usable", "is missing", "rejected-rows.csv", "user-supplied", "shelf"):
        assert words in result.output
    assert (tmp_path / "rejected-rows.csv").is_file()


def test_clean_data_leave_no_file_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No rejected row, no file; columns can be mapped by flag."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shop.csv").write_text("customer,item_id\nc,i\n")
    result = CliRunner().invoke(app, ["check", "shop.csv", "--column", "user_id=customer", "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["rejected_file"] is None
    assert not (tmp_path / "rejected-rows.csv").exists()


def test_a_mapping_file_can_be_named_on_the_command_line(tmp_path: Path) -> None:
    """`--mapping FILE` decides about files and columns."""
    (tmp_path / "x.csv").write_text("customer,item_id\nc,i\n")
    (tmp_path / "y.csv").write_text("customer,item_id\nc,i\n")
    mapping = tmp_path / "my.toml"
    mapping.write_text('name = "mine"\n[files]\nevents = "y.csv"\n[columns]\nuser_id = "customer"\n')
    result = CliRunner().invoke(app, ["check", str(tmp_path), "--mapping", str(mapping), "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["name"] == "mine"


def test_a_data_error_goes_up_to_the_caller(tmp_path: Path) -> None:
    """The main command turns it into its exit code."""
    result = CliRunner().invoke(app, ["check", str(tmp_path / "none")])
    assert isinstance(result.exception, DataError)
