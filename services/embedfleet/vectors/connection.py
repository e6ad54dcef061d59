"""The connection to Qdrant: one address and key, many threads, failures named.

Upserts bypass qdrant-client's models: JSON that orjson writes straight from the float32 rows goes to the same
REST route.
"""

from collections.abc import Callable
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import SplitResult, quote, unquote, urlsplit

import httpx
from qdrant_client import QdrantClient
from qdrant_client.http.exceptions import UnexpectedResponse

from embedfleet.runtime.addresses import may_use_proxy
from embedfleet.runtime.settings import VectorSettings
from embedfleet.vectors import metrics
from embedfleet.vectors.refusals import cause_of, refusal

Answer = TypeVar("Answer")

CONNECTIONS = 128
# A server may close an idle connection just as we write to it; every request here may be sent twice.
STALE_CONNECTION = (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError)


class Connection:
    """What every call to Qdrant shares; safe for as many threads as a process has.

    Args:
        settings: address, API key and timeout.
        client: a client to use in place of one made from the settings.

    Attributes:
        address: Qdrant's address without credentials.
    """

    def __init__(self, settings: VectorSettings, client: QdrantClient | None = None) -> None:
        parts = urlsplit(settings.url)
        self.address = _origin(parts)
        key = settings.api_key.get_secret_value()
        # The key goes in as a header: qdrant-client warns on every start about its own parameter over http.
        options: dict[str, Any] = {
            "headers": {"api-key": key} if key else {},
            "limits": httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS),
            "timeout": settings.timeout,
            "trust_env": may_use_proxy(self.address),
        }
        if parts.username is not None:
            options["auth"] = httpx.BasicAuth(unquote(parts.username), unquote(parts.password or ""))
        self._client = client or QdrantClient(url=self.address, check_compatibility=False, **options)
        self._http = httpx.Client(base_url=self.address, **options)

    def close(self) -> None:
        """Close all connections."""
        self._client.close()
        self._http.close()

    def ping(self) -> None:
        """Ask for the list of collections: Qdrant answers and takes the API key."""
        self._ask(self._client.get_collections)

    def _put_points(self, name: str, body: bytes) -> None:
        def put() -> None:
            response = self._http.put(
                f"/collections/{quote(name, safe='')}/points",
                params={"wait": "true"},
                content=body,
                headers={"content-type": "application/json"},
            )
            if response.status_code != HTTPStatus.OK:
                raise UnexpectedResponse.for_response(response)

        self._ask(put)

    def _ask(self, request: Callable[[], Answer]) -> Answer:
        try:
            try:
                return request()
            except Exception as error:
                if not isinstance(cause_of(error), STALE_CONNECTION):
                    raise
                return request()
        except Exception as error:
            named = refusal(error, self.address)
            metrics.failed(named)
            if named is None:
                raise
            raise named from error


def _origin(parts: SplitResult) -> str:
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{host}:{parts.port}{parts.path}"
