"""Heading levels of a DOCX's paragraph styles."""

import re
from dataclasses import dataclass, field
from typing import Any

_HEADING = re.compile(r"heading ([1-9])\Z", re.IGNORECASE)
_MAX_CHAIN = 20


@dataclass
class StyleReader:
    """Reads styles.xml: a style is a heading by its name, its outline level, or the style it is based on."""

    _own: dict[str, int] = field(default_factory=dict)
    _parents: dict[str, str] = field(default_factory=dict)
    _style: str | None = None

    def start(self, tag: str, attributes: Any) -> None:
        """Note what says something about headings."""
        local = tag.rpartition("}")[2]
        if local == "style":
            self._style = value_of(attributes, "styleId")
        elif self._style is None:
            return
        elif local == "name":
            level = _level_of_name(value_of(attributes) or "")
            if level:
                self._own[self._style] = level
        elif local == "outlineLvl":
            level = outline_level(attributes)
            if level:
                self._own.setdefault(self._style, level)
        elif local == "basedOn":
            self._parents[self._style] = value_of(attributes) or ""

    def end(self, tag: str) -> None:
        """Leave a style."""
        if tag.endswith("}style"):
            self._style = None

    def levels(self) -> dict[str, int]:
        """Return the heading level of each style id that is a heading."""
        found = {}
        for style in {*self._own, *self._parents}:
            level = self._level(style)
            if level:
                found[style] = level
        return found

    def _level(self, style: str) -> int | None:
        for _ in range(_MAX_CHAIN):
            if style in self._own:
                return self._own[style]
            if style not in self._parents:
                return None
            style = self._parents[style]
        return None


def value_of(attributes: Any, name: str = "val") -> str | None:
    """Return an attribute by its local name, whatever namespace the document's dialect has."""
    for key, value in attributes.items():
        if key.rpartition("}")[2] == name:
            return str(value)
    return None


def outline_level(attributes: Any) -> int | None:
    """Return the heading level (from 1) of an outlineLvl element; level 9 there means body text."""
    value = value_of(attributes)
    if value is None or not value.isascii() or not value.isdigit() or len(value) > 2 or int(value) > 8:
        return None
    return int(value) + 1


def _level_of_name(name: str) -> int | None:
    if name.lower() == "title":
        return 1
    found = _HEADING.match(name)
    return int(found.group(1)) if found else None
