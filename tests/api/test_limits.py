"""The body limit: over real sockets, because what matters is who closes what, and when."""

import asyncio
import re
import select
import socket
import time
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

import pytest
from starlette.exceptions import HTTPException

from embedfleet.api.http import limits
from embedfleet.api.http.limits import LINGER_SECONDS, BodyLimit
from tests.api.serving import ALPHA_KEY, MAX_UPLOAD_BYTES, Api, fetch, wait_until

PIECE = b"x" * 65_536
# What the kernels on both sides may hold besides what the server has read.
IN_FLIGHT_BYTES = 20_000_000
PART = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\n'


def connect(api: Api) -> socket.socket:
    address = urlsplit(api.url)
    return socket.create_connection((address.hostname, address.port), timeout=20)


def request(path: str, *headers: str, key: str = ALPHA_KEY) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", f"X-API-Key: {key}", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


UPLOAD = ("/api/v1/documents/upload", "Content-Type: multipart/form-data; boundary=b")


def read_answer(connection: socket.socket) -> tuple[bytes, bytes]:
    """Return head and body of an answer; reads until the server closes."""
    data = b""
    while piece := connection.recv(65_536):
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    return head.lower(), body


def test_endless_upload_is_cut_off_while_it_streams(api: Api) -> None:
    before, sent = api.stored(), 0
    with closing(connect(api)) as connection:
        connection.sendall(request(*UPLOAD, "Transfer-Encoding: chunked"))
        connection.sendall(b"%x\r\n%s\r\n" % (len(PART), PART))
        while not select.select([connection], [], [], 0)[0]:
            connection.sendall(b"%x\r\n%s\r\n" % (len(PIECE), PIECE))
            sent += len(PIECE)
            assert sent < MAX_UPLOAD_BYTES + IN_FLIGHT_BYTES, "the server reads on and on"
        started = time.monotonic()
        head, body = read_answer(connection)
    assert head.startswith(b"http/1.1 413")
    assert b"connection: close" in head
    assert b'"code":"too_large"' in body
    assert time.monotonic() - started < LINGER_SECONDS + 5
    assert api.stored() == before


@pytest.mark.parametrize(
    ("path", "content_type"),
    [UPLOAD, ("/api/v1/search", "Content-Type: application/json")],
    ids=["upload", "json"],
)
def test_announced_size_is_refused_before_a_byte_comes(api: Api, path: str, content_type: str) -> None:
    with closing(connect(api)) as connection:
        connection.sendall(request(path, content_type, "Content-Length: 10000000000", "Expect: 100-continue"))
        head, body = read_answer(connection)
    assert head.startswith(b"http/1.1 413"), head
    assert b'"code":"too_large"' in body


def test_json_that_streams_is_cut_off(api: Api) -> None:
    with closing(connect(api)) as connection:
        head = request("/api/v1/search", "Content-Type: application/json", "Transfer-Encoding: chunked")
        connection.sendall(head)
        for _ in range(limits.JSON_BYTES // len(PIECE) + 1):
            connection.sendall(b"%x\r\n%s\r\n" % (len(PIECE), PIECE))
        answer, body = read_answer(connection)
    assert answer.startswith(b"http/1.1 413")
    assert b'"code":"too_large"' in body


def test_caller_without_key_is_refused_before_the_body(api: Api) -> None:
    with closing(connect(api)) as connection:
        connection.sendall(request(*UPLOAD, "Content-Length: 100000", "Expect: 100-continue", key="wrong"))
        head, _ = read_answer(connection)
    assert head.startswith(b"http/1.1 401")
    assert b"connection: close" in head


def test_answer_arrives_though_the_client_sends_everything_first(api: Api) -> None:
    body = PART + PIECE * 60
    with closing(connect(api)) as connection:
        connection.sendall(request(*UPLOAD, f"Content-Length: {len(body)}") + body)
        head, _ = read_answer(connection)
    assert head.startswith(b"http/1.1 413")


def test_client_that_goes_away_leaves_nothing(api: Api) -> None:
    before, counted = api.stored(), gone(api)
    with closing(connect(api)) as connection:
        connection.sendall(request(*UPLOAD, "Content-Length: 200000") + PART + PIECE)
    wait_until(lambda: gone(api) > counted, 10)
    assert api.stored() == before
    assert "Traceback" not in api.log.read_text()


def gone(api: Api) -> float:
    """Return how many uploads were answered 400 so far."""
    labels = 'method="POST",route="/api/v1/documents/upload",status="400"'
    found = re.search(rf"fleet_http_requests_total{{{labels}}} (\S+)", fetch(f"{api.url}/metrics").text)
    return float(found[1]) if found else 0


def test_connection_serves_on_after_bodies_that_were_read(api: Api) -> None:
    with api.client() as client:
        for _ in range(2):
            answer = client.post("/api/v1/search", json={"collection": "none"})
            assert answer.status_code == 422
            assert "connection" not in answer.headers


def test_body_that_stops_coming_is_a_408(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "IDLE_SECONDS", 0.01)
    refused: list[HTTPException] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await receive()
        except HTTPException as error:
            refused.append(error)

    async def never() -> Any:
        await asyncio.Event().wait()

    async def unused(message: Any) -> None:
        raise AssertionError(message)

    scope = {"type": "http", "path": "/", "headers": [(b"content-length", b"5")]}
    asyncio.run(BodyLimit(app, lambda path: 10)(scope, never, unused))
    assert [error.status_code for error in refused] == [408]


def test_waiting_for_a_disconnect_has_no_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream of events waits for hours in `receive` after its request was read."""
    monkeypatch.setattr(limits, "IDLE_SECONDS", 0.01)
    messages = [{"type": "http.request", "body": b"x", "more_body": False}, {"type": "http.disconnect"}]
    got: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        got.extend([(await receive())["type"], (await receive())["type"]])

    async def receive() -> Any:
        if len(messages) == 1:
            await asyncio.sleep(0.05)
        return messages.pop(0)

    async def unused(message: Any) -> None:
        raise AssertionError(message)

    scope = {"type": "http", "path": "/", "headers": [(b"content-length", b"1")]}
    asyncio.run(BodyLimit(app, lambda path: 10)(scope, receive, unused))
    assert got == ["http.request", "http.disconnect"]
