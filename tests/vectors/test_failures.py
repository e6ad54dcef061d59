"""What a failed call becomes: wait and try again, or never again; never a credential in a message."""

import socket
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from tests.counts import Counts
from tests.loopback_server import LoopbackServer, QuietHandler

from embedfleet.contracts.errors import DependencyDown, FleetError, VectorStoreError
from embedfleet.runtime.settings import VectorSettings
from embedfleet.vectors import CollectionAbsent, VectorStore


@contextmanager
def answering(status: int, body: bytes) -> Iterator[str]:
    """Run a server that answers every request alike; yield its address."""

    class Handler(QuietHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_PUT = do_POST = answer

    with LoopbackServer(Handler) as server:
        yield server.address


def failure(url: str, timeout: int = 5) -> FleetError:
    """Return what an upsert of one point raises."""
    store = VectorStore(VectorSettings(url=url, timeout=timeout))
    with pytest.raises(FleetError) as caught:
        store.upsert("c", ["0" * 8 + "-0000-0000-0000-" + "0" * 12], np.ones((1, 3), np.float32), [{}])
    with pytest.raises(type(caught.value)):
        store.ping()
    store.close()
    return caught.value


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (500, b'{"status":{"error":"No space left on device"}}', DependencyDown, "No space left on device"),
        (503, b"<html>starting</html>", DependencyDown, "it answered 503"),
        (429, b"{}", DependencyDown, "429"),
        (408, b"", DependencyDown, "408"),
        (302, b"", DependencyDown, "302"),
        (401, b"{}", DependencyDown, "check QDRANT_API_KEY"),
        (403, b"{}", DependencyDown, "check QDRANT_API_KEY"),
        (404, b'{"status":{"error":"no such"}}', CollectionAbsent, "no such"),
        (400, b'{"status":{"error":"Wrong input: x"}}', VectorStoreError, "Wrong input: x"),
        (501, b'{"status":{"error":"has no route"}}', VectorStoreError, "has no route"),
        (413, b"too large \xff", VectorStoreError, "too large"),
    ],
)
def test_every_status_has_its_meaning(status: int, body: bytes, kind: type[FleetError], words: str) -> None:
    counts = Counts()
    with answering(status, body) as address:
        error = failure(f"http://user:secret@{address}/?token=hidden")
    assert type(error) is kind
    assert words in error.detail
    assert error.retryable is (kind is DependencyDown)
    assert f"http://{address}" in error.detail
    assert "secret" not in error.detail
    assert "hidden" not in error.detail
    failed = {} if kind is CollectionAbsent else {(error.code,): 2}
    assert counts.of("fleet_vector_store_errors_total") == failed, "an absent collection is an answer"


def test_a_collection_that_another_worker_has_just_made_is_no_failed_call() -> None:
    counts = Counts()
    with answering(409, b'{"status":{"error":"it exists"}}') as address:
        store = VectorStore(VectorSettings(url=f"http://{address}"))
        store._create("c", 3)
        store.close()
    assert counts.of("fleet_vector_store_errors_total") == {}


def test_a_defect_of_ours_counts_as_a_failed_call() -> None:
    counts, store = Counts(), VectorStore(VectorSettings(url="http://127.0.0.1:1"))
    with pytest.raises(ZeroDivisionError):
        store._ask(lambda: 1 // 0)
    store.close()
    assert counts.of("fleet_vector_store_errors_total") == {("internal",): 1}


def test_something_else_on_the_port_is_named() -> None:
    with answering(200, b"<html>hello</html>") as address:
        store = VectorStore(VectorSettings(url=f"http://{address}"))
        with pytest.raises(DependencyDown, match="isn't Qdrant; check QDRANT_URL"):
            store.count("c")
        store.close()


def test_nobody_there_and_nobody_answering() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        assert (
            "didn't answer in time (FLEET_QDRANT_TIMEOUT)" in failure(f"http://{address}", timeout=1).detail
        )
    gone = failure(f"http://{address}")
    assert isinstance(gone, DependencyDown)
    assert f"Qdrant at http://{address} can't be used" in gone.detail


def test_a_connection_that_the_server_dropped_is_replaced() -> None:
    body = b'{"result":{"count":7},"status":"ok","time":0}'
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            for _ in range(2):
                connection, _ = listener.accept()
                with connection:
                    request = b""
                    while not request.endswith(b"}"):
                        request += connection.recv(65536)
                    connection.sendall(answer)
                    # The next request on this connection arrives, and is never answered.
                    if not turn.wait(10):
                        return
                    connection.recv(1)

        turn = threading.Event()
        server = threading.Thread(target=serve)
        server.start()
        store = VectorStore(VectorSettings(url=f"http://127.0.0.1:{listener.getsockname()[1]}"))
        assert store.count("c") == 7
        turn.set()
        assert store.count("c") == 7
        store.close()
        server.join(10)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://u:p@host:1234/", "http://host:1234"),
        ("https://host/prefix/?api_key=x", "https://host:6333/prefix"),
        ("host:99", "http://host:99"),
        ("http://[::1]:5", "http://[::1]:5"),
    ],
)
def test_addresses_are_shown_without_credentials(url: str, address: str) -> None:
    store = VectorStore(VectorSettings(url=url))
    assert store.address == address
    store.close()


def test_the_api_key_goes_along_without_a_warning() -> None:
    store = VectorStore(VectorSettings(url="http://127.0.0.1:1", api_key="k-secret"))
    with pytest.raises(DependencyDown) as caught:
        store.ping()
    assert "k-secret" not in caught.value.detail
    assert store._http.headers["api-key"] == "k-secret"
    store.close()


def test_a_qdrant_on_this_machine_is_not_asked_through_the_user_s_proxy(
    qdrant_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "intra.example")
    store = VectorStore(VectorSettings(url=qdrant_url))
    store.ensure_collection("proxied", 2)
    store.upsert("proxied", [str(uuid.uuid4())], np.ones((1, 2), np.float32), [{}])
    store.close()
