"""When a page's text from pypdf deserves a second opinion, and which of two texts is better (pure)."""

import re

# Private use, replacement and control characters: glyphs without a character, the mark of a broken font map.
_UNREADABLE = re.compile("[\x00-\x08\x0e-\x1f\ufffd\ue000-\uf8ff]")
_WORD = re.compile(r"[^\W\d_]{2,}")
_MAX_UNREADABLE = 0.02


def doubtful(text: str) -> bool:
    """Return whether the text is empty or unreadable enough to ask another engine."""
    return not text.strip() or _unreadable_share(text) > _MAX_UNREADABLE


def better(first: str, second: str) -> str:
    """Return the text with more readable words; the first when they are even."""
    return second if _readable(second) > _readable(first) else first


def _unreadable_share(text: str) -> float:
    return len(_UNREADABLE.findall(text)) / max(1, len(text))


def _readable(text: str) -> float:
    letters = sum(len(word) for word in _WORD.findall(text))
    return letters - 10 * len(_UNREADABLE.findall(text))
