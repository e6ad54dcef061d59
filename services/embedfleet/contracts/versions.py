"""What a newer version wrote: told apart from what is damaged, and left to a process that knows it.

While a new version rolls out, both versions see the same messages, rows and manifests. What the newer one
added may matter, so who acts on a message, a claim or a manifest takes only what it knows to the last field.
Who only shows a record leaves out what it doesn't know.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

# A field, a word, or a number beyond the bounds that this version knows.
_ADDITIONS = {"extra_forbidden", "enum", "literal_error", "less_than_equal", "greater_than_equal"}


class Stranger(BaseModel):
    """A document's record that only a newer version knows to the last field: what every version writes."""

    model_config = ConfigDict(frozen=True)

    tenant: str
    id: str
    generation: int
    state: Any


def is_newer(error: ValidationError) -> bool:
    """Say whether all that is wrong with a record may be what a newer version added."""
    return all(one["type"] in _ADDITIONS for one in error.errors())
