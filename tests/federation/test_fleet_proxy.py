"""The coordinator's one door: members' calls go through, everything else ends there."""

from __future__ import annotations

import asyncio
import logging
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.proto.fleet_pb2 import PullMessagesRequest
from flwr.proto.node_pb2 import Node
from member_files import AFTER_THE_END, Fellowship, public, signed
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from server.coordination import fleet_proxy
from server.coordination.fleet_proxy import CALLS_AT_ONCE, SMALL, FleetProxy
from server.coordination.held_questions import HELD_AT_ONCE
from server.coordination.mail import Mail
from server.coordination.members import LOOK_SECONDS

BEAT = "/v1/fleet/send-node-heartbeat"


@dataclass
class Upstream:
    """Stands for the SuperLink: notes what arrives."""

    calls: list[tuple[str, bytes, dict[str, str]]] = field(default_factory=list)

    async def answer(self, request: Request) -> Response:
        """Note a call and answer it."""
        self.calls.append((request.url.path, await request.body(), dict(request.headers)))
        return Response(b"answer", 200, media_type="application/x-protobuf")

    def app(self) -> Starlette:
        """Answers every path, so that only the proxy decides what comes here."""
        return Starlette(routes=[Route("/{path:path}", self.answer, methods=["GET", "POST"])])


@dataclass
class Door:
    """A proxy before an upstream, and a member who can call."""

    fellowship: Fellowship
    key: ec.EllipticCurvePrivateKey
    upstream: Upstream = field(default_factory=Upstream)
    mail: Mail = field(default_factory=lambda: Mail(Path("/nowhere/superlink.db")))
    proxy: FleetProxy = field(init=False)

    def headers(self, key: ec.EllipticCurvePrivateKey | None = None) -> dict[str, str]:
        """What a node shows with a call."""
        key, time = key or self.key, "2026-11-22T12:00:00+00:00"
        return {
            "flwr-public-key": b64encode(public(key)).decode(),
            "flwr-timestamp": time,
            "flwr-signature": b64encode(signed(key, time.encode())).decode(),
            "content-type": "application/x-protobuf",
        }

    def run(
        self, calls: Callable[[httpx.AsyncClient], Coroutine[None, None, httpx.Response]]
    ) -> httpx.Response:
        """Make calls through a fresh proxy and return what the last one got."""

        async def made() -> httpx.Response:
            behind = httpx.AsyncClient(
                transport=httpx.ASGITransport(self.upstream.app()), base_url="http://superlink"
            )
            self.proxy = proxy = FleetProxy(self.fellowship.members(), self.mail, behind)
            async with (
                behind,
                httpx.AsyncClient(
                    transport=httpx.ASGITransport(proxy.app()), base_url="http://proxy"
                ) as client,
            ):
                return await calls(client)

        return asyncio.run(made())

    def post(
        self,
        path: str,
        content: bytes | AsyncIterator[bytes] = b"question",
        headers: dict[str, str] | None = None,
    ) -> httpx.Response:
        """Make one call as the member, with more headers."""
        shown = self.headers() | (headers or {})
        return self.run(lambda client: client.post(path, content=content, headers=shown))


@pytest.fixture
def door(tmp_path: Path) -> Door:
    """A proxy with one member, north."""
    fellowship = Fellowship(tmp_path)
    return Door(fellowship, fellowship.admit("north"))


def test_a_members_call_goes_through_whole(door: Door) -> None:
    """Body and answer are passed on as they are; of the headers, Flower's own and the type."""
    answer = door.post(BEAT, headers={"cookie": "x=1", "x-forwarded-for": "10.0.0.1"})
    assert (answer.status_code, answer.content) == (200, b"answer")
    ((path, body, headers),) = door.upstream.calls
    assert (path, body) == (BEAT, b"question")
    assert headers["flwr-public-key"] == door.headers()["flwr-public-key"]
    assert "cookie" not in headers
    assert "x-forwarded-for" not in headers


@pytest.mark.parametrize(
    "path",
    [
        "/v1/control/start-run",
        "/v1/control/list-nodes",
        "/v1/runtime/acquire-task",
        "/v1/fleet/register-node",
        "/v1/fleet/unregister-node",
        "/v1/fleet/pull-messages/../../control/start-run",
        "/health",
        "/docs",
    ],
)
def test_nothing_but_the_calls_of_nodes_is_forwarded(door: Door, path: str) -> None:
    """Control and runtime calls, and registration, end at the door, whoever makes them."""
    assert door.post(path).status_code == 404
    assert door.upstream.calls == []


