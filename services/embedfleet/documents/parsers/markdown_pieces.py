"""Cut Markdown source into bounded pieces at places where no construct spans the cut (pure)."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

PIECE_CHARACTERS = 200_000
MAX_LINE = 20_000

# Behind backticks that open a fence there are no more of them in the line: that would be code in a sentence.
_FENCE = re.compile(r" {0,3}(`{3,}(?=[^`\n]*$)|~{3,})(.*)", re.MULTILINE)
_FRONT_MATTER = re.compile(
    r"\A\ufeff?---[ \t]*\n(.*?)^(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE
)
_MAX_FRONT_MATTER = 20_000


@dataclass(frozen=True, slots=True)
class Piece:
    """Whole lines of the source.

    Attributes:
        text: the lines; in front of them the mark of the fence that they're inside of, if any.
        end: offset behind them in the source.
        plain: one overlong line, which is not worth (or not safe) to parse.
    """

    text: str
    end: int
    plain: bool = False


def split_front_matter(text: str) -> tuple[str, str]:
    """Return the YAML between the leading `---` lines (or an empty string), and the rest."""
    if not text.startswith(("---", "\ufeff---")):
        return "", text
    found = _FRONT_MATTER.match(text, 0, _MAX_FRONT_MATTER)
    return (found.group(1).strip(), text[found.end() :]) if found else ("", text)


def pieces(text: str) -> Iterator[Piece]:
    """Cut at blank lines and headings outside fences once a piece is full; at any line when far over."""
    start = position = 0
    # The mark of the fence that is open where the text is read, and where the piece starts.
    fence = opened = ""
    for line in _lines(text):
        full = position - start
        if len(line) > MAX_LINE:
            if full:
                yield _piece(text[start:position], position, opened)
            start = position = position + len(line)
            opened = fence
            yield Piece(line, start, plain=True)
            continue
        if full > PIECE_CHARACTERS and (_is_joint(line, fence) or full > 4 * PIECE_CHARACTERS):
            yield _piece(text[start:position], position, opened)
            start, opened = position, fence
        fence = _fence_after(line, fence)
        position += len(line)
    if position > start:
        yield _piece(text[start:position], position, opened)


def _piece(text: str, end: int, fence: str) -> Piece:
    return Piece(f"{fence}\n{text}" if fence else text, end)


def _is_joint(line: str, fence: str) -> bool:
    return not fence and (not line.strip() or line.startswith("#"))


def _fence_after(line: str, fence: str) -> str:
    found = _FENCE.match(line)
    if not found:
        return fence
    marks, behind = found.groups()
    if not fence:
        return marks
    return "" if marks.startswith(fence) and not behind.strip() else fence


def _lines(text: str) -> Iterator[str]:
    start = 0
    while start < len(text):
        end = text.find("\n", start) + 1 or len(text)
        yield text[start:end]
        start = end
