"""Walks the XML of one DOCX part and gathers its text, in reading order.

Works by local names, so the transitional and the strict dialect read alike. Deleted and moved-away
text, fallbacks of drawings, and ruby glosses are left out; inserted text, text boxes and content
controls are just walked through.
"""

import unicodedata
from dataclasses import dataclass, field
from typing import Any

from embedfleet.documents.parsers.block import Block, CharacterBudget
from embedfleet.documents.parsers.docx.styles import outline_level, value_of

_SKIPPED = frozenset({"del", "moveFrom", "rt", "pPrChange", "rPrChange", "tblPrChange"})
_MARKS = {"tab": "\t", "ptab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-"}
_TEXT = "t"


@dataclass
class _Paragraph:
    """A paragraph that is being read."""

    text: list[str] = field(default_factory=list)
    style: str | None = None
    outline: int | None = None
    in_properties: bool = False


@dataclass
class _Row:
    """A table row that is being read: finished cells, and the texts of the open one."""

    cells: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)


class TextReader:
    """Reads a part into blocks: one a paragraph, one a table row.

    Args:
        levels: heading level of each style id.
        budget: counts the characters.
    """

    def __init__(self, levels: dict[str, int], budget: CharacterBudget) -> None:
        self.blocks: list[Block] = []
        self._levels = levels
        self._budget = budget
        self._paragraphs: list[_Paragraph] = []
        self._rows: list[_Row] = []
        self._skipping = 0
        self._in_text = False
        self._choices: list[bool] = []

    def start(self, tag: str, attributes: Any) -> None:
        """Enter an element."""
        local = tag.rpartition("}")[2]
        if self._skipping or self._is_skipped(local):
            self._skipping += 1
            return
        if local == _TEXT:
            self._in_text = True
        elif local == "p":
            self._paragraphs.append(_Paragraph())
        elif local == "tr":
            self._rows.append(_Row())
        elif local == "AlternateContent":
            self._choices.append(False)
        elif self._paragraphs:
            self._start_in_paragraph(local, attributes, self._paragraphs[-1])

    def end(self, tag: str) -> None:
        """Leave an element."""
        if self._skipping:
            self._skipping -= 1
            return
        local = tag.rpartition("}")[2]
        if local == _TEXT:
            self._in_text = False
        elif local == "p" and self._paragraphs:
            self._finish(self._paragraphs.pop())
        elif local == "tc" and self._rows:
            row = self._rows[-1]
            row.cells.append("\n".join(row.texts))
            row.texts.clear()
        elif local == "tr" and self._rows:
            self._emit(" | ".join(cell for cell in self._rows.pop().cells if cell), None)
        elif local == "AlternateContent" and self._choices:
            self._choices.pop()
        elif local == "pPr" and self._paragraphs:
            self._paragraphs[-1].in_properties = False

    def data(self, text: str) -> None:
        """Take characters: only those of text runs count."""
        if self._in_text and not self._skipping and self._paragraphs:
            self._budget.spend(len(text))
            self._paragraphs[-1].text.append(text)

    def _is_skipped(self, local: str) -> bool:
        if local == "Choice" and self._choices:
            # A second Choice says the same as the first one in newer terms.
            taken, self._choices[-1] = self._choices[-1], True
            return taken
        if local == "Fallback" and self._choices:
            return self._choices[-1]
        # An empty w:del inside paragraph properties marks a deleted paragraph end, not text.
        return local in _SKIPPED

    def _start_in_paragraph(self, local: str, attributes: Any, paragraph: _Paragraph) -> None:
        if local == "pPr":
            paragraph.in_properties = True
        elif paragraph.in_properties:
            if local == "pStyle":
                paragraph.style = value_of(attributes)
            elif local == "outlineLvl":
                paragraph.outline = outline_level(attributes)
        elif local in _MARKS:
            paragraph.text.append(_MARKS[local])
        elif local == "sym":
            paragraph.text.append(_symbol(attributes))

    def _finish(self, paragraph: _Paragraph) -> None:
        level = paragraph.outline or self._levels.get(paragraph.style or "")
        self._emit("".join(paragraph.text), level)

    def _emit(self, text: str, level: int | None) -> None:
        if not text or text.isspace():
            return
        if self._rows:
            self._rows[-1].texts.append(text)
        else:
            self.blocks.append(Block(text, heading_level=level))


def _symbol(attributes: Any) -> str:
    """Return the character of a w:sym; a space for those that only its font knows (private use)."""
    try:
        symbol = chr(int(value_of(attributes, "char") or "", 16))
    except (ValueError, OverflowError):
        return " "
    return " " if unicodedata.category(symbol).startswith("C") else symbol
