"""The sandbox child: `python -m embedfleet.documents.sandbox.child PARENT_PID`, started by the pool only.

Reads a `Config`, loads the tokenizer, gives up its rights, then reads one file a `Request` until its
stdin, a socket that brings each file's descriptor along, ends. Everything it says goes through frames
on what was its stdout; prints go nowhere.
"""

import ctypes
import os
import signal
import socket
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from pydantic import BaseModel

from embedfleet.contracts.documents import Chunk
from embedfleet.contracts.errors import FleetError
from embedfleet.documents.parsers import Limits
from embedfleet.documents.pipeline import Processed, process
from embedfleet.documents.sandbox import confinement, frames, landlock
from embedfleet.documents.tokens import ModelTokens

# A child that has read a huge file keeps the memory it took; above this it asks to be replaced.
RETIRE_RESIDENT_BYTES = 160_000_000
PROGRESS_SECONDS = 0.2
_FRAME_CHARACTERS = 250_000


class Child:
    """Serves requests.

    Args:
        source: where the worker's frames and files come from.
        sink: descriptor where our frames go.
    """

    def __init__(self, source: socket.socket, sink: int) -> None:
        self._source = source
        self._sink = sink
        self._files: list[int] = []
        # Opened while it still may be.
        self._memory = os.open("/proc/self/statm", os.O_RDONLY) if sys.platform == "linux" else None
        self._last_progress = 0.0

    def serve(self) -> None:
        """Configure, seal, then answer requests until the worker closes its end."""
        body = self._receive()
        if body is None:
            return
        config = frames.Config.model_validate_json(body)
        confinement.limit_resources(config.memory_bytes)
        try:
            tokens = ModelTokens.load(Path(config.tokenizer))
        except Exception as error:
            self._send(frames.Failed(code="start", detail=f"tokenizer {config.tokenizer}: {error}"[:1_000]))
            return
        limits = Limits(**config.limits)
        hidden = landlock.keep_to(landlock.interpreter_paths())
        self._send(frames.Ready(sealed=confinement.seal(), hidden=hidden))
        while (body := self._receive()) is not None:
            request = frames.Request.model_validate_json(body)
            self._send(frames.Taken())
            reply = self._answer(request, config, tokens, limits)
            self._send(reply)
            if reply.retire:
                return

    def _answer(
        self, request: frames.Request, config: frames.Config, tokens: ModelTokens, limits: Limits
    ) -> frames.Done | frames.Failed:
        confinement.arm_cpu(request.cpu_seconds)
        try:
            with os.fdopen(self._files.pop(), "rb") as file:
                processed = process(
                    file,
                    request.extension,
                    request.options,
                    tokenizer=tokens,
                    max_tokens=config.max_tokens,
                    limits=limits,
                    progress=self._progress,
                )
            return self._done(processed)
        except FleetError as error:
            return frames.Failed(code=error.code, detail=error.detail[:1_000], retire=self._has_grown())
        except MemoryError:
            return frames.Failed(code="sandbox_memory", detail=frames.MEMORY_DETAIL, retire=True)
        except OSError as error:
            return frames.Failed(code="os_error", detail=f"{type(error).__name__}: {error.strerror}"[:1_000])
        except Exception as error:
            detail = f"Reading the file failed in the program itself ({type(error).__name__}); report it."
            return frames.Failed(code="sandbox_crash", detail=detail, retire=True)

    def _done(self, processed: Processed) -> frames.Done:
        self._send_chunks(processed.chunks)
        count = len(processed.chunks)
        # Freed before memory is measured.
        processed.chunks.clear()
        return frames.Done(
            pages=processed.pages,
            pages_without_text=processed.pages_without_text,
            chunk_size_effective=processed.chunk_size_effective,
            chunk_count=count,
            retire=self._has_grown(),
        )

    def _send_chunks(self, chunks: Iterable[Chunk]) -> None:
        batch: list[Chunk] = []
        size = 0
        for chunk in chunks:
            batch.append(chunk)
            size += len(chunk.text) + 200
            if size > _FRAME_CHARACTERS:
                self._send(frames.Chunks(chunks=batch))
                batch, size = [], 0
        if batch:
            self._send(frames.Chunks(chunks=batch))

    def _progress(self, done: int, total: int) -> None:
        now = time.monotonic()
        if done >= total or now - self._last_progress >= PROGRESS_SECONDS:
            self._last_progress = now
            self._send(frames.Working(done=done, total=total))

    def _receive(self) -> bytes | None:
        return frames.read_request(self._read)

    def _read(self, size: int) -> bytes:
        data, files, _, _ = socket.recv_fds(self._source, size, 1)
        self._files += files
        return data

    def _send(self, frame: BaseModel) -> None:
        data = memoryview(frames.pack(frame))
        while data:
            data = data[os.write(self._sink, data) :]

    def _has_grown(self) -> bool:
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)
        if self._memory is None:
            return False
        pages = int(os.pread(self._memory, 200, 0).split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") > RETIRE_RESIDENT_BYTES


def main() -> None:
    """Take over stdin and stdout, tie this life to the worker's, and serve."""
    confinement.die_with(int(sys.argv[1]))
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    sink = os.dup(1)
    os.dup2(2, 1)
    Child(socket.socket(fileno=0), sink).serve()


if __name__ == "__main__":
    main()
