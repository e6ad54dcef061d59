"""Probes of a worker: `/livez`, `/readyz` and `/metrics` on a thread of their own; no call touches Redis."""

import json
import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

STALE_AFTER_SECONDS = 60.0
# A connection that asks nothing for so long is closed: each has a thread.
IDLE_SECONDS = 10.0


class Heartbeat:
    """When a loop was last seen turning."""

    def __init__(self) -> None:
        self._at = time.monotonic()
        self._seen = False

    def touch(self) -> None:
        """Note that the loop turned."""
        self._at = time.monotonic()
        self._seen = True

    @property
    def age(self) -> float:
        """Seconds since the last turn, or since the start."""
        return time.monotonic() - self._at

    @property
    def was_seen(self) -> bool:
        """Whether the loop has turned at all."""
        return self._seen


def serve(
    host: str, port: int, livez: Callable[[], list[str]], readyz: Callable[[], list[str]]
) -> ThreadingHTTPServer:
    """Serve the probes until ``shutdown()``; each check answers what is wrong, nothing when all is well.

    Raises:
        OSError: the port is taken.
    """

    class Handler(BaseHTTPRequestHandler):
        timeout = IDLE_SECONDS

        def do_GET(self) -> None:
            checks = {"/livez": livez, "/readyz": readyz}
            if self.path == "/metrics":
                self._answer(200, CONTENT_TYPE_LATEST, generate_latest())
            elif self.path in checks:
                problems = checks[self.path]()
                body = {"status": "unavailable" if problems else "ok", "problems": problems}
                self._answer(503 if problems else 200, "application/json", json.dumps(body).encode())
            else:
                self._answer(404, "text/plain", b"not found\n")

        def _answer(self, status: int, content_type: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

    server = Server((host, port), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="probes", daemon=True).start()
    return server
