"""What each role may do: the whole table. What stands in no row is refused."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from server.serving.identity import Role

RANK: Final = "/fedrank.ranking.v1.RankingService/Rank"
RECORD_EVENTS: Final = "/fedrank.ranking.v1.RankingService/RecordEvents"
CHECK: Final = "/grpc.health.v1.Health/Check"
WATCH: Final = "/grpc.health.v1.Health/Watch"
HEALTH: Final = (CHECK, WATCH)
REFLECTION: Final = (
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
)

STREAMS: Final = frozenset({RECORD_EVENTS, WATCH, *REFLECTION})
"""Methods whose calls may last: fewer of them may be in progress at once."""

ALLOWED: Final[Mapping[Role, frozenset[str]]] = MappingProxyType(
    {
        Role.STOREFRONT: frozenset({RANK, RECORD_EVENTS, *HEALTH}),
        Role.READER: frozenset({RANK, *HEALTH}),
        Role.RECORDER: frozenset({RECORD_EVENTS, *HEALTH}),
        Role.MONITOR: frozenset(HEALTH),
        Role.DEVELOPER: frozenset({*REFLECTION, *HEALTH}),
    }
)
"""Methods by their full names, as they travel in the header `:path`."""

EVERYTHING: Final = frozenset[str]().union(*ALLOWED.values())
"""Every method that somebody may call; `local`, who is not checked, may call these and no others."""
