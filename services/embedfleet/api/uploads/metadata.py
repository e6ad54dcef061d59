"""What users name and tell: collections, and a document's metadata.

Metadata is a flat JSON object, small enough to travel with every hit.
"""

import json
import math
import re
import unicodedata
from typing import Annotated, Any

from pydantic import AfterValidator, WithJsonSchema

from embedfleet.contracts.documents import COLLECTION_PATTERN
from embedfleet.contracts.errors import InvalidRequest

MAX_BYTES = 8192
MAX_KEYS = 32

# The characters that a key may have in a Qdrant filter without being quoted.
_KEY = re.compile(r"[A-Za-z0-9_-]{1,64}")
_INT64 = 1 << 63


def collection_name(text: str) -> str:
    """Return the name of a collection as it is.

    Raises:
        InvalidRequest: `invalid_collection`; no `ValueError`, so pydantic lets it through as a validator's.
    """
    if not re.fullmatch(COLLECTION_PATTERN, text):
        raise InvalidRequest(
            "collection: a name has 1 to 63 of the characters A-Z a-z 0-9 _ -, a letter or digit first.",
            code="invalid_collection",
        )
    return text


CollectionName = Annotated[
    str, AfterValidator(collection_name), WithJsonSchema({"type": "string", "pattern": COLLECTION_PATTERN})
]
"""A collection's name in a model or a path."""


def parse_metadata(text: str) -> dict[str, Any]:
    """Return the metadata that a JSON text holds.

    Raises:
        ValueError: it is no flat JSON object of strings, numbers and booleans, or too large.
    """
    if len(text.encode("utf-8", "replace")) > MAX_BYTES:
        raise ValueError(f"at most {MAX_BYTES} bytes of JSON are taken")
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError("this is not JSON") from error
    if not isinstance(values, dict) or len(values) > MAX_KEYS:
        raise ValueError(f"it must be a JSON object of at most {MAX_KEYS} keys")
    check_keys(values)
    for key, value in values.items():
        if not _is_scalar(value):
            raise ValueError(f"{key} is no string, 64-bit number or boolean")
    return values


def check_keys(values: dict[str, Any]) -> None:
    """Refuse keys that can't be filtered by.

    Raises:
        ValueError: a key has other characters than letters, digits, `_` and `-`, or over 64.
    """
    if not all(_KEY.fullmatch(key) for key in values):
        raise ValueError("a key has 1 to 64 of the characters A-Z a-z 0-9 _ -")


def _is_scalar(value: Any) -> bool:
    if isinstance(value, str):
        return not any(unicodedata.category(character) == "Cs" for character in value)
    if isinstance(value, bool):
        return True
    if isinstance(value, int):
        return -_INT64 <= value < _INT64
    return isinstance(value, float) and math.isfinite(value)
