"""The one door of the coordinator: forwards the fleet's calls of members to the SuperLink, and nothing else.

A node signs the time of every call with its key. Before a body is read, that key must belong to a member whose
certificate is valid now, and the signature must be its. The SuperLink then checks the signature and the node again.
A node's question for messages is held until there is one, or for `HOLD_SECONDS`; of each member only a few are.
"""

from __future__ import annotations

import asyncio
import binascii
import logging
from base64 import b64decode
from collections import defaultdict
from collections.abc import Mapping
from typing import Final

import httpx
from flwr.common.constant import TIMESTAMP_HEADER
from flwr.proto.fleet_pb2 import PullMessagesRequest
from flwr.supercore.constant import FLEET_HTTP_PUBLIC_KEY_HEADER, FLEET_HTTP_SIGNATURE_HEADER
from flwr.supercore.protobuf.constants import PROTOBUF_MEDIA_TYPE
from google.protobuf.message import DecodeError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from server.coordination.held_questions import HeldQuestions
from server.coordination.mail import Mail
from server.coordination.members import Members, NotAMember

log = logging.getLogger("fedrank.coordination.fleet")

SMALL, LARGE = 64 * 1024, 8 * 1024 * 1024
LARGEST_BODY: Final[Mapping[str, int]] = {
    "activate-node": SMALL,
    "deactivate-node": SMALL,
    "send-node-heartbeat": SMALL,
    "pull-messages": SMALL,
    "get-run": SMALL,
    "get-fab": SMALL,
    "pull-object": SMALL,
    "confirm-message-received": SMALL,
    "push-messages": LARGE,
    "push-object": LARGE,
}
"""The calls that are forwarded, and the bytes that each may bring. Flower cuts arrays into objects of 5 MiB."""
PULL: Final = "pull-messages"
HOLD_SECONDS: Final = 3.0
BODY_SECONDS: Final = 60.0
"""How long a node may take to send a body."""
ANSWER_SECONDS: Final = 30.0
CALLS_AT_ONCE: Final = 64
"""Calls of which bodies are held in memory at one time; others wait."""
CALLS_OF_A_MEMBER: Final = 8
"""Those of one member, whose others wait for its own alone: a node has two bodies on their way, and its heartbeat."""
FORWARDED_AT_ONCE: Final = 4
"""Calls that the SuperLink works on at one time: its database takes one writer, and more of them only wait."""
_LONGEST_HEADER: Final = 4096
_PASSED_ON: Final = ("content-type", "accept")
_PREFIX: Final = "flwr-"


class TooLarge(Exception):
    """A body is larger than its call may bring."""


