"""Do answers to searches keep the order of words? Asked of models with random tastes, in two languages."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import polars as pl

from evaluation.bench.rows import Row
from evaluation.releasing import signing_registry
from evaluation.surfaces_words import QueryStyle, WordStock, out_of_order, simulated_query
from model.encoders import EncoderName, encoder_named
from model.schema import Schema, Weights
from server.serving.engine import Engine
from server.serving.query import PastEvent, RankQuery, Surface
from simulation.data import load
from simulation.population import write_catalogue

DEPTH, DIM, TASTE = 50, 32, 5.0
ITEMS_PER_QUERY = 28
"""English titles for each query, so that a quick run reads few; 400 queries read nearly all."""

COLOURS, STUFFS = (
    ("红色", "白色", "黑色", "蓝色", "绿色", "粉色"),
    ("纯棉", "真丝", "羊毛", "牛皮", "陶瓷", "不锈钢"),
)
GOODS = (
    "短袖",
    "长裤",
    "连衣裙",
    "衬衫",
    "外套",
    "围巾",
    "手套",
    "帽子",
    "毛衣",
    "马克杯",
    "茶壶",
    "保温杯",
    "雨伞",
    "钱包",
)
SIZES = ("小号", "中号", "大号")


@dataclass(frozen=True, kw_only=True)
class WordCheck:
    """What one catalogue's answers showed; `wrong` items hold all words and stand below one that does not."""

    name: str
    queries: int
    listed: int
    wrong: int

    def row(self) -> Row:
        """Return the row of the bench; none may be wrong."""
        words = f"search, {self.name}: items with all words below one with fewer, of {self.listed:,} listed"
        return Row(measure=words, value=float(self.wrong), unit="items", target=0.0, at_least=False)


def word_checks(queries: int) -> list[WordCheck]:
    """Ask so many queries over English titles of the embedded set, and over composed Chinese ones."""
    english = load(None).items.head(ITEMS_PER_QUERY * queries)
    chinese = chinese_catalogue()
    return [
        check("English titles (embedded set)", english, _english_queries(english, queries)),
        check("Chinese titles (composed)", chinese, _chinese_queries(queries)),
    ]


def chinese_catalogue() -> pl.DataFrame:
    """Return goods in colours, stuffs and sizes; a third leaves its colour out, a third its size."""
    rows = []
    for place, (colour, stuff, goods, size) in enumerate(product(COLOURS, STUFFS, GOODS, SIZES)):
        title = (colour if place % 3 else "") + stuff + goods + (" " + size if place % 3 != 1 else "")
        rows.append(
            {"item_id": f"item-{place:05d}", "title": title, "category": "百货", "merchant_id": "shop"}
        )
    unknown = [pl.lit(None, dtype=pl.String).alias(name) for name in ("brand", "description")]
    return pl.DataFrame(rows).with_columns(*unknown, pl.lit(None, dtype=pl.Float64).alias("price"))


def check(name: str, items: pl.DataFrame, queries: list[str]) -> WordCheck:
    """Ask every query of a model with random tastes over a catalogue, and read the answers' texts again."""
    texts = {
        item: f"{title or ''} {brand or ''} {category or ''}"
        for item, title, brand, category in items.select("item_id", "title", "brand", "category").iter_rows()
    }
    random = np.random.default_rng(len(items))
    with tempfile.TemporaryDirectory() as folder:
        engine = _engine(Path(folder), items, random)
        asked = [_query(query, place, items["item_id"], random) for place, query in enumerate(queries)]
        lists = [[texts[item.item_id] for item in ranking.listed()] for ranking in engine.rank(asked)]
    return WordCheck(
        name=name,
        queries=len(queries),
        listed=sum(map(len, lists)),
        wrong=sum(out_of_order(query, listed) for query, listed in zip(queries, lists, strict=True)),
    )


def _query(words: str, place: int, items: pl.Series, random: np.random.Generator) -> RankQuery:
    liked = random.choice(len(items), 5 * (place % 2), replace=False)
    history = [PastEvent(item_id=items[int(item)], kind="purchase", time=1) for item in liked]
    return RankQuery(
        surface=Surface.SEARCH, k=DEPTH, timestamp=2, history=history, words=words, reasons=False
    )


def _engine(folder: Path, items: pl.DataFrame, random: np.random.Generator) -> Engine:
    """Open the engine on strong random tastes: whatever puts them before words will show."""
    encoder = encoder_named(EncoderName.HASHED)
    weights: Weights = Schema(items=len(items), content_features=encoder.columns, dim=DIM).zeros()
    for name in ("item_id", "item_bias", "content", "context"):
        weights[name] = (TASTE * random.standard_normal(weights[name].shape)).astype(np.float32)
    weights["gain"][:] = 1.0
    registry, signer = signing_registry(folder, "words")
    registry.promote(registry.add(weights, {"clock": "seconds"}, signer).version)
    write_catalogue(items, folder / "catalogue.parquet")
    return Engine.load(registry, folder / "catalogue.parquet")


def _english_queries(items: pl.DataFrame, count: int) -> list[str]:
    """Return simulated queries of both styles in turn."""
    stock = WordStock.of(items)
    random = np.random.default_rng(1)
    wanted = random.choice(len(items), count, replace=False).tolist()
    found = [simulated_query(stock, item, style, 1) for item in wanted for style in QueryStyle]
    return [query for query in found if query][:count]


def _chinese_queries(count: int) -> list[str]:
    """Return one to three words of the composed titles, together or with blanks."""
    random = np.random.default_rng(2)
    parts = (COLOURS, STUFFS, GOODS, SIZES)
    found = []
    for number in range(count):
        chosen = sorted(random.choice(len(parts), 1 + number % 3, replace=False).tolist())
        found.append((" " * (number % 2)).join(str(random.choice(parts[part])) for part in chosen))
    return found
