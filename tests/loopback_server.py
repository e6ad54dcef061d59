"""A server in a thread of the test process, for what a test answers itself."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

from embedfleet.local.ports import LOOPBACK

POLL_SECONDS = 0.01  # the usual 0.5 is what the end of a test may wait


class QuietHandler(BaseHTTPRequestHandler):
    """Writes no line a request."""

    def log_message(self, format: str, *arguments: object) -> None:
        pass


class LoopbackServer:
    """Serves with a handler, on a free port, while the block runs.

    Attributes:
        address: HOST:PORT.
        url: the same after `http://`.
    """

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        self._server = ThreadingHTTPServer((LOOPBACK, 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=[POLL_SECONDS], daemon=True)
        self.address = f"{LOOPBACK}:{self._server.server_port}"
        self.url = f"http://{self.address}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *reason: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
