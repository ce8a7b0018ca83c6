"""Plain questions straight from their bytes: what most callers send most of the time, in a fraction of the time.

What is read here is what `server.serving.wire` reads of the same bytes; tests hold the two together. Whatever is
unusual or wrong is left to it, so that there is one place that refuses.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from proto.ranking_bounds import MAX_ID_CHARACTERS, MAX_TIMESTAMP
from server.serving.kernels_wire import FACTS, plain_request
from server.serving.query import NOTHING, Events, RankQuery, Surface
from server.serving.wire import KINDS, MAX_EVENTS, MAX_K, MAX_REQUEST_ID_CHARACTERS, SURFACES

_LEAST_EVENT = 4
"""Bytes of an event at least: tag and length, and its kind with its tag."""


def plain_question(content: bytes, now: int, new_id: Callable[[], str]) -> RankQuery | None:
    """The question in some bytes; None where they have to be read in full.

    `now` in Unix seconds stands in for an absent timestamp, and `new_id` makes an absent request id.
    """
    facts = np.empty(FACTS, dtype=np.int64)
    told = np.empty((4, min(len(content) // _LEAST_EVENT, MAX_EVENTS)), dtype=np.int64)
    if not plain_request(content, len(KINDS), MAX_TIMESTAMP, facts, told):
        return None
    number, k, moment, exclude_seen, without_reasons, *spans = facts.tolist()
    request_id, item_id, history, session = (slice(*spans[place : place + 2]) for place in range(0, 8, 2))
    surface = SURFACES.get(number)
    least = 1 if surface is Surface.DETAIL else 0
    if surface is None or surface is Surface.SEARCH:
        return None
    within = (
        1 <= k <= MAX_K
        and moment <= MAX_TIMESTAMP
        and request_id.stop - request_id.start <= MAX_REQUEST_ID_CHARACTERS
        and least <= item_id.stop - item_id.start <= MAX_ID_CHARACTERS
    )
    if not within:
        return None
    return RankQuery(
        surface=surface,
        k=k,
        timestamp=now if moment < 0 else moment,
        history=None if history.start < 0 else Events(content, told[:, history]),
        item_id=content[item_id].decode(),
        exclude_seen=bool(exclude_seen),
        session=NOTHING if session.start < 0 else Events(content, told[:, session]),
        reasons=not without_reasons,
        seed=content[request_id].decode() or new_id(),
    )
