"""Small data sets for the tests of the evaluation room."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import pytest
import scipy.sparse as sp

from model.content import ItemColumns
from model.encoders import EncoderName
from simulation.data.dataset import Clock, Dataset

Row = tuple[str, str, str, int | None]
_SCHEMA = {"user_id": pl.String, "item_id": pl.String, "kind": pl.String, "timestamp": pl.Int64}


@dataclass(frozen=True)
class Alternating:
    """A content encoder of few features that tell nothing: the catalogue's items have them in turn."""

    columns: int = 2
    name: EncoderName = EncoderName.HASHED
    version: str = "alternating"

    def encode(self, items: ItemColumns) -> sp.csr_matrix:
        """Return (items, columns) ones and zeros."""
        return sp.csr_matrix(
            np.eye(self.columns, dtype=np.float32)[np.arange(len(items.titles)) % self.columns]
        )


def without_content(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put two content features in place of thousands: what items look like is not the matter of a test."""
    monkeypatch.setattr("server.coordination.learner.Hashed", Alternating)
    for place in ("server.coordination.federation", "evaluation.experiment"):
        monkeypatch.setattr(f"{place}.encoder_named", lambda _name: Alternating())


def events(rows: Iterable[Row]) -> pl.DataFrame:
    """Events (shopper, item, kind, timestamp) as a data set holds them."""
    frame = pl.DataFrame(list(rows), schema=_SCHEMA, orient="row").with_columns(merchant_id=pl.lit("m"))
    return frame.sort("user_id", "timestamp", maintain_order=True)


def dataset(
    rows: Iterable[Row],
    *,
    clock: Clock = Clock.SECONDS,
    given: Iterable[Row] | None = None,
    items: Sequence[str] | None = None,
) -> Dataset:
    """A data set of the given events; the catalogue is `items` or what the events name."""
    frame, test = events(rows), None if given is None else events(given)
    named = set(frame["item_id"]) | (set() if test is None else set(test["item_id"]))
    return Dataset(
        name="toy",
        label="simulated (made by a test)",
        events=frame,
        items=pl.DataFrame({"item_id": sorted(named if items is None else items)}),
        users=None,
        given_test=test,
        clock=clock,
        merchants_from="one merchant",
        rejected_rows=0,
        source="made by a test",
    )


def random_dataset(
    seed: int, *, shoppers: int = 80, items: int = 120, count: int = 2400, clock: Clock = Clock.SECONDS
) -> Dataset:
    """Shoppers of four tastes who mostly buy inside their own quarter of the catalogue, at random moments."""
    random = np.random.default_rng(seed)
    who = random.integers(0, shoppers, count)
    quarter = np.where(random.random(count) < 0.8, who % 4, random.integers(0, 4, count))
    what = quarter * (items // 4) + (items // 4 * random.random(count) ** 2).astype(np.int64)
    kinds = random.choice(
        ["purchase", "view", "rating", "return", "dismiss"], count, p=[0.5, 0.3, 0.1, 0.05, 0.05]
    )
    when = random.integers(1_000, 1_000_000, count)
    rows = zip(who.tolist(), what.tolist(), kinds.tolist(), when.tolist(), strict=True)
    catalogue = [f"i{index:04d}" for index in range(items)]
    return dataset(((f"s{s:04d}", f"i{i:04d}", k, t) for s, i, k, t in rows), clock=clock, items=catalogue)
