"""Warm sandbox children, lent to the worker's threads one file at a time."""

import logging
import math
import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path

from embedfleet.contracts.documents import Chunk, ChunkOptions
from embedfleet.contracts.errors import DOCUMENT_CODES, DocumentProcessingError, FleetError
from embedfleet.documents.chunk import MAX_CHUNKS
from embedfleet.documents.parsers import Limits
from embedfleet.documents.pipeline import MAX_REPEAT, Processed
from embedfleet.documents.sandbox import frames, losses
from embedfleet.documents.sandbox.losses import Loss
from embedfleet.documents.sandbox.process import TICK_SECONDS, ChildDied, SandboxChild
from embedfleet.runtime.settings import SandboxSettings

RESTART_SECONDS = 1.0

_FILTER = "system call filter for us: they may use the network, write and start processes"
_LANDLOCK = "Landlock (Linux 5.13): they may read all files of their user"

log = logging.getLogger(__name__)


class SandboxPool:
    """Keeps `size` children ready; a dead, killed or worn one is replaced behind the scenes.

    All children are started by one thread that lives as long as the pool: the kernel's death signal
    goes to a child when the *thread* that started it ends.

    Args:
        size: children, as many as threads that call `process`.
        tokenizer_path: the model's tokenizer.json.
        max_tokens: what the model takes, special tokens included.
        settings: memory and size limits.
        files_per_child: files after which a child is replaced.
        on_loss: told of each child that was killed or died. Children load this module, so it counts nothing.
    """

    def __init__(
        self,
        size: int,
        tokenizer_path: Path,
        max_tokens: int,
        settings: SandboxSettings,
        files_per_child: int,
        on_loss: Callable[[Loss], None] = lambda loss: None,
    ) -> None:
        self._limits = Limits(pages=settings.max_pages, characters=settings.max_characters)
        self._config = frames.Config(
            tokenizer=str(tokenizer_path.absolute()),
            max_tokens=max_tokens,
            memory_bytes=settings.memory_bytes,
            limits=asdict(self._limits),
        )
        self._size = size
        self._files_per_child = files_per_child
        self._on_loss = on_loss
        self._changed = threading.Condition()
        self._idle: deque[SandboxChild] = deque()
        self._lent: set[SandboxChild] = set()
        self._failure: FleetError | None = None
        self._closed = False
        self._warned = False
        self._starter = threading.Thread(target=self._keep_full, name="sandbox-starter", daemon=True)
        self._starter.start()

    def process(
        self,
        path: Path,
        extension: str,
        options: ChunkOptions,
        *,
        deadline_seconds: float,
        on_progress: Callable[[int, int], None],
        check: Callable[[], None],
    ) -> Processed:
        """Turn one file into chunks in a child.

        Args:
            path: the file; the child gets it open, and sees neither its name nor its neighbours.
            extension: of the uploaded name, with its dot.
            options: how to cut.
            deadline_seconds: from the moment a child takes the file.
            on_progress: called in this thread with (pages or parts done, in all).
            check: called at least every 0.2 s; what it raises kills the child and goes on.

        Raises:
            DocumentProcessingError: the file can't be turned into chunks; its code says why.
            FleetError: `sandbox_unavailable`, no child can be started or the pool is closed.
            OSError: the file can't be opened.
        """
        request = frames.Request(
            extension=extension, options=options, cpu_seconds=math.ceil(deadline_seconds) + 1
        )
        with path.open("rb") as file:
            child = self._ask(request, file.fileno(), check)
        try:
            return self._collect(child, deadline_seconds, on_progress, check)
        except ChildDied:
            if self._closed:
                raise self._closed_error() from None
            death = child.death()
            self._on_loss(losses.of_death(death))
            raise death from None
        except Exception as error:
            if not child.usable and (loss := losses.of_end(error)):
                self._on_loss(loss)
            raise
        finally:
            self._give_back(child)

    def close(self) -> None:
        """Kill all children, also those at work, and start no more."""
        with self._changed:
            self._closed = True
            idle = list(self._idle)
            self._idle.clear()
            for child in self._lent:
                child.stop()
            self._changed.notify_all()
        for child in idle:
            child.kill()
        self._starter.join()

    def pids(self) -> list[int]:
        """Return the process ids of the children that are ready or at work."""
        with self._changed:
            return [child.pid for child in (*self._idle, *self._lent)]

    def _ask(self, request: frames.Request, file: int, check: Callable[[], None]) -> SandboxChild:
        while True:
            child = self._borrow(check)
            try:
                child.ask(request, file, check)
                return child
            except ChildDied:
                # It died while it was idle: not this file's fault.
                child.kill()
                self._give_back(child)
                if not self._closed:
                    self._on_loss(Loss.IDLE)
            except BaseException:
                self._give_back(child)
                self._on_loss(Loss.STOPPED)
                raise

    def _borrow(self, check: Callable[[], None]) -> SandboxChild:
        while True:
            check()
            with self._changed:
                if self._closed:
                    raise self._closed_error()
                if self._idle:
                    child = self._idle.popleft()
                    self._lent.add(child)
                    return child
                if self._failure is not None and not self._lent:
                    raise self._failure
                self._changed.wait(TICK_SECONDS)

    def _give_back(self, child: SandboxChild) -> None:
        keep = child.alive() and child.files < self._files_per_child
        if not keep:
            child.kill()
        with self._changed:
            self._lent.discard(child)
            if keep and not self._closed:
                self._idle.append(child)
            self._changed.notify_all()
        if self._closed:
            child.kill()

    def _keep_full(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._missing())
                if self._closed:
                    return
            try:
                child = self._start()
            except FleetError as error:
                with self._changed:
                    if not self._closed:
                        log.error("%s", error.detail)
                    self._failure = error
                    self._changed.notify_all()
                    self._changed.wait_for(lambda: self._closed, RESTART_SECONDS)
                continue
            with self._changed:
                self._failure = None
                if not self._closed:
                    self._idle.append(child)
                self._changed.notify_all()
            if self._closed:
                child.kill()

    def _missing(self) -> bool:
        for child in [child for child in self._idle if not child.alive()]:
            self._idle.remove(child)
            child.kill()
            self._on_loss(Loss.IDLE)
        return len(self._idle) + len(self._lent) < self._size

    def _start(self) -> SandboxChild:
        try:
            child = SandboxChild(self._config)
        except (OSError, ChildDied) as error:
            detail = f"A sandbox child can't be started: {error}"
            raise FleetError(detail, code="sandbox_unavailable") from error
        child.wait_ready(self._stop_when_closed)
        if not (child.sealed and child.hidden) and not self._warned:
            self._warned = True
            missing = [
                name for name, held in ((_FILTER, child.sealed), (_LANDLOCK, child.hidden)) if not held
            ]
            log.warning("sandbox children: this kernel has no %s", ", and no ".join(missing))
        return child

    def _stop_when_closed(self) -> None:
        if self._closed:
            raise self._closed_error()

    def _closed_error(self) -> FleetError:
        return FleetError("The sandbox is closing; the file is read again later.", code="sandbox_unavailable")

    def _collect(
        self,
        child: SandboxChild,
        seconds: float,
        on_progress: Callable[[int, int], None],
        check: Callable[[], None],
    ) -> Processed:
        chunks: list[Chunk] = []
        room = MAX_REPEAT * self._limits.characters
        for reply in child.replies(seconds, check):
            if isinstance(reply, frames.Working):
                on_progress(reply.done, reply.total)
            elif isinstance(reply, frames.Chunks):
                room -= self._accept(reply.chunks, len(chunks))
                chunks += reply.chunks
                if room < 0 or len(chunks) > MAX_CHUNKS:
                    break
            elif isinstance(reply, frames.Failed):
                child.usable = child.usable and not reply.retire
                raise _error_of(reply)
            elif isinstance(reply, frames.Done) and reply.chunk_count == len(chunks):
                child.usable = child.usable and not reply.retire
                return Processed(chunks, reply.pages, reply.chunk_size_effective, reply.pages_without_text)
            else:
                break
        raise ChildDied

    def _accept(self, chunks: Iterable[Chunk], first: int) -> int:
        """Return the characters of these chunks.

        Raises:
            ChildDied: they are not what our own code sends.
        """
        characters = 0
        for index, chunk in enumerate(chunks, first):
            fits = 0 < chunk.token_count <= self._config.max_tokens
            if chunk.index != index or not fits or chunk.end - chunk.start != len(chunk.text):
                raise ChildDied
            characters += len(chunk.text)
        return characters


def _error_of(reply: frames.Failed) -> Exception:
    if reply.code == "os_error":
        return OSError(reply.detail)
    if reply.code not in DOCUMENT_CODES:
        return DocumentProcessingError("The parser gave no sense.", code="sandbox_crash")
    return DocumentProcessingError(reply.detail, code=reply.code)
