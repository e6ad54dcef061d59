"""A TCP relay in front of a server: passes, delays, refuses, swallows, or cuts at an exact request.

It runs on a thread of its own. What clients send is read as Redis commands or as HTTP requests, so a
trap can say "when somebody is about to write to `unacked`": the trap's action runs first, then the
connection is gone and the request never reaches the server.
"""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from embedfleet.local.ports import LOOPBACK

READ_BYTES = 65_536
FIRST_LINE_BYTES = 300

Split = Callable[[bytearray], Iterator[tuple[bytes, list[bytes]]]]


@dataclass(slots=True)
class Trap:
    """What to do at the first request that matches.

    Attributes:
        matches: takes the request's words.
        action: takes the TCP port of the client that sent it.
        sprung: set once it has happened.
    """

    matches: Callable[[list[bytes]], bool]
    action: Callable[[int], None]
    sprung: threading.Event


def commands(buffer: bytearray) -> Iterator[tuple[bytes, list[bytes]]]:
    """Take whole commands off a buffer; yield each as it was sent, and as its words."""
    while words := _words(buffer):
        length, command = words
        raw = bytes(buffer[:length])
        del buffer[:length]
        yield raw, command


def _words(buffer: bytearray) -> tuple[int, list[bytes]] | None:
    """Return the length of the first command and its words, or None while it isn't whole."""
    end = buffer.find(b"\r\n")
    if end < 0:
        return None
    if buffer[:1] != b"*":
        return end + 2, bytes(buffer[:end]).split()
    count, position, found = int(buffer[1:end]), end + 2, []
    for _ in range(count):
        end = buffer.find(b"\r\n", position)
        if end < 0:
            return None
        start, length = end + 2, int(buffer[position + 1 : end])
        position = start + length + 2
        if len(buffer) < position:
            return None
        found.append(bytes(buffer[start : start + length]))
    return position, found


def requests(buffer: bytearray) -> Iterator[tuple[bytes, list[bytes]]]:
    """Take what has come of an HTTP request; its words are those of the first line."""
    raw = bytes(buffer)
    buffer.clear()
    yield raw, raw[:FIRST_LINE_BYTES].split(b"\r\n", 1)[0].split()


class Relay:
    """A context manager; clients are given its `port` in place of the server's own.

    Args:
        target: TCP port of the server behind it.
        split: takes whole requests off a buffer.
    """

    def __init__(self, target: int, split: Split = commands) -> None:
        self._target, self._split = target, split
        self._loop = asyncio.new_event_loop()
        self._writers: set[asyncio.StreamWriter] = set()
        self._traps: list[Trap] = []
        self._open = asyncio.Event()
        self._open.set()
        self._refusing = False
        self._delay = 0.0
        self.port = 0

    def trap(self, matches: Callable[[list[bytes]], bool], action: Callable[[int], None]) -> threading.Event:
        """Set a trap for one request; return the event that says it was sprung."""
        trap = Trap(matches, action, threading.Event())
        self._call(lambda: self._traps.append(trap))
        return trap.sprung

    def disarm(self) -> None:
        """Take all traps away."""
        self._call(self._traps.clear)

    def swallow(self) -> None:
        """Be a black hole: connections stay, connects succeed, no byte passes until `heal`."""
        self._call(self._open.clear)

    def refuse(self) -> None:
        """Cut all connections and end every new one at once."""

        def cut() -> None:
            self._refusing = True
            self._cut()

        self._call(cut)

    def cut(self) -> None:
        """Cut all connections; new ones pass."""
        self._call(self._cut)

    def delay(self, seconds: float) -> None:
        """Hold every piece of data back for so long."""
        self._delay = seconds

    def heal(self) -> None:
        """Pass everything again."""
        self._delay = 0.0

        def heal() -> None:
            self._refusing = False
            self._open.set()

        self._call(heal)

    def _cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    def _call(self, what: Callable[[], None]) -> None:
        async def run() -> None:
            what()

        asyncio.run_coroutine_threadsafe(run(), self._loop).result(timeout=10)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refusing:
            writer.transport.abort()
            return
        self._writers.add(writer)
        try:
            await self._open.wait()
            up_reader, up_writer = await asyncio.open_connection(LOOPBACK, self._target)
        except OSError:
            writer.transport.abort()
            self._writers.discard(writer)
            return
        self._writers.add(up_writer)
        pumps = [
            asyncio.ensure_future(self._requests(reader, writer, up_writer)),
            asyncio.ensure_future(self._replies(up_reader, writer)),
        ]
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
        for one in (writer, up_writer):
            self._writers.discard(one)
            one.transport.abort()

    async def _requests(
        self, reader: asyncio.StreamReader, client: asyncio.StreamWriter, writer: asyncio.StreamWriter
    ) -> None:
        buffer = bytearray()
        while data := await reader.read(READ_BYTES):
            buffer += data
            for raw, words in self._split(buffer):
                if self._springs(words, client):
                    return
                await self._pass(writer, raw)

    async def _replies(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(READ_BYTES):
            await self._pass(writer, data)

    async def _pass(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        await self._open.wait()
        if self._delay:
            await asyncio.sleep(self._delay)
        writer.write(data)
        await writer.drain()

    def _springs(self, words: list[bytes], client: asyncio.StreamWriter) -> bool:
        for trap in self._traps:
            if trap.matches(words):
                self._traps.remove(trap)
                trap.action(client.get_extra_info("peername")[1])
                trap.sprung.set()
                return True
        return False

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._run, name="relay", daemon=True)
        self._thread.start()

        async def listen() -> asyncio.Server:
            return await asyncio.start_server(self._serve, LOOPBACK, 0)

        self._server = asyncio.run_coroutine_threadsafe(listen(), self._loop).result(timeout=10)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        async def stop() -> None:
            self._server.close()
            self._open.set()
            self._cut()
            rest = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(asyncio.gather(*rest, return_exceptions=True), 5)

        asyncio.run_coroutine_threadsafe(stop(), self._loop).result(timeout=10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)
        self._loop.close()
