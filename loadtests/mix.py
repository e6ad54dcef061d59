"""What users upload, and what they do then: a mix is read from a file, and wishes are drawn from it. Pure."""

import random
import tomllib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

TYPES = ("pdf", "docx", "md", "txt")
SIZES = ("small", "medium", "large")
LANGUAGES = ("en", "vi")
PARTS = {"characters", "bytes", "percent", "file", "language"}


class Then(StrEnum):
    """What a user does after an upload was taken."""

    WAIT = "wait"
    REVOKE = "revoke"
    CHANGE = "change"


@dataclass(frozen=True, slots=True, order=True)
class Kind:
    """What a file is like."""

    type: str
    size: str


@dataclass(frozen=True, slots=True)
class Wish:
    """One user's wish.

    Attributes:
        number: from 1 on.
        kind: of the file.
        language: of the text, when it is generated, else empty.
        then: what follows.
    """

    number: int
    kind: Kind
    language: str
    then: Then


@dataclass(frozen=True)
class Mix:
    """Weights by kind and language, sizes, and how many of a hundred users do what."""

    weights: Mapping[Kind, float]
    languages: Mapping[str, float]
    characters: Mapping[str, tuple[int, int]]
    most_bytes: Mapping[str, int]
    revoked: float
    changed: float

    @classmethod
    def parse(cls, text: str) -> "Mix":
        """Read a mix from TOML.

        Raises:
            ValueError: it isn't of the form of `mix.toml`; the text says where.
        """
        found = tomllib.loads(text)
        _same("parts", found, PARTS)
        _same("[characters]", found["characters"], SIZES)
        _same("[bytes]", found["bytes"], SIZES)
        _same("[percent]", found["percent"], ("revoked", "changed"))
        weights = {
            Kind(_one_of("type", file["type"], TYPES), _one_of("size", size, SIZES)): float(weight)
            for file in found["file"]
            for size, weight in file["weight"].items()
        }
        languages = {_one_of("language", name, LANGUAGES): float(n) for name, n in found["language"].items()}
        for name, drawn in (("file", weights), ("language", languages)):
            if min(drawn.values(), default=0) < 0 or sum(drawn.values()) <= 0:
                raise ValueError(f"{name}: weights are 0 or more, and not all of them 0")
        if not 0 <= found["percent"]["revoked"] <= 100 - found["percent"]["changed"] <= 100:
            raise ValueError("[percent]: each is 0 or more, and together they are 100 at most")
        characters = {size: (least, most) for size, (least, most) in found["characters"].items()}
        return cls(weights, languages, characters, found["bytes"], **found["percent"])

    def size_of(self, size_bytes: int) -> str | None:
        """Return whether a file of so many bytes is small, medium or large; None: larger than that."""
        return next((size for size in SIZES if size_bytes <= self.most_bytes[size]), None)

    def only(self, kinds: Collection[Kind]) -> "Mix":
        """Return the mix of those kinds that there are files of; nobody knows their language.

        Raises:
            ValueError: none of them has a weight.
        """
        weights = {kind: weight for kind, weight in self.weights.items() if kind in kinds and weight > 0}
        if not weights:
            raise ValueError(
                f"the mix has weights for none of {sorted(kinds)}: change it, or give other files"
            )
        return Mix(weights, {"": 1.0}, self.characters, self.most_bytes, self.revoked, self.changed)

    def wishes(self, seed: int) -> Iterator[Wish]:
        """Yield wishes without end, the same ones for the same seed."""
        dice, number = random.Random(seed), 0  # noqa: S311 — repeatable on purpose
        kinds, languages = sorted(self.weights), sorted(self.languages)
        kind_weights = [self.weights[kind] for kind in kinds]
        language_weights = [self.languages[language] for language in languages]
        thens = (Then.REVOKE, Then.CHANGE, Then.WAIT)
        then_weights = (self.revoked, self.changed, 100 - self.revoked - self.changed)
        while True:
            number += 1
            (kind,) = dice.choices(kinds, kind_weights)
            (language,) = dice.choices(languages, language_weights)
            (then,) = dice.choices(thens, then_weights)
            yield Wish(number, kind, language, then)


def _same(name: str, found: Mapping[str, Any], wanted: Collection[str]) -> None:
    if set(found) != set(wanted):
        raise ValueError(f"{name}: there are {sorted(found)}, there must be {sorted(wanted)}")


def _one_of(name: str, found: str, known: Collection[str]) -> str:
    if found not in known:
        raise ValueError(f"{name}: {found!r} is none of {', '.join(known)}")
    return found
