"""The scanner finds what is planted, in every form and every place, and nothing where nothing is."""

from __future__ import annotations

import base64
import gzip
import io
import json
import os
import sqlite3
import urllib.parse
import zipfile
import zlib
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Literal

import polars as pl
import pytest
from canary_scan import Hit, scan

WORD = "qzvkwxjyhfpt"
ID = f"Käfer {WORD}-07 @shop/ü"
"""A shopper id with characters that every escape treats in its own way."""

FORMS: dict[str, Callable[[str], bytes]] = {
    "utf-8": lambda text: text.encode(),
    "latin-1": lambda text: text.encode("latin-1"),
    "utf-16le": lambda text: text.encode("utf-16le"),
    "utf-16be": lambda text: text.encode("utf-16be"),
    "upper case": lambda text: text.upper().encode(),
    "json": lambda text: json.dumps({"id": text}).encode(),
    "repr of bytes": lambda text: repr(text.encode()).encode(),
    "hex": lambda text: text.encode().hex().encode(),
    "upper hex": lambda text: text.encode().hex().upper().encode(),
    "hex of utf-16le": lambda text: text.encode("utf-16le").hex().encode(),
    "url": lambda text: urllib.parse.quote_plus(text).encode(),
    "every byte url-encoded": lambda text: "".join(f"%{byte:02X}" for byte in text.encode()).encode(),
    "base64": lambda text: base64.b64encode(text.encode()),
    "base64, one before": lambda text: base64.b64encode(b"1" + text.encode()),
    "base64, two before": lambda text: base64.b64encode(b"12" + text.encode()),
    "base64 for urls": lambda text: base64.urlsafe_b64encode(b"12" + text.encode()),
    "base64 in lines": lambda text: base64.encodebytes(os.urandom(50) + text.encode()),
    "base64 of utf-16le": lambda text: base64.b64encode(b"1" + text.encode("utf-16le")),
    "backwards": lambda text: text[::-1].encode(),
}


def zipped(data: bytes) -> bytes:
    """A zip archive with one member."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("member.txt", data)
    return buffer.getvalue()


PACKED: dict[str, Callable[[bytes], bytes]] = {
    "as it is": lambda data: data,
    "gzip": gzip.compress,
    "gzip in the middle of a file": lambda data: os.urandom(333) + gzip.compress(data) + os.urandom(333),
    "zlib": lambda data: os.urandom(7) + zlib.compress(data, 9),
    "fast zlib": lambda data: zlib.compress(data, 1),
    "zip": zipped,
    "gzip inside zlib inside zip": lambda data: zipped(zlib.compress(gzip.compress(data))),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("packed", PACKED)
def test_a_canary_is_found_in_every_form_inside_every_package(tmp_path: Path, form: str, packed: str) -> None:
    """Among other bytes, in a folder of a folder; a file beside it without one is not named."""
    planted = tmp_path / "deep" / "folder" / "planted"
    planted.parent.mkdir(parents=True)
    planted.write_bytes(PACKED[packed](b"before " + FORMS[form](ID) + b" after"))
    (tmp_path / "clean").write_bytes(PACKED[packed](os.urandom(5000)))
    assert {hit.file for hit in scan([tmp_path], {"shopper": WORD})} == {planted}


def test_the_name_of_a_file_is_scanned_too(tmp_path: Path) -> None:
    """A temporary file named after a shopper is a leak, whatever it holds."""
    file = tmp_path / f"upload-{WORD}.tmp"
    file.touch()
    assert scan([tmp_path], {"shopper": WORD}) == [
        Hit(file=file, canary="shopper", form="utf-8", inside=("name",))
    ]


@pytest.mark.parametrize("compression", ["zstd", "snappy", "gzip"])
def test_a_canary_is_found_in_a_parquet_file(
    tmp_path: Path, compression: Literal["zstd", "snappy", "gzip"]
) -> None:
    """Its pages are compressed, so that no plain search sees it."""
    frame = pl.DataFrame({"title": [f"{ID} {ID}"] * 500, "n": range(500)})
    frame.write_parquet(tmp_path / "items.parquet", compression=compression, statistics=False)
    assert {hit.inside for hit in scan([tmp_path], {"title": WORD})} >= {("rows of Parquet",)}


def database_with(value: str) -> bytes:
    """The file of a database with this value in one row."""
    with closing(sqlite3.connect(":memory:")) as database:
        database.execute("CREATE TABLE notes (text TEXT)")
        database.execute("INSERT INTO notes VALUES (?)", (value,))
        database.commit()
        return database.serialize()


def test_a_canary_that_lies_across_two_pages_of_a_database_is_found(tmp_path: Path) -> None:
    """SQLite continues a long value in another page, so that no search of the file itself finds it."""
    files = (database_with("." * 2000 + ID + "." * after) for after in range(5000, 10_000, 5))
    torn = [data for data in files if WORD.encode() not in data]
    assert torn
    for data in torn:
        (tmp_path / "rows.db").write_bytes(data)
        assert {hit.inside for hit in scan([tmp_path], {"shopper": WORD})} == {("rows of SQLite",)}


def test_a_canary_in_a_write_ahead_log_and_in_a_free_page_is_found(tmp_path: Path) -> None:
    """What is deleted without overwriting is still there."""
    with closing(sqlite3.connect(tmp_path / "rows.db")) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("CREATE TABLE notes (text TEXT)")
        database.execute("INSERT INTO notes VALUES (?)", (ID,))
        database.commit()
        assert {hit.file.name for hit in scan([tmp_path], {"shopper": WORD})} == {"rows.db-wal"}
        database.execute("PRAGMA secure_delete=OFF")
        database.execute("DELETE FROM notes")
        database.commit()
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        assert {hit.file.name for hit in scan([tmp_path], {"shopper": WORD})} == {"rows.db"}


def test_several_canaries_are_told_apart_and_single_files_can_be_scanned(tmp_path: Path) -> None:
    """Each hit names its own canary; a file that was not asked for is not looked at."""
    (tmp_path / "a").write_text(WORD)
    (tmp_path / "b").write_text("mnbvcxzlkjhg")
    canaries = {"shopper": WORD, "title": "mnbvcxzlkjhg"}
    assert [(hit.file.name, hit.canary) for hit in scan([tmp_path], canaries)] == [
        ("a", "shopper"),
        ("b", "title"),
    ]
    assert [hit.file.name for hit in scan([tmp_path / "b"], canaries)] == ["b"]


def test_a_word_that_could_be_missed_is_no_canary(tmp_path: Path) -> None:
    """Escapes change digits of a short word, capitals and marks; a scan for such a word would prove nothing."""
    for word in ("short", "with-a-mark-in-it", "CAPITALLETTERS"):
        with pytest.raises(ValueError, match="12 small Latin letters"):
            scan([tmp_path], {"shopper": word})
