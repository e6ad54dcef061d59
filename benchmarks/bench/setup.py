"""What every part of the benchmark needs: size, environments, model, texts, a temporary folder."""

import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from benchmarks.bench.corpus import Corpus
from benchmarks.bench.corpus import load as load_corpus
from benchmarks.bench.process import ROOT
from benchmarks.bench.rounds import Plan
from embedfleet.encoders import models
from embedfleet.encoders.files import ModelFiles
from embedfleet.encoders.tokenizer import TextTokenizer
from embedfleet.runtime.settings import ModelSettings

FULL = 1.0


@dataclass(frozen=True)
class Setup:
    """One run.

    Attributes:
        folder: temporary; texts, vectors, logs and the fleet's data.
        size: 1 for the figures of record, less is quick.
        say: takes a line of progress.
    """

    folder: Path
    size: float
    say: Callable[[str], None]

    @property
    def own_environment(self) -> Path:
        """The virtual environment of this process, which is the workers', too."""
        return Path(sys.prefix)

    @property
    def torch_environment(self) -> Path:
        """The one with torch and sentence-transformers: `BENCH_VENV`, else `.venv-bench`."""
        return Path(os.environ.get("BENCH_VENV", ROOT / ".venv-bench"))

    @cached_property
    def graph(self) -> ModelFiles:
        """The model as the workers have it."""
        return models.locate(ModelSettings(), "onnx")

    @cached_property
    def weights(self) -> ModelFiles:
        """The model's checkpoint, for torch."""
        return models.locate(ModelSettings(), "torch")

    @cached_property
    def tokenizer(self) -> TextTokenizer:
        """The model's tokenizer."""
        return TextTokenizer(self.graph)

    @cached_property
    def corpus(self) -> Corpus:
        """The texts."""
        return load_corpus(self.tokenizer)

    def scaled(self, count: int, least: int = 1) -> int:
        """Return a count in this run's size."""
        return max(least, round(count * self.size))

    def plan(self, full: Plan) -> Plan:
        """Return a plan in this run's size; its seconds are a limit, and stay."""
        return Plan(
            wanted=self.scaled(full.wanted),
            most=self.scaled(full.most, 3),
            seconds=full.seconds,
            welcome=self.scaled(full.welcome, 0),
        )

    def texts(self, name: str, texts: Sequence[str]) -> str:
        """Write texts for contestants; return the file's name."""
        path = self.folder / f"{name}.json"
        path.write_text(json.dumps(list(texts), ensure_ascii=False), "utf-8")
        return str(path)

    def log(self, name: str) -> Path:
        """Return the log of a process."""
        return self.folder / f"{''.join(letter if letter.isalnum() else '-' for letter in name)}.log"
