"""The Dockerfiles, read as far as the tests ask: stages and their instructions."""

import json
import re
from dataclasses import dataclass, field

from tests.deploy.chart import ROOT

KINDS = ("api", "documents", "embeddings")
# Image → Dockerfile and the stage that is its target.
TARGETS = {
    "api": ("api", "api"),
    "documents": ("documents", "documents"),
    "embeddings-cpu": ("embeddings", "cpu"),
    "embeddings-gpu": ("embeddings", "gpu"),
}


@dataclass
class Stage:
    """A stage: what it is made from, and its instructions in order."""

    base: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def all(self, name: str) -> list[str]:
        """Return the arguments of all instructions of this name."""
        return [text for instruction, text in self.instructions if instruction == name]


def read(kind: str) -> tuple[list[str], dict[str, Stage]]:
    """Return the arguments before the first stage, and the stages by name."""
    text = (ROOT / "images" / kind / "Dockerfile").read_text("utf-8")
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    first: list[str] = []
    stages: dict[str, Stage] = {}
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        if not line.strip():
            continue
        name, _, arguments = line.partition(" ")
        if name == "FROM":
            base, _, stage = arguments.partition(" AS ")
            stages[stage] = Stage(base)
        elif stages:
            next(reversed(stages.values())).instructions.append((name, arguments.strip()))
        else:
            first.append(arguments)
    return first, stages


def target(image: str) -> Stage:
    """Return the stage of an image with the instructions of those that it is made from."""
    kind, name = TARGETS[image]
    _, stages = read(kind)
    chain: list[tuple[str, str]] = []
    base = name
    while base in stages:
        chain = stages[base].instructions + chain
        base = stages[base].base
    return Stage(base, chain)


def environment(stage: Stage) -> dict[str, str]:
    """Return the variables that a stage sets."""
    pairs = [re.findall(r"(\w+)=(\S*)", text) for text in stage.all("ENV")]
    return {name: value for found in pairs for name, value in found}


def exec_form(text: str) -> list[str]:
    """Return a command in exec form; a shell's is no JSON."""
    return [str(word) for word in json.loads(text)]
