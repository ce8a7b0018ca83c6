"""Log lines: only fields of the list, in either form, whatever somebody puts into a record."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from server.errors import FeedbackUnavailable
from server.serving.logs import ALLOWED, FOREIGN, AccessLog, AllowListFormatter, LogFormat, fault, fields
from server.serving.observation import Observation

CANARY = "canary-4711"


def record(
    name: str = "server.serving.x",
    message: Any = "it happened",
    *arguments: Any,
    extra: dict[str, Any] | None = None,
) -> Any:
    """A log record as a logger would make it."""
    made = logging.getLogger(name).makeRecord(name, 40, "x.py", 1, message, arguments, None, extra=extra)
    made.created, made.msecs = 1_700_000_000.25, 250.0
    return made


def line(made: Any) -> dict[str, Any]:
    """The line of a record as an object."""
    found: dict[str, Any] = json.loads(AllowListFormatter(LogFormat.JSON).format(made))
    return found


def test_a_json_line_has_the_known_fields_and_no_other() -> None:
    """What is not on the list is dropped, whoever adds it and in whatever way."""
    extra = fields(status="OK", seconds=0.25, shopper=CANARY, query=CANARY)
    found = line(record(extra={**extra, "user": CANARY}))
    assert found == {
        "time": "2023-11-14T22:13:20.250Z",
        "level": "ERROR",
        "logger": "server.serving.x",
        "event": "it happened",
        "status": "OK",
        "seconds": 0.25,
    }


@pytest.mark.parametrize("name", sorted(ALLOWED))
@pytest.mark.parametrize("value", [f"{CANARY} and more", [CANARY], {"a": CANARY}, None, b"x", "绿茶"])
def test_a_known_field_with_a_value_of_another_form_is_dropped(name: str, value: Any) -> None:
    """A list, free text or another alphabet is none of the words and numbers that a field may hold."""
    assert name not in line(record(extra=fields(**{name: value})))


def test_the_arguments_of_a_message_do_not_leave() -> None:
    """A message stays as it stands in the source, so that nobody's data can be filled in; numbers can."""
    assert line(record("server.x", "%d of %.1f", 3, 2.5))["event"] == "3 of 2.5"
    assert line(record("server.x", "%d of %s", 3, CANARY))["event"] == "%d of %s"
    found = line(record("server.serving.x", "shopper %s bought %s", CANARY, CANARY))
    assert found["event"] == "shopper %s bought %s"
    assert CANARY not in AllowListFormatter(LogFormat.TEXT).format(record("client.x", "shopper %s", CANARY))


def test_a_message_of_another_library_is_kept_back() -> None:
    """It may quote a request; the name of its logger says where to look."""
    for foreign in (record("grpc._server", f"bad {CANARY}"), record("server.x", ValueError(CANARY))):
        found = line(foreign)
        assert found["event"] == FOREIGN
        assert CANARY not in json.dumps(found)


def test_an_error_of_ours_is_explained_and_another_only_named() -> None:
    """Our errors hold nobody's data; the words of a foreign one may."""
    ours = line(record(extra=fault(FeedbackUnavailable("the event store is full"))))
    assert (ours["error"], ours["why"]) == ("FeedbackUnavailable", "the event store is full")
    foreign = line(record(extra=fault(ValueError(CANARY))))
    assert (foreign["error"], "why" in foreign) == ("ValueError", False)


def test_a_text_line_says_the_same_in_one_line_for_people() -> None:
    """Fields follow the message."""
    text = AllowListFormatter(LogFormat.TEXT).format(record(extra=fields(status="OK", shopper=CANARY)))
    assert text == "2023-11-14T22:13:20.250Z ERROR server.serving.x: it happened status=OK"


def test_the_access_log_writes_its_share_of_calls(caplog: pytest.LogCaptureFixture) -> None:
    """Half of them, by the draw; nothing at all by default."""
    call = Observation(method="Rank", began=0.0, surface="home", items=10, cold_start=True)
    draws = iter([0.4, 0.6, 0.1])
    log = AccessLog(0.5, lambda: next(draws))
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            log.began(call)
            log.ended(call, "OK", 0.0123456)
        silent = AccessLog(0.0, lambda: 0.0)
        silent.ended(call, "OK", 0.1)
    told = [line(made) for made in caplog.records]
    assert len(told) == 2
    assert {key: told[0][key] for key in ("event", "method", "surface", "status", "seconds", "items")} == {
        "event": "call",
        "method": "Rank",
        "surface": "home",
        "status": "OK",
        "seconds": 0.012346,
        "items": 10,
    }