class FleetProxy:
    """Answers the fleet's calls."""

    def __init__(self, members: Members, mail: Mail, superlink: httpx.AsyncClient) -> None:
        """Forward to the SuperLink that the client's base address names; `mail` looks into its database."""
        self._members, self._mail, self._superlink = members, mail, superlink
        self._places = asyncio.Semaphore(CALLS_AT_ONCE)
        self._places_of = defaultdict[str, asyncio.Semaphore](lambda: asyncio.Semaphore(CALLS_OF_A_MEMBER))
        self._turns = asyncio.Semaphore(FORWARDED_AT_ONCE)
        self._questions = HeldQuestions()
        self._turned_away: dict[str, str] = {}
        self._away = self._ending = False

    def end(self) -> None:
        """Answer what waits now, and nothing later than that: this process ends."""
        self._ending = True
        self._questions.end()

    def app(self) -> Starlette:
        """The application to serve."""
        return Starlette(routes=[Route("/v1/fleet/{call}", self.answer, methods=["POST"])])

    async def answer(self, request: Request) -> Response:
        """Forward one call, or say why not."""
        call = request.path_params["call"]
        if call not in LARGEST_BODY:
            return _refused(404, f"there is no call {call[:64]!r} here")
        try:
            merchant = self._members.check(*_shown(request))
            self._welcome(merchant)
            if call == PULL:
                return await self._held(request, merchant)
            async with self._places_of[merchant], self._places:
                body = await self._body(request, call, merchant)
                return body if isinstance(body, Response) else await self._forwarded(request, call, body)
        except NotAMember as refusal:
            return self._turn_away(refusal)
        except asyncio.CancelledError:
            if not self._ending:
                raise
            return _refused(503, "the coordinator ends; try again")

    async def _held(self, request: Request, merchant: str) -> Response:
        """Forward a question for messages when there is one; a node that has gone meanwhile would lose it."""
        body = await self._body(request, PULL, merchant)
        if isinstance(body, Response):
            return body
        try:
            node = PullMessagesRequest.FromString(body).node.node_id
        except DecodeError:
            return _refused(400, "the question for messages cannot be read")
        arrived = await self._questions.hold(merchant, self._mail.arrived(node, HOLD_SECONDS))
        if not arrived or await request.is_disconnected():
            return Response(b"", media_type=PROTOBUF_MEDIA_TYPE)
        self._members.check(*_shown(request))  # it may have been revoked meanwhile
        return await self._forwarded(request, PULL, body)

    async def _body(self, request: Request, call: str, merchant: str) -> bytes | Response:
        """Read a body within its bounds, or say why not."""
        try:
            async with asyncio.timeout(BODY_SECONDS):
                return await _read(request, LARGEST_BODY[call])
        except TooLarge:
            log.warning("merchant %s sends more than %d bytes with %s", merchant, LARGEST_BODY[call], call)
            return _refused(413, f"{call} may bring {LARGEST_BODY[call]} bytes; send less")
        except TimeoutError:
            log.warning("merchant %s took more than %.0f seconds to send %s", merchant, BODY_SECONDS, call)
            return _refused(408, f"the body took more than {BODY_SECONDS:.0f} seconds; try again")

    async def _forwarded(self, request: Request, call: str, body: bytes) -> Response:
        headers = {
            name: value
            for name, value in request.headers.items()
            if name in _PASSED_ON or name.startswith(_PREFIX)
        }
        try:
            async with self._turns:
                answer = await self._superlink.post(f"/v1/fleet/{call}", content=body, headers=headers)
        except httpx.HTTPError as error:
            if not self._away:
                log.warning(
                    "the SuperLink does not answer (%s); nodes are told to try again", type(error).__name__
                )
            self._away = True
            return _refused(503, "the coordinator is starting; try again")
        self._away = False
        return Response(answer.content, answer.status_code, media_type=answer.headers.get("content-type"))

    def _turn_away(self, refusal: NotAMember) -> Response:
        reason = str(refusal)
        if self._turned_away.get(refusal.merchant) != reason:
            self._turned_away[refusal.merchant] = reason
            log.warning("merchant %s is turned away: %s", refusal.merchant or "(unknown)", reason)
        return _refused(401, reason)

    def _welcome(self, merchant: str) -> None:
        if self._turned_away.pop(merchant, None) is not None:
            log.info("merchant %s is let in again", merchant)


def _shown(request: Request) -> tuple[bytes, bytes, bytes]:
    """Return the key (PEM), the signed time and the signature that a call shows."""
    headers = request.headers
    try:
        time = headers[TIMESTAMP_HEADER]
        key, signature = headers[FLEET_HTTP_PUBLIC_KEY_HEADER], headers[FLEET_HTTP_SIGNATURE_HEADER]
        if max(len(time), len(key), len(signature)) > _LONGEST_HEADER:
            raise ValueError
        return b64decode(key, validate=True), time.encode("ascii"), b64decode(signature, validate=True)
    except (KeyError, ValueError, binascii.Error) as error:
        raise NotAMember("", "the call shows no key and signature of a node") from error


async def _read(request: Request, largest: int) -> bytes:
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > largest:
            raise TooLarge
        parts.append(part)
    return b"".join(parts)


def _refused(status: int, reason: str) -> JSONResponse:
    """Answer in Flower's form, so that a node's log shows the reason."""
    return JSONResponse({"code": status, "detail": reason}, status)
