"""The end of a run in a federation of processes: every node is given the signed version for its own registry."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

from proto.federation import REASON, REFUSAL
from proto.versions import VERSION, WEIGHTS
from server.coordination.exchange import Answer, Exchange, one_line
from server.coordination.offering import offer_of

log = logging.getLogger("fedrank.coordination")


@dataclass(frozen=True, kw_only=True)
class Taken:
    """Who has a version now, and who does not: each of those with the reason."""

    by: tuple[str, ...]
    refused: tuple[str, ...]


def offer_version(exchange: Exchange, registry: Path, version: str) -> Taken:
    """Give a version to every node that is connected, and wait for one deadline at most.

    A node that is away keeps the version that it has; the next run offers it the next one. Raises as `offer_of` does.
    """
    offer, weights = offer_of(registry, version)
    arrays = ArrayRecord({name: Array(value) for name, value in weights.items()})
    present = exchange.participants()
    questions = {
        name: RecordDict({VERSION: ConfigRecord(dict(offer.to_record())), WEIGHTS: arrays})
        for name in present
    }
    found = {answer.participant: answer for answer in exchange.ask(f"query.{VERSION}", version, questions)}
    reasons = {name: _reason(found.get(name), version) for name in present}
    refused = tuple(f"{name}: {one_line(reason)}" for name, reason in reasons.items() if reason)
    for line in refused:
        log.warning("model version %s was not taken: %s", version, line)
    return Taken(by=tuple(name for name, reason in reasons.items() if not reason), refused=refused)


def _reason(answer: Answer | None, version: str) -> str:
    """Return why a node has not taken the version; nothing if it has."""
    if answer is None:
        return "no answer came in time"
    if answer.content is None:
        return answer.fault
    records = answer.content.config_records
    if REFUSAL in records:
        return str(records[REFUSAL].get(REASON, "it gave no reason"))
    kept = records[VERSION].get(VERSION) if VERSION in records else None
    return "" if kept == version else "its answer names another version"
