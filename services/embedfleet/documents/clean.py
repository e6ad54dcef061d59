"""Blocks to one clean text whose pages and headings are known by offset (pure).

Each block is cleaned on its own and then joined, so offsets are right by construction. Every step is
linear in the text: patterns here never look ahead or repeat over a run without end.
"""

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from embedfleet.documents.parsers.block import Block

MAX_HEADING = 200
_JOINT = "\n\n"
# The stream-safe format (UAX #15, 13) allows 30 marks on a letter; normalising is quadratic in their number.
_MAX_MARKS = 30
_GRAPHEME_JOINER = "\u034f"

_SURROGATES = re.compile("[\ud800-\udfff]")
_LINE_ENDS = re.compile("\r\n?|[\x0b\x0c\u2028\u2029]")
# Not among those: read as Latin-1, many Vietnamese letters of UTF-8 have this character inside.
_NEXT_LINE = "\x85"
_SOFT_HYPHENS = re.compile("\u00ad(?: ?\n ?)?")
_CONTROLS = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\ufeff\ufffe\uffff\ufff9-\ufffb]")
_SPACES = re.compile("[ \t\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]+")
_LINE_EDGES = re.compile(" ?\n ?")
_BLANK_LINES = re.compile("\n{3,}")
_WRAPPED_WORD = re.compile(r"([^\W\d_])([-\u2010])\n([^\W\d_])")
# Letters that only Vietnamese has: about one in ten of its text, one in a hundred where names are in it.
_VIETNAMESE = re.compile("[ơưƠƯ\u1ea0-\u1ef9]")
_MIN_VIETNAMESE = 1 / 30
_NEAR = 100
# UTF-8 that was read as Windows-1252: a lead byte's letter, then a continuation byte's.
_MOJIBAKE = re.compile(
    "[\u00c2-\u00f4][\u0080-\u00bf\u0152\u0153\u0160\u0161\u0178\u017d\u017e\u0192\u02c6\u02dc\u2013-\u203a\u20ac\u2122]"
)
_MAX_MOJIBAKE_LINE = 5_000


_SUPPLEMENTARY = re.compile("[\U00010000-\U0001efff]")


def _many_marks(last: int) -> re.Pattern[str]:
    marks = "".join(chr(code) for code in range(0x300, last) if unicodedata.combining(chr(code)))
    return re.compile(f"[{marks}]{{{_MAX_MARKS}}}(?=[{marks}])")


# Apart, because a class with characters beyond 16 bits is searched twenty times slower.
_MANY_MARKS = _many_marks(0x10000)
_MANY_MARKS_ANYWHERE = _many_marks(0x1F000)


@dataclass(frozen=True, slots=True)
class CleanText:
    """A document's cleaned text.

    Attributes:
        text: NFC, without control characters and lone surrogates; blocks are apart by an empty line.
        page_starts: offsets at which a page starts, ascending.
        page_numbers: the page that starts there, from 1.
        heading_starts: offsets at which a heading starts, ascending.
        headings: its text, at most `MAX_HEADING` characters.
    """

    text: str
    page_starts: list[int] = field(default_factory=list)
    page_numbers: list[int] = field(default_factory=list)
    heading_starts: list[int] = field(default_factory=list)
    headings: list[str] = field(default_factory=list)

    def page_at(self, offset: int) -> int | None:
        """Return the page that a character is on; None where there are no pages."""
        at = bisect_right(self.page_starts, offset)
        return self.page_numbers[at - 1] if at else None

    def heading_at(self, offset: int) -> str | None:
        """Return the nearest heading at or above a character."""
        at = bisect_right(self.heading_starts, offset)
        return self.headings[at - 1] if at else None


def clean(blocks: Iterable[Block]) -> CleanText:
    """Clean blocks and join them into one text."""
    parts: list[str] = []
    result = CleanText("")
    offset = 0
    page: int | None = None
    for block in blocks:
        text = clean_text(block.text, wrapped=block.wrapped)
        if not text:
            continue
        if block.page is not None and block.page != page:
            page = block.page
            result.page_starts.append(offset)
            result.page_numbers.append(page)
        if block.heading_level is not None:
            result.heading_starts.append(offset)
            result.headings.append(" ".join(text[: 2 * MAX_HEADING].split())[:MAX_HEADING])
        parts.append(text)
        offset += len(text) + len(_JOINT)
    return CleanText(
        _JOINT.join(parts),
        result.page_starts,
        result.page_numbers,
        result.heading_starts,
        result.headings,
    )


def clean_text(text: str, *, wrapped: bool = False) -> str:
    """Return a block's text cleaned; stripped, so it may be empty.

    Args:
        text: any characters, lone surrogates too.
        wrapped: join words that were hyphenated at the end of a line; in Vietnamese, with their hyphen.
    """
    if _SURROGATES.search(text):
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    text = _LINE_ENDS.sub("\n", text)
    text = _without_mojibake(text).replace(_NEXT_LINE, "\n")
    text = _CONTROLS.sub("", text)
    text = _SPACES.sub(" ", text)
    text = _SOFT_HYPHENS.sub("", text)
    text = _LINE_EDGES.sub("\n", text)
    text = _BLANK_LINES.sub(_JOINT, text)
    text = normalise(text)
    if wrapped:
        text = _WRAPPED_WORD.sub(_join_word, text)
    return text.strip()


def normalise(text: str) -> str:
    """Return the text in NFC, in linear time also where thousands of marks sit on one letter."""
    if text.isascii():
        return text
    many = _MANY_MARKS_ANYWHERE if _SUPPLEMENTARY.search(text) else _MANY_MARKS
    text = many.sub(rf"\g<0>{_GRAPHEME_JOINER}", text)
    return text if unicodedata.is_normalized("NFC", text) else unicodedata.normalize("NFC", text)


def _join_word(found: re.Match[str]) -> str:
    before, hyphen, after = found.groups()
    if not after.islower():
        return found.group()
    # Vietnamese never hyphenates a syllable: its hyphens are those of a compound, or of a name.
    return before + hyphen + after if _is_vietnamese_near(found) else before + after


def _is_vietnamese_near(found: re.Match[str]) -> bool:
    near = found.string[max(0, found.start() - _NEAR) : found.end() + _NEAR]
    return len(_VIETNAMESE.findall(near)) >= _MIN_VIETNAMESE * len(near)


def _without_mojibake(text: str) -> str:
    if not _MOJIBAKE.search(text):
        return text
    fix = _mojibake_fixer()
    return "\n".join(
        fix(line) if len(line) <= _MAX_MOJIBAKE_LINE and _MOJIBAKE.search(line) else line
        for line in text.split("\n")
    )


def _mojibake_fixer() -> Callable[[str], str]:
    import ftfy

    # Only a line that decodes as a whole is changed: guesses about single characters change right text too.
    config = ftfy.TextFixerConfig(
        explain=False, restore_byte_a0=False, replace_lossy_sequences=False, decode_inconsistent_utf8=False
    )

    def fix(line: str) -> str:
        fixed: str = ftfy.fix_encoding(line, config)
        return fixed

    return fix