def test_a_call_without_a_signature_ends_at_the_door(door: Door) -> None:
    """Nobody is let in for knowing a public key."""
    answer = door.run(lambda client: client.post(BEAT, headers={"flwr-public-key": "AAAA"}))
    assert answer.status_code == 401
    assert door.upstream.calls == []


def test_a_strangers_call_ends_at_the_door(door: Door) -> None:
    """A key that belongs to no member is turned away with the next step."""
    stranger = door.headers(ec.generate_private_key(ec.SECP256R1()))
    answer = door.run(lambda client: client.post(BEAT, headers=stranger))
    assert answer.status_code == 401
    assert "belongs to no member" in answer.json()["detail"]
    assert door.upstream.calls == []


def test_a_revoked_member_is_told_why_and_the_log_names_it_once(
    door: Door, caplog: pytest.LogCaptureFixture
) -> None:
    """The reason reaches the node, and the coordinator's log has the merchant's id in one line."""
    door.fellowship.revoke("north")

    async def twice(client: httpx.AsyncClient) -> httpx.Response:
        await client.post(BEAT, headers=door.headers())
        return await client.post(BEAT, headers=door.headers())

    with caplog.at_level(logging.WARNING):
        answer = door.run(twice)
    assert answer.status_code == 401
    assert "revoked" in answer.json()["detail"]
    assert [record.getMessage() for record in caplog.records if "north" in record.getMessage()] == [
        "merchant north is turned away: " + answer.json()["detail"]
    ]


def test_an_expired_member_is_turned_away(door: Door) -> None:
    """The end of a certificate needs nobody to act."""
    door.fellowship.times.wall += AFTER_THE_END
    answer = door.post(BEAT)
    assert answer.status_code == 401
    assert "expired" in answer.json()["detail"]


