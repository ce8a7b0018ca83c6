"""Rejected rows are named by line and reason, and never by their content."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simulation.data import Mapping, check, load
from simulation.data.errors import NothingUsable, UnreadableFile, UnwritableFile
from simulation.data.rejections import rejections, write_rejections

NOW = datetime(2025, 1, 1, tzinfo=UTC)


def _rejected(path: Path, mapping: Mapping | None = None) -> list[tuple[int, str, str]]:
    """(line, column, reason) of all rejections."""
    return check(path, mapping, now=NOW).rejections.select("line", "column", "reason").rows()


def _events(folder: Path, *rows: str, header: str = "user_id,item_id,kind,timestamp,quantity,price") -> Path:
    path = folder / "events.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


GOOD = "u,i,view,1600000000,1,2.5"


@pytest.mark.parametrize(
    ("row", "column", "reason"),
    [
        (",i,view,1600000000,1,1", "user_id", "is missing"),
        ("u,,view,1600000000,1,1", "item_id", "is missing"),
        ("u,  ,view,1600000000,1,1", "item_id", "is missing"),
        ("u,i,,1600000000,1,1", "kind", "is missing"),
        ("u,i,stare,1600000000,1,1", "kind", "is not a known kind; map it in [kinds]"),
        ("u,i,view,,1,1", "timestamp", "is missing"),
        ("u,i,view,yesterday,1,1", "timestamp", "is not a time in the format 'seconds'"),
        ("u,i,view,-5,1,1", "timestamp", "is outside 1970 to 2100"),
        ("u,i,view,99999999999,1,1", "timestamp", "is outside 1970 to 2100"),
        ("u,i,view,1600000000,two,1", "quantity", "is not a number"),
        ("u,i,view,1600000000,inf,1", "quantity", "is not a number"),
        ("u,i,purchase,1600000000,-1,1", "quantity", "is negative and the kind is not return"),
        ("u,i,view,1600000000,1,-0.5", "price", "is negative"),
        ("u,i,view,1600000000,1,free", "price", "is not a number"),
    ],
)
def test_a_bad_row_is_named_by_line_column_and_reason(
    tmp_path: Path, row: str, column: str, reason: str
) -> None:
    """The good rows around it stay."""
    path = _events(tmp_path, GOOD, GOOD, row, GOOD)
    assert _rejected(path) == [(4, column, reason)]
    data = load(path)
    assert (data.rejected_rows, data.events.height) == (1, 3)


@pytest.mark.parametrize(
    "row", ["u,i,return,1600000000,-1,1", "u,i,view,1600000000,,", "u,i,view,1600000000,NaN,NA"]
)
def test_rows_that_look_odd_but_are_meant_are_kept(tmp_path: Path, row: str) -> None:
    """Returns are negative, optional values may be missing."""
    path = _events(tmp_path, row)
    assert _rejected(path) == []
    assert load(path).events.height == 1


def test_a_row_with_several_faults_is_one_rejected_row_with_several_reasons(tmp_path: Path) -> None:
    """Reasons are counted apart, rows once."""
    path = _events(tmp_path, GOOD, ",,view,x,1,1")
    assert _rejected(path) == [
        (3, "item_id", "is missing"),
        (3, "timestamp", "is not a time in the format 'seconds'"),
        (3, "user_id", "is missing"),
    ]
    assert load(path).rejected_rows == 1


def test_rows_longer_than_the_header_are_named_and_the_rest_is_read(tmp_path: Path) -> None:
    """Ragged files are read record by record: an unquoted comma costs one row, not the file."""
    path = _events(
        tmp_path, GOOD, "u,i,view,1600000000,1,2,5", "u,i", '"u\nu",i,view,1600000000,1,2', ",i,view,1,1,1"
    )
    assert _rejected(path) == [
        (3, "", "has 7 fields where the header has 6"),
        (4, "kind", "is missing"),
        (4, "timestamp", "is missing"),
        (7, "user_id", "is missing"),
    ]
    assert load(path).events["user_id"].to_list() == ["u", "u\nu"]


def test_empty_lines_are_named(tmp_path: Path) -> None:
    """A line that holds nothing is counted like any other that is not used."""
    path = _events(tmp_path, GOOD, "", GOOD)
    assert _rejected(path) == [(3, "", "holds nothing")]


def test_an_open_quote_stops_the_reading_at_its_line(tmp_path: Path) -> None:
    """It would swallow every row after it without a word."""
    path = _events(tmp_path, GOOD, '"u,i,view,1600000000,1,1', GOOD)
    with pytest.raises(UnreadableFile, match="record that starts at line 3"):
        load(path)


def test_rejected_rows_of_all_tables_are_counted_with_their_file(tmp_path: Path) -> None:
    """Items, users and the given test are validated too."""
    _events(tmp_path, GOOD, "u,,view,1600000000,1,1")
    (tmp_path / "items.csv").write_text("item_id,price\ni,1\ni,2\n,3\nj,-4\nk,cheap\n")
    (tmp_path / "users.csv").write_text("user_id,age\nu,3\nu,4\n,5\n")
    (tmp_path / "held.csv").write_text("user_id,item_id\nu,i\nu,\n")
    mapping = Mapping(events_file="events.csv", test_file="held.csv")
    report = check(tmp_path, mapping, now=NOW)
    assert report.rejections.rows() == [
        ("events.csv", 3, "item_id", "is missing"),
        ("held.csv", 3, "item_id", "is missing"),
        ("items.csv", 3, "item_id", "repeats an earlier row"),
        ("items.csv", 4, "item_id", "is missing"),
        ("items.csv", 5, "price", "is not a number, or is negative"),
        ("items.csv", 6, "price", "is not a number, or is negative"),
        ("users.csv", 3, "user_id", "repeats an earlier row"),
        ("users.csv", 4, "user_id", "is missing"),
    ]
    assert report.rejected_rows == load(tmp_path, mapping=mapping).rejected_rows == 8
    assert [(one.file, one.rows) for one in report.rejected if one.column == "price"] == [("items.csv", 2)]


def test_if_every_row_is_rejected_the_error_names_column_reason_and_next_step(tmp_path: Path) -> None:
    """A wrongly mapped column looks like this."""
    path = _events(tmp_path, "u,i,s3cret,1600000000,1,1", "u,i,s3cret,1600000000,1,1")
    words = r"\(2 of 2 rows\) the column 'kind' is not a known kind.*--column kind=NAME"
    with pytest.raises(NothingUsable, match=words) as caught:
        load(path)
    assert "s3cret" not in str(caught.value)


def test_a_table_without_rows_is_refused(tmp_path: Path) -> None:
    """A header is no data."""
    with pytest.raises(NothingUsable, match="has a header and no rows"):
        load(_events(tmp_path))


def test_the_rejection_file_holds_no_content_of_the_rows(tmp_path: Path) -> None:
    """Line, column and reason: what leaked into the file by mistake must not leak into the next."""
    canaries = ["canary-user", "canary-item", "canary-kind", "canary-time", "canary-number", "canary-price"]
    path = _events(tmp_path, GOOD, ",".join(canaries), ",".join([*canaries, "more"]))
    report = check(path, now=NOW)
    write_rejections(report.rejections, tmp_path / "out.csv")
    written = (tmp_path / "out.csv").read_text()
    assert written.startswith("file,line,column,reason\nevents.csv,3,")
    assert len(written.splitlines()) == 1 + 4 + 1
    assert "canary" not in written + str(report.to_json())


def test_a_rejection_file_that_cannot_be_written_is_an_error_of_its_own(tmp_path: Path) -> None:
    """Rejections never vanish silently."""
    with pytest.raises(UnwritableFile, match="--rejected"):
        write_rejections(rejections("x"), tmp_path / "none" / "out.csv")


_CELL = st.text(st.sampled_from('ab\n",'), max_size=4)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cells=st.lists(_CELL, min_size=1, max_size=8), ragged=st.booleans())
def test_line_numbers_point_at_the_line_even_after_quoted_line_breaks(
    tmp_path: Path, cells: list[str], ragged: bool
) -> None:
    """Both readers (polars, and the one for ragged files) count the lines of the file, not the rows."""
    lines = ["user_id,item_id,note"]
    if ragged:
        lines.append("u,i,n,too,many")
    expected = []
    for cell in cells:
        quoted = '"' + cell.replace('"', '""') + '"'
        lines.append(f"u,i,{quoted}")
        expected.append(1 + sum(1 + line.count("\n") for line in lines))
        lines.append(f"u,,{quoted}")
    path = tmp_path / "events.csv"
    path.write_text("\n".join(lines) + "\n")
    found = [line for line, column, _ in _rejected(path) if column == "item_id"]
    assert found == expected
