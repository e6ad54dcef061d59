"""The model hub over plain HTTP: bounded, continued after a break, verified byte for byte."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

import httpx

from embedfleet.contracts.errors import ConfigurationError
from embedfleet.encoders.files import MAX_JSON_BYTES
from embedfleet.encoders.registry import Pin
from embedfleet.encoders.sources import Report
from embedfleet.encoders.sources.expected import Expected, limit, of_answer, of_pin

ATTEMPTS = 3
MAX_REDIRECTS = 5
FILE_SECONDS = 3600.0
REPORT_BYTES = 20_000_000
# A broken-off transfer is tried again; these would fail the same way again.
UNREACHABLE = (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol, httpx.ProxyError)


class HubUnavailable(ConfigurationError):
    """The hub can't be reached or doesn't have it; another source may.

    Args:
        missing: the hub answered 404.
    """

    default_code = "hub_unavailable"

    def __init__(self, detail: str, *, missing: bool = False) -> None:
        super().__init__(detail)
        self.missing = missing


class HubRefused(ConfigurationError):
    """The hub sent something else than it should: never used, never silently replaced."""

    default_code = "model_refused"


class _BrokeOffError(Exception):
    """The transfer ended early; what has arrived is kept.

    Args:
        restart: it can't be continued from there; throw it away.
    """

    def __init__(self, reason: str, *, restart: bool = False) -> None:
        super().__init__(reason)
        self.restart = restart


class Hub:
    """One hub, one connection pool.

    Args:
        endpoint: base URL.
        report: takes one line of progress at a time.
        timeout: seconds to connect, and between two pieces of a body.
        backoff: seconds before the second attempt; doubles.

    Raises:
        ConfigurationError: the endpoint is not a URL.
    """

    def __init__(self, endpoint: str, report: Report, *, timeout: float = 20.0, backoff: float = 1.0) -> None:
        self._endpoint = endpoint.rstrip("/")
        self._report = report
        self._backoff = backoff
        try:
            self._encrypted = httpx.URL(self._endpoint).scheme == "https"
        except httpx.InvalidURL as error:
            raise ConfigurationError(f"HF_ENDPOINT {endpoint!r} is not a URL") from error
        # Bodies must arrive as they are stored: a compressed one could be a bomb, and has another hash.
        headers = {"Accept-Encoding": "identity", "User-Agent": "embedfleet"}
        self._client = httpx.Client(headers=headers, timeout=timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def commit(self, model_id: str) -> str:
        """Return the commit that the hub's `main` of a model is at now.

        Raises:
            HubUnavailable: no answer, or no such model.
            HubRefused: the answer names no commit.
        """
        url = f"{self._endpoint}/api/models/{quote(model_id)}/revision/main"
        try:
            with self._get(url, 0) as (_, response):
                body = b"".join(_bounded(response, MAX_JSON_BYTES, url))
        except _BrokeOffError as error:
            raise HubUnavailable(f"{url} broke off: {error}") from error
        found = re.search(rb'"sha"\s*:\s*"([0-9a-f]{40})"', body)
        if found is None:
            raise HubRefused(f"{url} names no commit; set FLEET_MODEL_REVISION")
        return found[1].decode()

    def download(self, model_id: str, revision: str, name: str, path: Path, pin: Pin | None) -> None:
        """Get one file, whole and verified; what an earlier, broken transfer left there is continued.

        Args:
            model_id: name on the hub.
            revision: commit, 40 hex digits.
            name: path in the repository.
            path: where to; the folder must exist.
            pin: what the file must be, or None to take the hub's own hashes.

        Raises:
            HubUnavailable: no answer, 404, or a transfer that breaks off again and again.
            HubRefused: too large, of another commit, or not what it must be; the file is removed.
        """
        url = f"{self._endpoint}/{quote(model_id)}/resolve/{revision}/{quote(name)}"
        deadline = time.monotonic() + FILE_SECONDS
        problem = ""
        for attempt in range(ATTEMPTS):
            if attempt:
                self._report(f"{name}: {problem}; trying again")
                time.sleep(self._backoff * 2 ** (attempt - 1))
            try:
                expected = self._transfer(url, revision, name, path, pin, deadline)
            except _BrokeOffError as error:
                problem = str(error)
                if error.restart:
                    path.unlink(missing_ok=True)
                continue
            except HubRefused:
                path.unlink(missing_ok=True)
                raise
            if not expected.matches(path):
                path.unlink()
                raise HubRefused(
                    f"{url} is not the expected file (size or hash differs): a proxy or mirror changed it; "
                    "try again, or set HF_HUB_OFFLINE=1 to use another source"
                )
            return
        raise HubUnavailable(f"{url} failed {ATTEMPTS} times: {problem}")

    def _transfer(
        self, url: str, revision: str, name: str, path: Path, pin: Pin | None, deadline: float
    ) -> Expected:
        offset = path.stat().st_size if path.exists() else 0
        if pin and offset >= pin.size:
            offset = 0
        with self._get(url, offset) as (first, response):
            commit = first.headers.get("x-repo-commit", revision)
            if commit != revision:
                raise HubRefused(f"{url} is of commit {commit}, not {revision}")
            expected = of_pin(pin) if pin else of_answer(first, response)
            resumed = response.status_code == httpx.codes.PARTIAL_CONTENT
            if resumed and not (expected.verifiable and _starts_at(response, offset)):
                raise _BrokeOffError("the transfer can't be continued", restart=True)
            size = expected.size if expected.size is not None else limit(name)
            if size > limit(name):
                raise HubRefused(f"{url} has {size} bytes; more than {limit(name)} are not taken")
            # Unbuffered: a process that is killed keeps all that has arrived.
            with path.open("ab" if resumed else "wb", buffering=0) as out:
                for piece in _bounded(response, size - out.tell(), url):
                    out.write(piece)
                    self._progress(name, out.tell(), len(piece), size)
                    if time.monotonic() > deadline:
                        raise HubUnavailable(f"{url} took longer than {FILE_SECONDS:.0f} s")
        if expected.size is not None and path.stat().st_size < expected.size:
            raise _BrokeOffError(f"{path.stat().st_size} of {expected.size} bytes arrived")
        return expected

    def _progress(self, name: str, done: int, step: int, size: int) -> None:
        if done // REPORT_BYTES != (done - step) // REPORT_BYTES:
            self._report(f"{name}: {done / 1e6:.0f} of {size / 1e6:.0f} MB")

    @contextmanager
    def _get(self, url: str, offset: int) -> Iterator[tuple[httpx.Response, httpx.Response]]:
        """Yield the hub's own answer, and the one behind its redirects with its body unread."""
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        try:
            first = response = self._client.send(
                self._client.build_request("GET", url, headers=headers), stream=True
            )
            for _ in range(MAX_REDIRECTS):
                if response.next_request is None:
                    break
                response.close()
                if self._encrypted and response.next_request.url.scheme != "https":
                    raise HubRefused(f"{url} redirects to an address without encryption")
                response = self._client.send(response.next_request, stream=True)
            try:
                _accept_status(response, url)
                yield first, response
            finally:
                response.close()
        except UNREACHABLE as error:
            raise HubUnavailable(f"{self._endpoint} can't be reached ({error})") from error
        except httpx.TransportError as error:
            raise _BrokeOffError(f"the transfer broke off ({error})") from error


def _accept_status(response: httpx.Response, url: str) -> None:
    status = response.status_code
    if status in (httpx.codes.OK, httpx.codes.PARTIAL_CONTENT):
        return
    if status == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
        raise _BrokeOffError("the transfer can't be continued", restart=True)
    if status == httpx.codes.TOO_MANY_REQUESTS or status >= httpx.codes.INTERNAL_SERVER_ERROR:
        raise _BrokeOffError(f"the hub answered {status}")
    raise HubUnavailable(f"{url} answered {status}", missing=status == httpx.codes.NOT_FOUND)


def _starts_at(response: httpx.Response, offset: int) -> bool:
    return bool(response.headers.get("content-range", "").startswith(f"bytes {offset}-"))


def _bounded(response: httpx.Response, size: int, url: str) -> Iterator[bytes]:
    left = size
    # As it arrives: a chunk size would hold back, and lose, what came just before a break.
    for piece in response.iter_raw():
        left -= len(piece)
        if left < 0:
            raise HubRefused(f"{url} sent more than the expected {size} bytes")
        yield piece
