"""Cursors: a place in a list, as text that clients send back and don't read."""

import base64
import binascii
import math
import uuid
from typing import Annotated

from pydantic import Field

from embedfleet.contracts.errors import InvalidRequest
from embedfleet.runtime.ledger.views import Place

NextCursor = Annotated[
    str | None, Field(description="Send it as `cursor` for the next page; null: there is no more.")
]


def next_cursor(kind: str, following: Place | None) -> str | None:
    """Return the cursor for a place to go on after; None for the end.

    Args:
        kind: of the list; its cursors are no other list's.
        following: a place in such a list.
    """
    return _text(kind, following) if following else None


def place_of(kind: str, cursor: str | None) -> Place | None:
    """Return the place that a cursor stands for; None for the start.

    Raises:
        InvalidRequest: no list of this kind gave such a cursor.
    """
    if cursor is None:
        return None
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii")
        _, time, identity = text.split(":", 2)
        place = Place(float(time), str(uuid.UUID(identity)))
    except (binascii.Error, ValueError):
        place = Place(math.nan, "")
    if not math.isfinite(place.time) or _text(kind, place) != cursor:
        raise InvalidRequest(
            f"cursor: this is no next_cursor of a list of {kind}; leave it out to begin with the first page.",
            code="invalid_cursor",
        )
    return place


def _text(kind: str, place: Place) -> str:
    plain = f"{kind}:{place.time!r}:{place.id}"
    return base64.urlsafe_b64encode(plain.encode("ascii")).decode("ascii").rstrip("=")
