"""What the documents tell to type: fenced blocks of YAML, and commands with their options."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import yaml

from tests.deploy.chart import ROOT, Values

PAGES = ("kubernetes", "clusters", "runbooks")
_FENCE = re.compile(r"^ *```(\w+)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
_INLINE = re.compile(r"`((?:helm|kubectl) [^`]+)`")
_FILE = re.compile(r"# (\S+\.yaml)\n")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of YAML.

    Attributes:
        name: page and line, for messages.
        file: what its first line calls it, or nothing.
        documents: what it holds.
    """

    name: str
    file: str
    documents: list[Any]

    @property
    def is_values(self) -> bool:
        """Whether it is for our chart, and no object of Kubernetes or of a tool."""
        return all("apiVersion" not in document for document in self.documents)


@dataclass(frozen=True, slots=True)
class Command:
    """A command line, with its options in the order in which they stand.

    Attributes:
        name: page and words, for messages.
        program: `helm` or `kubectl`.
        words: what comes before the first option.
        options: names as they are written, and their values.
    """

    name: str
    program: str
    words: list[str]
    options: list[tuple[str, str]]

    def all(self, *names: str) -> list[str]:
        """Return the values of an option that may be given several times."""
        return [value for name, value in self.options if name in names]


def text(page: str) -> str:
    """Return a page of docs/."""
    return (ROOT / f"docs/{page}.md").read_text("utf-8")


def blocks() -> list[Block]:
    """Return all blocks of YAML."""
    found = []
    for page in PAGES:
        for fence in _FENCE.finditer(text(page)):
            if fence[1] == "yaml":
                line = text(page)[: fence.start()].count("\n") + 1
                file = _FILE.match(fence[2])
                documents = list(yaml.safe_load_all(fence[2]))
                found.append(Block(f"{page}.md:{line}", file[1] if file else "", documents))
    return found


def values_of_file(page: str, file: str) -> Values:
    """Return the values that a page calls by a file's name."""
    (found,) = [one for one in blocks() if one.name.startswith(f"{page}.md") and one.file == file]
    (values,) = found.documents
    return dict(values)


def commands() -> list[Command]:
    """Return every command of helm and kubectl, of fenced blocks and within sentences."""
    return [_command(page, line) for page in PAGES for line in _lines(page)]


def _lines(page: str) -> Iterator[str]:
    for fence in _FENCE.finditer(text(page)):
        if fence[1] == "sh":
            for line in fence[2].replace("\\\n", " ").splitlines():
                if line.split()[:1] in (["helm"], ["kubectl"]):
                    yield line
    prose = _FENCE.sub("", text(page))
    yield from (" ".join(one.split()) for one in _INLINE.findall(prose) if "…" not in one)


def _command(page: str, line: str) -> Command:
    # What stands behind is another program's.
    program, *rest = takewhile(lambda word: word not in ("--", "|"), shlex.split(line, comments=True))
    words, options = [], []
    while rest:
        word = rest.pop(0)
        if not word.startswith("-"):
            words.append(word)
            continue
        name, _, value = word.partition("=")
        if not value and rest and not rest[0].startswith("-") and name not in SWITCHES:
            value = rest.pop(0)
        options.append((name, value))
    return Command(f"{page}.md: {line}", program, words, options)


# Options without a value; all others that the pages use have one.
SWITCHES = {
    *("--create-namespace", "--rollback-on-failure", "--reuse-values", "--reset-then-reuse-values"),
    *("--watch", "--overwrite", "--ignore-daemonsets", "--delete-emptydir-data"),
}
