"""The deletion test of reasons on a trained model: ask again without the named cause, and see the item fall."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from evaluation.bench.rows import Row
from evaluation.errors import ProtocolError
from server.serving.engine import Engine
from server.serving.query import Events, RankQuery

DEEP = 200
LEAST = 0.9


@dataclass(frozen=True, kw_only=True)
class Deletions:
    """Of `items` listed, `named` have a reason that names a cause; without it so many have a lower score or place."""

    items: int
    named: int
    lower_score: int
    lower_place: int


def deletions(engine: Engine, queries: Sequence[RankQuery]) -> Deletions:
    """Ask every question with its reasons, and once more for each cause that was named.

    An item beyond the best `DEEP` of the second answer has fallen in both ways. Raises `ProtocolError` for
    histories as columns.
    """
    items = named = score = place = 0
    for query in queries:
        ranking = engine.rank([replace(query, reasons=True)])[0]
        items += len(ranking.items)
        answers = {
            cause: _without(engine, query, cause)
            for cause in {reason.item_id for reason in ranking.reasons} - {""}
        }
        for at, (item, before, reason) in enumerate(
            zip(ranking.items.tolist(), ranking.scores.tolist(), ranking.reasons, strict=True)
        ):
            if reason.item_id:
                now_at, after = answers[reason.item_id].get(item, (DEEP, float("-inf")))
                named += 1
                score += after < before
                place += now_at > at
    return Deletions(items=items, named=named, lower_score=score, lower_place=place)


def _without(engine: Engine, query: RankQuery, cause: str) -> dict[int, tuple[int, float]]:
    """Place and score of each item in the answer to the question without every event of `cause`.

    What was done with stays barred, so that the cause itself takes no place.
    """
    history = query.history or ()
    if isinstance(history, Events):
        raise ProtocolError("the deletion test reads histories event by event; give a sequence of PastEvent")
    kept = [event for event in history if event.item_id != cause]
    shorter = replace(query, history=kept, hidden=(*query.hidden, cause), k=DEEP, reasons=False)
    ranking = engine.rank([shorter])[0]
    pairs = zip(ranking.items.tolist(), ranking.scores.tolist(), strict=True)
    return {item: (place, score) for place, (item, score) in enumerate(pairs)}


def reason_rows(found: Deletions) -> list[Row]:
    """How many items have a named cause, and how many of these fall without it."""
    causes = max(found.named, 1)
    return [
        Row(
            measure="listed items whose reason names a cause",
            value=found.named / max(found.items, 1),
            unit="share",
        ),
        Row(
            measure="of these, items with a lower score without the cause",
            value=found.lower_score / causes,
            unit="share",
            target=LEAST,
        ),
        Row(
            measure="of these, items in a lower place without the cause",
            value=found.lower_place / causes,
            unit="share",
        ),
    ]
