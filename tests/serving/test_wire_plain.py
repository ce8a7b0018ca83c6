"""Plain questions read from their bytes are those that protobuf reads; whatever is not plain is left to it."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from model.features import KINDS
from proto.fedrank.ranking.v1 import ranking_pb2 as pb
from proto.ranking_bounds import MAX_TIMESTAMP
from server.errors import InvalidRequest
from server.serving.query import Events, RankQuery
from server.serving.wire import read_query
from server.serving.wire_plain import plain_question

NOW = 1_700_000_000
NEW = "made here"

seconds = st.one_of(st.integers(0, MAX_TIMESTAMP), st.integers(-5, 2**40), st.integers(-(2**63), 2**63 - 1))
times = st.fixed_dictionaries({"seconds": seconds}, optional={"nanos": st.integers(-(2**31), 2**31 - 1)})
ids = st.one_of(st.text("item-09", max_size=9), st.text(max_size=4), st.text("x", min_size=250, max_size=260))
events = st.fixed_dictionaries(
    {"item_id": ids, "kind": st.one_of(st.integers(1, len(KINDS)), st.integers(-(2**31), 9))},
    optional={"time": times},
)
histories = st.fixed_dictionaries({"events": st.lists(events, max_size=6)})
plain_fields: dict[str, Any] = {
    "request_id": st.one_of(st.text("abc-0", max_size=6), st.text(max_size=140)),
    "surface": st.integers(-1, 8),
    "k": st.one_of(st.integers(1, 200), st.integers(0, 2**32 - 1)),
    "history": histories,
    "context": st.fixed_dictionaries({}, optional={"timestamp": times, "segment": st.integers(0, 3)}),
    "item_id": ids,
    "exclude_seen": st.booleans(),
    "session": histories,
    "without_reasons": st.booleans(),
}
other_fields: dict[str, Any] = {
    "user_embedding": st.fixed_dictionaries({"values": st.lists(st.floats(width=32), max_size=3)}),
    "shopper": ids,
    "query": ids,
    "hidden_item_ids": st.lists(ids, max_size=2),
    "categories": st.lists(ids, max_size=2),
    "merchant_ids": st.lists(ids, max_size=2),
}
usual = st.builds(
    lambda events, moment: pb.RankRequest(
        surface=pb.SURFACE_HOME, k=20, history={"events": events}, context={"timestamp": moment}
    ),
    st.lists(
        st.fixed_dictionaries(
            {"item_id": st.text("item-09", max_size=9), "kind": st.integers(1, len(KINDS))},
            optional={"time": st.fixed_dictionaries({"seconds": st.integers(0, MAX_TIMESTAMP)})},
        ),
        max_size=6,
    ),
    st.fixed_dictionaries({"seconds": st.integers(0, MAX_TIMESTAMP)}),
)


def compared(query: RankQuery) -> dict[str, Any]:
    """Every field of a question, events as lists."""
    fields = {name: getattr(query, name) for name in query.__dataclass_fields__}
    for name in ("history", "session"):
        told = fields[name]
        if isinstance(told, Events):
            fields[name] = (told.item_ids, told.kinds.tolist(), told.times.tolist())
    for name in ("hidden", "categories", "merchants"):
        fields[name] = list(fields[name])
    return {**fields, "seed": fields["seed"] or NEW}


def check_against_protobuf(content: bytes) -> RankQuery | None:
    """What is read as plain is what protobuf reads, and is no question that would be refused."""
    query = plain_question(content, NOW, lambda: NEW)
    if query is not None:
        request = pb.RankRequest.FromString(content)
        assert request.WhichOneof("profile") != "shopper"
        assert compared(query) == compared(read_query(request, NOW))
    return query


@given(usual)
def test_the_usual_question_is_plain(request: pb.RankRequest) -> None:
    """Ids in ASCII, known kinds, times within bounds."""
    assert check_against_protobuf(request.SerializeToString()) is not None


@settings(max_examples=400, deadline=None)
@given(st.fixed_dictionaries({}, optional={**plain_fields, **other_fields}))
def test_any_question_is_read_as_protobuf_reads_it_or_left_to_it(fields: dict[str, Any]) -> None:
    """Fields of every value, right or wrong, there or not."""
    check_against_protobuf(pb.RankRequest(**fields).SerializeToString())


@settings(max_examples=400, deadline=None)
@given(
    st.one_of(usual, st.builds(lambda fields: pb.RankRequest(**fields), st.fixed_dictionaries(plain_fields))),
    st.lists(
        st.tuples(st.integers(0, 400), st.integers(0, 2), st.binary(max_size=11)), min_size=1, max_size=4
    ),
)
def test_damaged_bytes_are_read_as_protobuf_reads_them_or_left_to_it(
    request: pb.RankRequest, damages: list[tuple[int, int, bytes]]
) -> None:
    """Cut, overwritten, with bytes put in: tags, lengths and numbers of any size and form come about."""
    content = request.SerializeToString()
    for place, removed, put_in in damages:
        place = min(place, len(content))
        content = content[:place] + put_in + content[place + removed :]
    check_against_protobuf(content)


@settings(max_examples=200, deadline=None)
@given(st.lists(usual.map(pb.RankRequest.SerializeToString), min_size=2, max_size=3))
def test_fields_that_come_again_are_read_as_protobuf_reads_them_or_left_to_it(parts: list[bytes]) -> None:
    """A number counts as told last; a history that comes twice is one long history."""
    check_against_protobuf(b"".join(parts))


def test_what_would_be_refused_is_never_plain() -> None:
    """It is left to where refusals are made."""
    for wrong in ({"k": 0}, {"k": 201}, {"surface": 0}, {"surface": 2}, {"surface": 3}, {"surface": 99}):
        request = pb.RankRequest(**{"surface": pb.SURFACE_HOME, "k": 1, **wrong})  # type: ignore[arg-type]
        assert plain_question(request.SerializeToString(), NOW, str) is None
        try:
            read_query(request, NOW)
        except InvalidRequest:
            continue
        raise AssertionError(f"{wrong} is refused by nobody")
