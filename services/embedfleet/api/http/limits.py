"""Limits of a request's body, held while it streams in; nothing behind this sees a byte too much."""

from collections.abc import Callable

import anyio
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MULTIPART_ALLOWANCE_BYTES = 65_536
JSON_BYTES = 1_048_576
IDLE_SECONDS = 30.0
LINGER_SECONDS = 2.0


class BodyLimit:
    """ASGI middleware: 413 for a body that is too large, 408 for one that stops coming.

    The limit is checked when the body is first read, so a caller without a key is refused before.
    A refused client may still be sending: its bytes are thrown away for `LINGER_SECONDS` after the
    answer, because closing at once would reset the connection and lose the answer on its way.

    Args:
        app: the application behind.
        limit: bytes that a path may take.
    """

    def __init__(self, app: ASGIApp, limit: Callable[[str], int]) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = _Body(Headers(scope=scope), receive, send, self._limit(scope["path"]))
        await self._app(scope, body.receive, body.send)


class _Body:
    def __init__(self, headers: Headers, receive: Receive, send: Send, limit: int) -> None:
        self._receive, self._send, self._limit = receive, send, limit
        length = headers.get("content-length", "")
        self._announced = int(length) if length.isdecimal() else 0
        self._arrived = 0
        self._is_open = self._announced > 0 or "transfer-encoding" in headers

    async def receive(self) -> Message:
        self._check(self._announced)
        with anyio.move_on_after(IDLE_SECONDS if self._is_open else None) as waiting:
            message = await self._receive()
        if waiting.cancelled_caught:
            raise HTTPException(408, f"The body stopped coming for {IDLE_SECONDS:g} seconds; send it again.")
        if message["type"] == "http.request":
            self._arrived += len(message.get("body", b""))
            self._is_open = message.get("more_body", False)
            self._check(self._arrived)
        return message

    async def send(self, message: Message) -> None:
        if not self._is_open:
            await self._send(message)
        elif message["type"] == "http.response.start":
            MutableHeaders(raw=message["headers"])["Connection"] = "close"
            await self._send(message)
        elif message.get("more_body", False):
            await self._send(message)
        else:
            await self._send({**message, "more_body": True})
            await self._drain()
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _drain(self) -> None:
        with anyio.move_on_after(LINGER_SECONDS):
            while self._is_open:
                message = await self._receive()
                self._is_open = message["type"] == "http.request" and message.get("more_body", False)

    def _check(self, size: int) -> None:
        if size > self._limit:
            raise HTTPException(
                413, f"The body is larger than the {self._limit:,} bytes that are taken here."
            )
