"""Addresses of Redis, Qdrant and queues as settings take them; what is refused never shows a password."""

import re
from typing import Annotated
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator

from embedfleet.contracts.routes import Routes

QDRANT_PORT = 6333
_DATABASE = re.compile(r"/?\d*")


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
QdrantUrl = Annotated[str, AfterValidator(_qdrant)]
