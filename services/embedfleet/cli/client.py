"""The API as the commands see it: finds it, calls it, turns its problems into the fleet's errors."""

import threading
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import httpx

from embedfleet.contracts.errors import (
    ConfigurationError,
    DependencyDown,
    FleetError,
    Gone,
    InvalidRequest,
    NotFound,
    Overloaded,
    Unauthorized,
)
from embedfleet.local.datadir import DEFAULT_URL, DataDir
from embedfleet.runtime.addresses import may_use_proxy
from embedfleet.runtime.settings import ClientSettings

PREFIX = "/api/v1"
MAX_PAUSE_SECONDS = 60.0
AWAY_SECONDS, AWAY_PAUSE_SECONDS = 120.0, 2.0
_TIMEOUT = httpx.Timeout(60, connect=5)
_ERRORS: dict[int, type[FleetError]] = {401: Unauthorized, 404: NotFound, 410: Gone}

Send = Callable[[httpx.Client], httpx.Response]


def find_url(option: str, data: DataDir | None = None) -> str:
    """Return the API's address: the option, FLEET_URL, the fleet that runs here, or the default.

    Args:
        option: as the user gave it; empty: none.
        data: where a fleet may run; None: in FLEET_DATA_DIR.

    Raises:
        ConfigurationError: it is not an http address.
    """
    settings = ClientSettings()
    url = option or settings.url
    if not url:
        running = (data or DataDir(settings.data_dir)).running()
        url = running.url if running else DEFAULT_URL
    if not _is_address(url):
        raise ConfigurationError("--url or FLEET_URL must look like http://HOST:PORT")
    return url.rstrip("/").removesuffix(PREFIX)


def _is_address(url: str) -> bool:
    """Say whether requests can be sent there, as far as can be told without one."""
    try:
        parts, _ = urlsplit(url), httpx.URL(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except (ValueError, httpx.InvalidURL):
        return False


class Client:
    """Calls the API; a context manager. Thread-safe.

    Args:
        url: the API's address without the prefix.
        api_key: sent as a bearer token when not empty.
    """

    def __init__(self, url: str, api_key: str = "") -> None:
        if not (api_key.isascii() and api_key.isprintable()):
            raise ConfigurationError("FLEET_API_KEY has characters that no key has: is a line break in it?")
        self.url = url
        self.stopped = threading.Event()
        self._http = httpx.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
            timeout=_TIMEOUT,
            trust_env=may_use_proxy(url),
        )

    def get(self, path: str, **query: Any) -> dict[str, Any]:
        """Return the JSON object that a GET below the prefix answers; None values are left out."""
        params = {name: value for name, value in query.items() if value is not None}
        return self.call(lambda http: http.get(PREFIX + path, params=params))

    def post(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the JSON object that a POST below the prefix answers."""
        return self.call(lambda http: http.post(PREFIX + path, json=body))

    def delete(self, path: str) -> dict[str, Any]:
        """Return the JSON object that a DELETE below the prefix answers."""
        return self.call(lambda http: http.delete(PREFIX + path))

    def text(self, path: str) -> str:
        """Return what a GET outside the prefix answers, such as /metrics."""
        return self._answer(lambda http: http.get(path), 0).text

    def call(self, send: Send, *, patience: float = 0) -> dict[str, Any]:
        """Send a request, return the JSON object that is answered.

        Args:
            send: sends it; called again for each repetition.
            patience: seconds for which it is repeated while the API is overloaded; while there is no
                API, `AWAY_SECONDS` of them at most.

        Raises:
            FleetError: of the class that fits the answer's status; the code is the API's.
        """
        answer = self._answer(send, patience)
        try:
            body = answer.json()
        except ValueError:
            body = None
        if not isinstance(body, dict):
            raise FleetError(
                f"{self.url} answers, but not as Embedfleet does: check --url", code="not_embedfleet"
            )
        return body

    def _answer(self, send: Send, patience: float) -> httpx.Response:
        deadline = time.monotonic() + patience
        away_until: float | None = None
        while True:
            try:
                return self._once(send)
            except Overloaded as error:
                pause, away_until = min(error.retry_after, MAX_PAUSE_SECONDS), None
                if time.monotonic() + pause > deadline or self.stopped.wait(pause):
                    raise
            except DependencyDown:
                away_until = away_until or min(deadline, time.monotonic() + AWAY_SECONDS)
                if time.monotonic() + AWAY_PAUSE_SECONDS > away_until or self.stopped.wait(
                    AWAY_PAUSE_SECONDS
                ):
                    raise

    def _once(self, send: Send) -> httpx.Response:
        try:
            answer = send(self._http)
        except (httpx.TransportError, httpx.DecodingError) as error:
            raise DependencyDown("the API", self.url, _reason(error)) from error
        if answer.is_success:
            return answer
        raise error_of(answer)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()


def connect(option: str) -> Client:
    """Return a client for the address of an option and the key of FLEET_API_KEY."""
    return Client(find_url(option), ClientSettings().api_key.get_secret_value())


def error_of(answer: httpx.Response) -> FleetError:
    """Return the error that an answer which is no success stands for (RFC 9457 or anything else)."""
    try:
        body = answer.json()
    except ValueError:
        body = None
    problem: dict[str, Any] = body if isinstance(body, dict) else {}
    title = str(problem.get("title") or f"the API answers {answer.status_code}")
    detail = problem.get("detail")
    text = str(detail) if isinstance(detail, str) and detail else title
    code = str(problem.get("code") or f"http_{answer.status_code}")
    if answer.status_code == 401:
        text = _key_wanted(answer.request)
    if answer.status_code in (429, 503):
        return Overloaded(text, retry_after=_retry_after(answer), code=code, status=answer.status_code)
    fallback = InvalidRequest if answer.status_code < 500 else FleetError
    return _ERRORS.get(answer.status_code, fallback)(text, code=code, status=answer.status_code)


def _key_wanted(request: httpx.Request) -> str:
    """Return what to do about a 401: what the API says is for those who write headers."""
    where = f"the API at {request.url.host}"
    if "authorization" in request.headers:
        return f"{where} doesn't know the key in FLEET_API_KEY: set FLEET_API_KEY to one that it has"
    return f"{where} asks for an API key: set FLEET_API_KEY"


def _retry_after(answer: httpx.Response) -> int:
    """Return the seconds of Retry-After, a number or a date; 2 without one."""
    value = answer.headers.get("Retry-After", "")
    if value.isdecimal():
        return int(value)
    try:
        return max(0, round(parsedate_to_datetime(value).timestamp() - time.time()))
    except (ValueError, TypeError, OverflowError):
        return 2


def _reason(error: Exception) -> str:
    """Return why no answer came, and what to do."""
    if isinstance(error, httpx.ConnectError):
        return "nobody listens there; start the fleet with `embedfleet up`, or give --url"
    if isinstance(error, httpx.TimeoutException):
        return "no answer in time"
    return f"the connection broke ({type(error).__name__})"
