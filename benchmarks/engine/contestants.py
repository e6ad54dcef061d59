"""Who takes part, in which environment, with which variables."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.bench.machine import threads
from benchmarks.bench.process import ROOT
from embedfleet.encoders.files import ModelFiles

REFERENCE = "sentence-transformers fp32"
ENGINE = "engine"
GEMM = "gemm"
INFINITY = "infinity torch"
FASTEMBED = "fastembed"
PEERS = (INFINITY, FASTEMBED)


@dataclass(frozen=True, slots=True)
class Entry:
    """One contestant before it is started.

    Attributes:
        name: in tables.
        module: its program.
        environment: folder of its virtual environment.
        env: its variables.
        precision: what it must say that it computes in; another one is not what was asked for.
        is_required: there are no rounds without it.
        target: of make; installs its environment.
    """

    name: str
    module: str
    environment: Path
    env: Mapping[str, str] = field(default_factory=dict)
    precision: str = ""
    is_required: bool = False
    target: str = "bench"

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.environment / "bin" / "python"

    @property
    def absence(self) -> str:
        """Why it can't be started, when its environment is not here; else nothing."""
        return "" if self.python.exists() else f"it is not installed: run `make {self.target}`"

    def why_not(self, facts: Mapping[str, Any]) -> str:
        """Return why it isn't what was asked for, by what it says of itself; else nothing."""
        found = str(facts.get("precision", ""))
        return f"it computes in {found}" if self.precision and found != self.precision else ""


def ours(own: Path, torch_environment: Path) -> list[Entry]:
    """Return our engine as it configures itself, and each backend by its name."""
    program, count = "benchmarks.engine.ours", str(threads())

    def entry(name: str, place: Path, precision: str = "", **env: str) -> Entry:
        env = {"FLEET_DEVICE": "cpu", "FLEET_ENCODER_THREADS": count, **env}
        return Entry(name, program, place, env, precision, is_required=name == ENGINE)

    return [
        entry(ENGINE, own),
        *(
            entry(
                f"ours, {backend} {precision}",
                place,
                precision,
                FLEET_BACKEND=backend,
                FLEET_PRECISION=precision,
            )
            for backend, place in (("onnx", own), ("torch", torch_environment))
            for precision in ("fp32", "bf16")
        ),
    ]


def others(torch_environment: Path, weights: ModelFiles) -> list[Entry]:
    """Return the reference and the measure of what the machine multiplies."""
    env = {"BENCH_THREADS": str(threads()), "BENCH_MODEL": str(weights.folder)}
    return [
        Entry(REFERENCE, "benchmarks.engine.sentence", torch_environment, env, is_required=True),
        Entry(GEMM, "benchmarks.engine.gemm", torch_environment, env, is_required=True),
    ]


def peers(weights: ModelFiles, graph: ModelFiles, folder: Path) -> list[Entry]:
    """Return the engines of others, which `make bench-peers` installs.

    Args:
        weights: the checkpoint.
        graph: the same model with its ONNX graph.
        folder: temporary; fastembed wants tokenizer and graph side by side.
    """
    env = {"BENCH_THREADS": str(threads()), "OMP_NUM_THREADS": str(threads())}
    folder.mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        shutil.copyfile(weights.folder / name, folder / name)
    shutil.copyfile(graph.onnx or graph.folder, folder / "model.onnx")
    return [
        Entry(
            INFINITY,
            "benchmarks.engine.infinity_peer",
            ROOT / ".venv-infinity",
            env | {"BENCH_MODEL": str(weights.folder)},
            target="bench-peers",
        ),
        Entry(
            FASTEMBED,
            "benchmarks.engine.fastembed_peer",
            ROOT / ".venv-fastembed",
            env | {"BENCH_MODEL": str(folder)},
            target="bench-peers",
        ),
    ]
