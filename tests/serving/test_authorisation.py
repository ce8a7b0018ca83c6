"""Every method of the server for every role, from a table of its own: deny by default."""

from __future__ import annotations

import time

import pytest
from certificates_world import DOMAIN, MERCHANT, Call, Pki, make_pki
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from proto.fedrank.ranking.v1 import ranking_pb2
from server.errors import Forbidden
from server.serving.authorisation import ALLOWED, EVERYTHING, REFLECTION
from server.serving.guard import CertificateGuard, LocalGuard, Rules
from server.serving.identity import Role
from server.serving.quotas import Quota

COLUMNS = (Role.STOREFRONT, Role.READER, Role.RECORDER, Role.MONITOR, Role.DEVELOPER)
YES, NO = True, False
TABLE = {
    "/fedrank.ranking.v1.RankingService/Rank": (YES, YES, NO, NO, NO),
    "/fedrank.ranking.v1.RankingService/RecordEvents": (YES, NO, YES, NO, NO),
    "/grpc.health.v1.Health/Check": (YES, YES, YES, YES, YES),
    "/grpc.health.v1.Health/Watch": (YES, YES, YES, YES, YES),
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": (NO, NO, NO, NO, YES),
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo": (NO, NO, NO, NO, YES),
    "/fedrank.ranking.v1.RankingService/Delete": (NO,) * 5,
    "/fedrank.ranking.v1.RankingService/rank": (NO,) * 5,
    "/fedrank.ranking.v1.RankingService/Rank/": (NO,) * 5,
    "fedrank.ranking.v1.RankingService/Rank": (NO,) * 5,
    "/fedrank.ranking.v2.RankingService/Rank": (NO,) * 5,
    "/grpc.health.v1.Health/List": (NO,) * 5,
    "/grpc.channelz.v1.Channelz/GetServers": (NO,) * 5,
    "": (NO,) * 5,
    "/": (NO,) * 5,
    "*": (NO,) * 5,
}
"""What each role may call, written here a second time by hand."""


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    """An authority."""
    return make_pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture
def guard() -> CertificateGuard:
    """The guard of one merchant's endpoint."""
    rules = Rules(merchants=frozenset({MERCHANT}), domain=DOMAIN, quota=Quota())
    return CertificateGuard(rules, lambda issuer, serial: False, time.time, lambda: 0.0)


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("method", TABLE)
def test_a_role_may_call_what_the_table_says_and_nothing_else(
    guard: CertificateGuard, pki: Pki, method: str, role: Role
) -> None:
    """All methods, those that do not exist included, for all roles."""
    call = Call(pki.role(role).certificate)
    if TABLE[method][COLUMNS.index(role)]:
        caller = guard.admit(call, method)
        assert (caller.merchant, caller.role) == (MERCHANT, role)
    else:
        with pytest.raises(Forbidden, match=f"the role {role} may not call this method"):
            guard.admit(call, method)


@pytest.mark.parametrize("method", TABLE)
def test_the_unchecked_caller_may_call_what_somebody_may_and_nothing_else(method: str) -> None:
    """Without TLS the table's methods are the only ones too."""
    guard = LocalGuard(Quota(), lambda: 0.0)
    if any(TABLE[method]):
        assert guard.admit(Call(None), method).merchant is None
    else:
        with pytest.raises(Forbidden):
            guard.admit(Call(None), method)


def test_every_method_of_every_service_stands_in_the_table() -> None:
    """A method that is added to a service fails this test until somebody decides who may call it."""
    files = (ranking_pb2, health_pb2, reflection_pb2)
    services = [service for file in files for service in file.DESCRIPTOR.services_by_name.values()]
    methods = {f"/{service.full_name}/{method.name}" for service in services for method in service.methods}
    unserved = {"/grpc.health.v1.Health/List"}
    assert methods - unserved == EVERYTHING - {REFLECTION[0]}
    assert set(ALLOWED) == set(Role) == set(COLUMNS)
    assert {method for method, row in TABLE.items() if any(row)} == EVERYTHING
