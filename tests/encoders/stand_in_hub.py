"""A model hub on a free loopback port that answers as the real one does, or as a hostile one would."""

import hashlib
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.loopback_server import LoopbackServer, QuietHandler

MODEL_ID = "acme/tiny"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
LARGE = ("onnx/model.onnx", "model.safetensors")


@dataclass
class Faults:
    """What the hub does wrong, by file; `left` counts how often it still will."""

    kind: str = ""
    name: str = ""
    left: int = 1_000_000


@dataclass
class StandInHub(LoopbackServer):
    """Serves one folder as revision COMMIT of MODEL_ID."""

    folder: Path
    faults: Faults = field(default_factory=Faults)
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    stalled: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        hub = self

        class Handler(_Handler):
            stand_in = hub

        super().__init__(Handler)

    def __exit__(self, *reason: object) -> None:
        self.go_on.set()
        super().__exit__(*reason)

    def bodies_of(self, name: str) -> list[str | None]:
        """Return the Range header of every request for a file's body."""
        return [asked for path, asked in self.requests if path == f"/files/{name}"]

    def fault(self, name: str) -> str:
        """Return what to do wrong with this answer, and count it."""
        if self.faults.name != name or not self.faults.left:
            return ""
        self.faults.left -= 1
        return self.faults.kind


class _Handler(QuietHandler):
    stand_in: StandInHub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        hub = self.stand_in
        asked = self.headers.get("Range")
        hub.requests.append((self.path, asked))
        prefix = f"/{MODEL_ID}/resolve/{COMMIT}/"
        if self.path == f"/api/models/{MODEL_ID}/revision/main":
            self._answer(200, f'{{"id": "{MODEL_ID}", "sha": "{COMMIT}"}}'.encode(), {})
        elif self.path.startswith("/files/"):
            self._body(self.path.removeprefix("/files/"), asked)
        elif self.path.startswith(prefix):
            self._resolve(self.path.removeprefix(prefix), asked)
        else:
            self._answer(404, b"no such page", {})

    def handle(self) -> None:
        # A client that stops reading is what the tests are about.
        with suppress(ConnectionError):
            super().handle()

    def _resolve(self, name: str, asked: str | None) -> None:
        hub = self.stand_in
        path = hub.folder / name
        missing = not path.is_file() or (hub.faults.kind == "missing" and hub.faults.name == name)
        if missing:
            self._answer(404, b"Entry not found", {"X-Error-Code": "EntryNotFound"})
            return
        content = path.read_bytes()
        commit = "f" * 40 if hub.faults.kind == "commit" and hub.faults.name == name else COMMIT
        if name not in LARGE:
            blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            self._body(name, asked, {"ETag": f'"{blob}"', "X-Repo-Commit": commit})
            return
        headers = {
            "Location": f"/files/{name}",
            "X-Repo-Commit": commit,
            "X-Linked-Size": str(len(content)),
            "X-Linked-Etag": f'"{hashlib.sha256(content).hexdigest()}"',
        }
        self._answer(302, b"Found. Redirecting", headers)

    def _body(self, name: str, asked: str | None, headers: dict[str, str] | None = None) -> None:
        hub = self.stand_in
        whole = (hub.folder / name).read_bytes()
        fault = hub.fault(name)
        if fault == "error":
            self._answer(503, b"try later", {})
            return
        if fault == "wrong":
            whole = bytes([whole[0] ^ 1]) + whole[1:]
        if fault == "oversize":
            self._chunked(whole + b"x", headers or {})
            return
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        if start >= len(whole):
            self._answer(416, b"", {"Content-Range": f"bytes */{len(whole)}"})
            return
        extra = {"Content-Range": f"bytes {start}-{len(whole) - 1}/{len(whole)}"} if asked else {}
        self._start(206 if asked else 200, len(whole) - start, (headers or {}) | extra)
        rest = whole[start:]
        if fault in ("truncate", "stall"):
            self.wfile.write(rest[: len(rest) // 2])
            self.wfile.flush()
            if fault == "stall":
                hub.stalled.set()
                hub.go_on.wait(30)
            self.close_connection = True
            return
        self.wfile.write(rest)

    def _chunked(self, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(200)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"%x\r\n" % len(content) + content + b"\r\n0\r\n\r\n")

    def _answer(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self._start(status, len(content), headers)
        self.wfile.write(content)

    def _start(self, status: int, length: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
