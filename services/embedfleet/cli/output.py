"""What the commands print: for people on a terminal, one JSON object a line in a pipe."""

import json
import re
import sys
from typing import Any

from rich.console import Console

from embedfleet.contracts.errors import FleetError

# C0 but tab and newline, DEL, C1, and the marks that reorder text: a file name must not drive the terminal.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
# In JSON the same, for a pipe may end on a terminal; what ends a line for some readers; and the halves of
# characters that are in file names which aren't UTF-8. All are in strings only, where JSON takes an escape.
_ESCAPED = re.compile("[\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def on_terminal() -> bool:
    """Say whether a person reads stdout."""
    return sys.stdout.isatty()


def stdout() -> Console:
    """Return the console of results."""
    return Console(highlight=False, markup=False)


def stderr() -> Console:
    """Return the console of messages."""
    return Console(stderr=True, highlight=False, markup=False)


def emit(event: dict[str, Any]) -> None:
    """Print one JSON line, whose text is as it is where stdout's encoding has it, else escaped."""
    line = _line(event, ascii_only=False)
    try:
        line.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        line = _line(event, ascii_only=True)
    print(line, flush=True)


def _line(event: dict[str, Any], *, ascii_only: bool) -> str:
    whole = json.dumps(event, default=str, ensure_ascii=ascii_only)
    return _ESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", whole)


def plain(text: object) -> str:
    """Return foreign text that is safe to print: no control characters, no broken surrogates."""
    whole = str(text).encode("utf-8", "backslashreplace").decode()
    return _CONTROL.sub("\ufffd", whole)


def sentence(error: FleetError) -> str:
    """Return an error as one line: what happened, its code, and whether to try again."""
    again = "; try again later" if error.retryable and error.status in (429, 503) else ""
    return f"{error.detail.rstrip()} [{error.code}{again}]"