def test_a_body_that_is_too_large_is_not_kept(door: Door) -> None:
    """Reading stops at the bound of the call, whatever length was announced."""
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(1000):
            sent += 1
            yield bytes(SMALL // 4)

    assert door.post(BEAT, endless()).status_code == 413
    assert door.upstream.calls == []


def test_a_body_that_comes_too_slowly_is_given_up(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that stops sending holds no place for ever."""
    monkeypatch.setattr(fleet_proxy, "BODY_SECONDS", 0.05)

    async def stuck() -> AsyncIterator[bytes]:
        yield b"begin"
        await asyncio.sleep(30)

    assert door.post(BEAT, stuck()).status_code == 408


def test_a_member_that_sends_slowly_leaves_places_to_the_others(door: Door) -> None:
    """However many calls of north have begun, south's heartbeat goes through at once."""
    south = door.headers(door.fellowship.admit("south"))

    async def stuck() -> AsyncIterator[bytes]:
        yield b"begin"
        await asyncio.sleep(30)

    async def all_call(client: httpx.AsyncClient) -> httpx.Response:
        slow = [
            asyncio.create_task(client.post(BEAT, content=stuck(), headers=door.headers()))
            for _ in range(CALLS_AT_ONCE + 1)
        ]
        await asyncio.sleep(0.5)
        try:
            return await asyncio.wait_for(client.post(BEAT, headers=south), 10)
        finally:
            for task in slow:
                task.cancel()

    assert door.run(all_call).status_code == 200


@dataclass
class Letters(Mail):
    """Mail of which a test says whether it has come; `then` happens while a node waits."""

    come: bool = True
    then: Callable[[], None] = lambda: None
    asked: list[int] = field(default_factory=list)

    async def arrived(self, node: int, seconds: float) -> bool:
        """Note who asks."""
        self.asked.append(node)
        self.then()
        return self.come


QUESTION = PullMessagesRequest(node=Node(node_id=7)).SerializeToString()
PULL = "/v1/fleet/pull-messages"


@pytest.mark.parametrize("come", [True, False])
def test_a_question_for_messages_reaches_the_superlink_when_there_are_some(door: Door, come: bool) -> None:
    """Otherwise the node gets Flower's answer for none, and the SuperLink is left alone."""
    door.mail = letters = Letters(come=come)
    answer = door.post(PULL, QUESTION)
    assert letters.asked == [7]
    assert (answer.status_code, answer.content) == (200, b"answer" if come else b"")
    assert len(door.upstream.calls) == int(come)


@dataclass
class Quiet(Mail):
    """Mail that never comes until a test says that the time is over."""

    asked: int = 0
    over: asyncio.Event = field(default_factory=asyncio.Event)

    async def arrived(self, node: int, seconds: float) -> bool:
        """Wait for the end."""
        self.asked += 1
        await self.over.wait()
        return False


def test_a_member_has_a_few_questions_waiting_and_the_oldest_gives_way(door: Door) -> None:
    """One too many of north: its first is answered with nothing; the others, and south's, go on waiting."""
    south = door.fellowship.admit("south")
    ended: list[str] = []

    async def ask(client: httpx.AsyncClient, name: str, headers: dict[str, str]) -> httpx.Response:
        answer = await client.post(PULL, content=QUESTION, headers=headers)
        ended.append(name)
        return answer

    door.mail = mail = Quiet()

    async def all_ask(client: httpx.AsyncClient) -> httpx.Response:
        names = ["south", *(f"north {number}" for number in range(HELD_AT_ONCE + 2))]
        tasks = []
        for number, name in enumerate(names):
            headers = door.headers(south if name == "south" else None)
            tasks.append(asyncio.create_task(ask(client, name, headers)))
            while mail.asked <= number:
                await asyncio.sleep(0)
        while len(ended) < 2:
            await asyncio.sleep(0)
        assert ended == ["north 0", "north 1"]
        mail.over.set()
        return (await asyncio.gather(*tasks))[1]

    answer = door.run(all_ask)
    assert (answer.status_code, answer.content) == (200, b"")
    assert len(ended) == HELD_AT_ONCE + 3 and door.upstream.calls == []


def test_a_coordinator_that_ends_answers_whoever_waits(door: Door) -> None:
    """Questions are answered with nothing, those that wait and those that still come; nobody is cut off."""
    door.mail = mail = Quiet()

    async def end(client: httpx.AsyncClient) -> httpx.Response:
        first = asyncio.create_task(client.post(PULL, content=QUESTION, headers=door.headers()))
        while not mail.asked:
            await asyncio.sleep(0)
        door.proxy.end()
        assert (await first).content == b""
        return await client.post(PULL, content=QUESTION, headers=door.headers())

    answer = door.run(end)
    assert (answer.status_code, answer.content, door.upstream.calls) == (200, b"", [])


@pytest.mark.parametrize("ending", [True, False])
def test_a_call_that_is_cut_off_by_the_end_is_told_so(door: Door, ending: bool) -> None:
    """It is an answer of its own; what is cut off for another reason is not taken for the end."""

    async def stuck() -> AsyncIterator[bytes]:
        if ending:
            door.proxy.end()
        yield b"begin"
        raise asyncio.CancelledError

    if ending:
        assert door.post(BEAT, stuck()).status_code == 503
    else:
        with pytest.raises(asyncio.CancelledError):
            door.post(BEAT, stuck())


def test_a_node_that_is_revoked_while_it_waits_gets_nothing(door: Door) -> None:
    """Membership is looked at again before its message is taken from the SuperLink."""

    def revoked() -> None:
        door.fellowship.revoke("north")
        door.fellowship.times.later(LOOK_SECONDS)

    door.mail = Letters(then=revoked)
    assert door.post(PULL, QUESTION).status_code == 401
    assert door.upstream.calls == []


def test_a_question_for_messages_that_is_none_is_refused(door: Door) -> None:
    """Bytes that are no question never reach the SuperLink."""
    assert door.post(PULL, b"\xff\xff\xff").status_code == 400


def test_a_superlink_that_is_away_is_told_as_such(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes get the status on which Flower tries again."""

    async def refused(self: httpx.AsyncClient, *_: object, **__: object) -> httpx.Response:
        raise httpx.ConnectError("refused")

    async def call(client: httpx.AsyncClient) -> httpx.Response:
        request = client.build_request("POST", BEAT, content=b"", headers=door.headers())
        return await client.send(request)

    monkeypatch.setattr(httpx.AsyncClient, "post", refused)
    assert door.run(call).status_code == 503
