"""Addresses of Redis, Qdrant, blobs and queues as settings take them; no refusal shows a password."""

import re
from typing import Annotated
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator

from embedfleet.contracts.routes import Routes

QDRANT_PORT = 6333
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_DATABASE = re.compile(r"/?\d*")
BUCKET_SCHEMES = ("s3", "gs", "az")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,221}")
# What object stores take in keys as it is; no segment is only dots.
_PREFIX = re.compile(r"(/(?!\.+(/|$))[A-Za-z0-9._=-]+)*")


def may_use_proxy(url: str) -> bool:
    """Say whether a proxy that the user has set can reach this address: not this machine's loopback."""
    return urlsplit(url).hostname not in _LOOPBACK


def _redis(url: str) -> str:
    """Return the address of a Redis; an empty one is passed."""
    parts = _split(url, ("redis", "rediss"), "redis://[USER:PASSWORD@]HOST:PORT/NUMBER") if url else None
    if parts and not _DATABASE.fullmatch(parts.path):
        raise ValueError("behind the port there may only be the number of a database: redis://HOST:PORT/0")
    return url


def _qdrant(url: str) -> str:
    """Return the address of a Qdrant, complete: `host` means http://host:6333."""
    whole = url if "://" in url else f"http://{url}"
    parts = _split(whole, ("http", "https"), "http://HOST:PORT")
    if parts.port is None:
        parts = parts._replace(netloc=f"{parts.netloc.removesuffix(':')}:{QDRANT_PORT}")
    return parts._replace(path=parts.path.rstrip("/"), query="", fragment="").geturl()


def _blobs(url: str) -> str:
    """Return where the blobs are: a folder, or SCHEME://BUCKET/PREFIX without a slash at its end.

    Raises:
        ValueError: it is neither, with a sentence that doesn't repeat it: it may hold a secret.
    """
    scheme, found, rest = url.partition("://")
    if not found:
        return url
    if scheme == "file":
        if not rest.startswith("/"):
            raise ValueError("write file:///PATH with three slashes, or the path alone")
        return rest
    bucket, slash, prefix = rest.rstrip("/").partition("/")
    path = slash + prefix
    if scheme not in BUCKET_SCHEMES or not _BUCKET.fullmatch(bucket) or not _PREFIX.fullmatch(path):
        raise ValueError(
            "must be a folder, s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX; credentials"
            " are read from AWS_…, GOOGLE_… or AZURE_… variables, and don't belong here"
        )
    return f"{scheme}://{bucket}{path}"


def _split(url: str, schemes: tuple[str, ...], form: str) -> SplitResult:
    """Return the parts of an address.

    Raises:
        ValueError: it is none, with a sentence that doesn't repeat it: it may hold a password.
    """
    try:
        parts = urlsplit(url)
        fits = parts.scheme in schemes and parts.hostname and parts.port != 0
    except ValueError:  # a port that is no number, a bracket that isn't closed
        fits = False
    if not fits:
        raise ValueError(f"must look like {form} (write @ : / # ? % in a password as %40 and so on)")
    return parts


def _document_queues(text: str) -> str:
    Routes.parse(text)
    return text


DocumentQueues = Annotated[str, AfterValidator(_document_queues)]
RedisUrl = Annotated[str, AfterValidator(_redis)]
BlobUrl = Annotated[str, AfterValidator(_blobs)]
QdrantUrl = Annotated[str, AfterValidator(_qdrant)]
