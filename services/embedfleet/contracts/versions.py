"""What a newer version wrote: told apart from what is damaged, and left to a process that knows it.

While a new version rolls out, both versions see the same messages, rows and manifests. What the newer one
added may matter, so who acts on a message, a claim or a manifest takes only what it knows to the last field.
Who only shows a record leaves out what it doesn't know.
"""

from pydantic import ValidationError

# A field, a word, or a number beyond the bounds that this version knows.
_ADDITIONS = {"extra_forbidden", "enum", "literal_error", "less_than_equal", "greater_than_equal"}


def is_newer(error: ValidationError) -> bool:
    """Say whether all that is wrong with a record may be what a newer version added."""
    return all(one["type"] in _ADDITIONS for one in error.errors())
