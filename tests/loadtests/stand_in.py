"""An API that stores nothing: documents are READY at once, unless a test has other answers."""

import json
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tests.loopback_server import LoopbackServer, QuietHandler

KINDS = {
    "upload": re.compile("POST /api/v1/documents/upload"),
    "task": re.compile("GET /api/v1/tasks/"),
    "document": re.compile("GET /api/v1/documents/"),
    "search": re.compile("POST /api/v1/search"),
    "delete": re.compile("DELETE /api/v1/collections/"),
}
READY = {"state": "READY", "progress": {"total": 3}, "error": None}


@dataclass(frozen=True)
class Asked:
    """A request; the first of its kind has the `number` 1."""

    kind: str
    number: int
    path: str
    headers: Mapping[str, str]
    body: bytes

    def form(self, name: str) -> str:
        """Return a field of a form, or the name of its file."""
        told = self.body.decode("utf-8", "replace")
        pattern = rf'name="{name}"(?:; filename="(.*?)"\r\n|\r\n\r\n(.*?)\r\n)'
        found = re.search(pattern, told, re.DOTALL)
        assert found, name
        return found[1] if found[1] is not None else found[2]


@dataclass(frozen=True)
class Answer:
    """What is answered."""

    status: int
    body: object = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


class StandIn(LoopbackServer):
    """A running stand-in; a context manager.

    Attributes:
        asked: all requests so far.
        answers: what to do with those of a kind instead of the usual; None closes the connection, and "usual"
            is the usual.
    """

    def __init__(self) -> None:
        self.asked = list[Asked]()
        self.answers = dict[str, Callable[[Asked], Answer | str | None]]()
        self._lock = threading.Lock()
        stand_in = self

        class Handler(QuietHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self) -> None:
                try:
                    super().handle_one_request()
                except ConnectionError:
                    self.close_connection = True

            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                answer = stand_in.answer(f"{self.command} {self.path}", dict(self.headers), body)
                if answer is None:
                    self.close_connection = True
                    return
                told = json.dumps(answer.body).encode()
                self.send_response(answer.status)
                for name, value in {"Content-Length": str(len(told)), **answer.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(told)

            do_POST = do_DELETE = do_GET

        super().__init__(Handler)

    def of(self, kind: str) -> list[Asked]:
        """Return the requests of a kind."""
        return [one for one in self.asked if one.kind == kind]

    def answer(self, line: str, headers: Mapping[str, str], body: bytes) -> Answer | None:
        """Note a request, and answer it."""
        kind = next((kind for kind, pattern in KINDS.items() if pattern.match(line)), line)
        with self._lock:
            asked = Asked(kind, len(self.of(kind)) + 1, line.split()[1], headers, body)
            self.asked.append(asked)
        found = self.answers.get(kind, lambda asked: "usual")(asked)
        return _usual(asked) if isinstance(found, str) else found


def _usual(asked: Asked) -> Answer:
    if asked.kind == "upload":
        return Answer(202, {"document_id": f"d{asked.number}", "task_id": f"t{asked.number}"})
    bodies = {"task": {"document": READY}, "document": READY, "search": {"hits": [{}]}, "delete": {}}
    return Answer(200, bodies[asked.kind]) if asked.kind in bodies else Answer(404)
