"""Where a text may be cut: after sentences, lines and words, never inside a visible character (pure).

Each search looks only at a window that is bounded by the chunk size, so cutting a text is linear.
"""

import re
import unicodedata

_CLOSERS = "[\"'”’»›)\\]}」』）】〉》]*"
# Latin, Greek and Arabic marks end a sentence before a space; CJK, Indic, Burmese and Ethiopic ones anywhere.
_SENTENCE_END = re.compile(rf"[.!?…;؟۔]{_CLOSERS}(?=\s)|[。！？｡．।॥။።]{_CLOSERS}|\n\n")
_LINE_END = re.compile(r"\n")
_WORD_END = re.compile(r"\s|[、，；：]|[)\]）」』](?=\w)")
_SENTENCE_START = re.compile(rf"(?:[.!?…؟۔]{_CLOSERS}\s|[。！？｡．।॥။።]{_CLOSERS}|\n)\s*(?=\S)")
_WORD_START = re.compile(r"\s(?=\S)|[、，；：]")
_JOINERS = "\u200c\u200d"
_MAX_CLUSTER = 64


def cut_before(text: str, earliest: int, latest: int) -> int:
    """Return the best place in (earliest, latest] to end a chunk: sentence, line, word, character.

    Returns `latest` itself (or a little less, to keep a visible character whole) where there is none.
    """
    for pattern in (_SENTENCE_END, _LINE_END, _WORD_END):
        best = 0
        # One character more, so that the space behind a full stop at the very end is seen.
        for found in pattern.finditer(text, earliest, min(latest + 1, len(text))):
            if earliest < found.end() <= latest:
                best = found.end()
        if best:
            return best
    return whole_character(text, earliest, latest)


def start_after(text: str, earliest: int, latest: int) -> int:
    """Return the best place in [earliest, latest] to start the overlap: sentence, word, character.

    Returns `latest`, no overlap, where one visible character fills it all.
    """
    for pattern in (_SENTENCE_START, _WORD_START):
        found = pattern.search(text, max(0, earliest - 1), latest)
        if found and earliest <= found.end() < latest:
            return found.end()
    # Forward, because the overlap may be smaller than was asked for, but not larger.
    for place in range(earliest, min(latest, earliest + _MAX_CLUSTER)):
        if not _continues(text, place):
            return place
    return latest if latest - earliest <= _MAX_CLUSTER else earliest


def whole_character(text: str, earliest: int, at: int) -> int:
    """Return the nearest place at or before `at` that is not inside a visible character.

    Gives up after `_MAX_CLUSTER` characters or at `earliest` (then `at` stands).
    """
    place = at
    for _ in range(_MAX_CLUSTER):
        if place <= earliest or place >= len(text) or not _continues(text, place):
            break
        place -= 1
    return place if place > earliest else at


def _continues(text: str, at: int) -> bool:
    character = text[at]
    return (
        character in _JOINERS
        or text[at - 1] == "\u200d"
        or unicodedata.category(character) in ("Mn", "Me", "Mc")
        or "\ufe00" <= character <= "\ufe0f"
        or "\U0001f3fb" <= character <= "\U0001f3ff"
    )
