"""What the routes work with, and who is asking."""

import logging
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Self

from fastapi import Depends, Request
from fastapi.security import APIKeyHeader, HTTPBearer
from fastapi.security.utils import get_authorization_scheme_param

from embedfleet.api.http.keys import DEFAULT_KEY, DEFAULT_TENANT, ApiKeys, is_loopback
from embedfleet.api.retrieval import QueryEncoder
from embedfleet.api.uploads.admission import Admission
from embedfleet.contracts.errors import DependencyDown, FleetError, Unauthorized
from embedfleet.fsck.course import Fsck
from embedfleet.fsck.watch import Watch
from embedfleet.janitor import Janitor
from embedfleet.runtime import broker
from embedfleet.runtime.blobs import Blobs, open_blobs
from embedfleet.runtime.intake import Intake
from embedfleet.runtime.ledger import Ledger
from embedfleet.runtime.ledger.results import CeleryResults
from embedfleet.runtime.ledger.tombstones import Deletion
from embedfleet.runtime.revocations import Revocations
from embedfleet.runtime.settings import (
    AdmissionSettings,
    ApiSettings,
    BrokerSettings,
    EngineSettings,
    LedgerSettings,
    ModelSettings,
    VectorSettings,
    load,
)
from embedfleet.vectors import VectorStore

REDIS_SECONDS = 1.0
PUBLISH_SECONDS = 0.5
QDRANT_SECONDS = 10

_log = logging.getLogger(__name__)
_bearer = HTTPBearer(auto_error=False, description="An API key.")
_header = APIKeyHeader(name="X-API-Key", auto_error=False, description="An API key.")


class Forbidden(FleetError):
    """No key is configured, and the caller isn't this machine."""

    default_code = "keys_required"
    default_status = 403
    retryable = False


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is asking: a tenant, by one of its API keys."""

    tenant: str
    key: str


@dataclass(frozen=True, slots=True)
class Services:
    """Everything behind the routes; made once a process."""

    ledger: Ledger
    blobs: Blobs
    admission: Admission
    intake: Intake
    deletion: Deletion
    revocations: Revocations
    store: VectorStore
    encoder: QueryEncoder
    janitor: Janitor
    watch: Watch
    keys: ApiKeys
    settings: ApiSettings

    @classmethod
    def open(cls, settings: ApiSettings, keys: ApiKeys) -> Self:
        """Make them from the environment; neither Redis nor Qdrant has to be up.

        Raises:
            ConfigurationError: the model isn't here or can't be used, or Redis would lose work.
        """
        encoder = QueryEncoder.load(load(ModelSettings), load(EngineSettings))
        redis, records = load(BrokerSettings), load(LedgerSettings)
        _hurry()
        mirror = CeleryResults(redis, records)
        blobs = open_blobs()
        ledger = Ledger.open(redis, records, mirror, timeout=REDIS_SECONDS, retries=0)
        vectors = load(VectorSettings)
        patient = Ledger.open(redis, records, mirror)
        with suppress(DependencyDown):  # the lifespan says what is down
            ledger.require_safe_redis()
        return cls(
            ledger=ledger,
            blobs=blobs,
            admission=Admission(ledger, blobs, load(AdmissionSettings)),
            intake=Intake(ledger, blobs, broker.publish),
            deletion=Deletion(ledger, blobs),
            revocations=Revocations(ledger, blobs),
            store=VectorStore(vectors.model_copy(update={"timeout": min(vectors.timeout, QDRANT_SECONDS)})),
            encoder=encoder,
            janitor=Janitor(patient, blobs, VectorStore(vectors), broker.publish, records),
            watch=Watch(Fsck.open(), records.fsck_seconds, encoder.model_key, encoder.encoder.dim),
            keys=keys,
            settings=settings,
        )


def _hurry() -> None:
    """Let a publish give up early: it tries three times, and the janitor repeats what it missed."""
    options = broker.app.conf.broker_transport_options
    options |= {"socket_timeout": PUBLISH_SECONDS, "socket_connect_timeout": PUBLISH_SECONDS}


async def services_of(request: Request) -> Services:
    """Return the services of the app that serves this request."""
    services: Services = request.app.state.services
    return services


ServicesOf = Annotated[Services, Depends(services_of)]


async def caller_of(
    request: Request,
    services: ServicesOf,
    _bearer_documented: Annotated[object, Depends(_bearer)] = None,
    _header_documented: Annotated[object, Depends(_header)] = None,
) -> Caller:
    """Return whose key it is.

    Raises:
        Unauthorized: no key, or one that is not known.
        Forbidden: there are no keys, and the request comes from elsewhere.
    """
    keys = services.keys
    if not keys.entries:
        if not (keys.open_to_all or _stays_here(request)):
            raise Forbidden(
                "This server has no API keys, so it answers on the loopback address only: set FLEET_API_KEYS,"
                " or FLEET_AUTH=off to let everyone in."
            )
        return Caller(DEFAULT_TENANT, DEFAULT_KEY)
    entry = keys.find(_secret(request))
    if entry is None:
        raise Unauthorized(
            "Send a valid API key in the header `Authorization: Bearer <key>` or `X-API-Key: <key>`."
        )
    return Caller(entry.tenant, entry.name)


CallerOf = Annotated[Caller, Depends(caller_of)]


async def tenant_of(caller: CallerOf) -> str:
    """Return the tenant of the caller's key; raises as `caller_of` does."""
    return caller.tenant


Tenant = Annotated[str, Depends(tenant_of)]


def _secret(request: Request) -> bytes:
    """Return the key as it was sent; empty without one."""
    scheme, parameter = get_authorization_scheme_param(request.headers.get("authorization"))
    secret = parameter if scheme.lower() == "bearer" else request.headers.get("x-api-key", "")
    return secret.encode("latin-1")


def _stays_here(request: Request) -> bool:
    """Say whether a request came over the loopback address, and not from a web page elsewhere.

    The name in `Host` must be local, too: a page whose name was rebound to 127.0.0.1 has its own.
    """
    server = request.scope.get("server") or ("", None)
    name = request.headers.get("host", "")
    if not name.endswith("]"):
        name = name.rsplit(":", 1)[0]
    if not (is_loopback(server[0]) and is_loopback(name)):
        return False
    return request.headers.get("sec-fetch-site") != "cross-site"
