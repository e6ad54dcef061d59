"""What an expression names, read off the text into which Prometheus itself puts what it has parsed."""

import re
from dataclasses import dataclass
from itertools import accumulate

STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
SELECTOR = re.compile(r"(?<![\w:])([a-zA-Z_:][\w:]*)(\{[^{}]*\})?(?!\w)(?! *\()")
LABELS = re.compile(r"\b(by|without|on|ignoring|group_left|group_right) \(([^()]*)\)")
MATCHER = re.compile(r'(\w+)(=~|!~|!=|=)("(?:[^"\\]|\\.)*")')
OPERATORS = frozenset({"and", "or", "unless", "bool", "offset", "by", "without", "inf", "nan"})


@dataclass(frozen=True, slots=True)
class Selector:
    """A metric and its matchers: (label, operator, quoted value)."""

    metric: str
    matchers: tuple[tuple[str, str, str], ...] = ()

    def text(self, without: frozenset[str] = frozenset()) -> str:
        """Return it as PromQL, without the matchers of some labels."""
        kept = [
            f"{label}{operator}{value}" for label, operator, value in self.matchers if label not in without
        ]
        return f"{self.metric}{{{','.join(kept)}}}"


@dataclass(frozen=True, slots=True)
class Grouping:
    """Labels by which something is grouped or joined, and the selectors of which one must have them."""

    labels: frozenset[str]
    selectors: frozenset[Selector]


def selectors(formatted: str) -> list[Selector]:
    """Return the selectors of an expression."""
    blind = LABELS.sub(lambda match: " " * len(match[0]), _blind(formatted))
    blind = re.sub(r"\[[^\]]*\]", lambda match: " " * len(match[0]), blind)
    found = []
    for match in SELECTOR.finditer(blind):
        if match[1] not in OPERATORS:
            matchers = formatted[match.start(2) : match.end(2)] if match[2] else ""
            found.append(Selector(match[1], tuple(MATCHER.findall(matchers))))
    return found


def groupings(formatted: str) -> list[Grouping]:
    """Return what an expression groups by: of an aggregation what is in its brackets, else all of it."""
    blind = _blind(formatted)
    found = []
    for match in LABELS.finditer(blind):
        labels = frozenset(filter(None, map(str.strip, match[2].split(","))))
        part = formatted
        if match[1] == "by":
            part = part[match.end() : match.end() + _closing(blind[match.end() :])]
        found.append(Grouping(labels, frozenset(selectors(part))))
    return found


def _closing(text: str) -> int:
    """Return the length of a text up to the bracket that closes the first that it opens."""
    depths = list(accumulate({"(": 1, ")": -1}.get(letter, 0) for letter in text))
    return depths.index(0, depths.index(1)) + 1


def _blind(text: str) -> str:
    """Return a text with its strings blanked: nothing in them is a name or a bracket."""
    return STRING.sub(lambda match: '"' + " " * (len(match[0]) - 2) + '"', text)
