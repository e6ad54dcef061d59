"""Golden vectors: what sentence-transformers gives for fixed texts, and the gate that compares.

Wrong pooling, a wrong length limit or a bad export give wrong vectors without any error; only a
comparison shows it. `tests/encoders/make_golden.py` makes the file.
"""

import base64
import json
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np

from embedfleet.contracts.errors import ConfigurationError
from embedfleet.encoders.base import Encoder, Vectors, build, pad
from embedfleet.encoders.files import ModelFiles
from embedfleet.encoders.tokenizer import TextTokenizer
from embedfleet.runtime.settings import EngineSettings

MIN_COSINE = 0.9999
BATCH_ROWS = 8


@dataclass(frozen=True, slots=True)
class Golden:
    """Texts and their vectors, float32[n, dim], of length 1."""

    texts: list[str]
    vectors: Vectors


def read_golden(model_id: str) -> Golden | None:
    """Return the golden set of a model, or None where there is none."""
    path = resources.files("embedfleet.encoders") / "golden.json"
    entry: dict[str, Any] | None = json.loads(path.read_text(encoding="utf-8")).get(model_id)
    if entry is None:
        return None
    return golden_of(entry)


def golden_of(entry: dict[str, Any]) -> Golden:
    """Return the golden set that one entry of a golden file holds."""
    texts = [item if isinstance(item, str) else item["repeat"] * item["times"] for item in entry["texts"]]
    numbers = np.frombuffer(base64.b64decode(entry["vectors"]), dtype="<f4").astype(np.float32)
    return Golden(texts, numbers.reshape(len(texts), -1))


def cosines(encoder: Encoder, tokenizer: TextTokenizer, golden: Golden) -> Vectors:
    """Return float32[n]: the cosine of each text's vector to its golden one."""
    rows = tokenizer.encode(golden.texts)
    batches = [
        encoder.encode(*pad(rows[first : first + BATCH_ROWS], tokenizer.pad_id))
        for first in range(0, len(rows), BATCH_ROWS)
    ]
    return np.asarray(np.sum(np.concatenate(batches) * golden.vectors, axis=1), dtype=np.float32)


def gate(files: ModelFiles) -> float:
    """Return the lowest cosine of a model's ONNX graph to its golden vectors.

    Raises:
        ConfigurationError: it is below `MIN_COSINE`, or the model has no golden vectors.
    """
    golden = read_golden(files.model_id)
    if golden is None:
        raise ConfigurationError(
            f"there are no golden vectors of {files.model_id} to hold an export against", code="model_export"
        )
    encoder = build(files, EngineSettings(device="cpu", backend="onnx"))
    lowest = float(cosines(encoder, TextTokenizer(files), golden).min())
    if not lowest >= MIN_COSINE:
        raise ConfigurationError(
            f"the exported graph gives other vectors than the model (cosine {lowest:.6f} < {MIN_COSINE}); "
            "it was thrown away",
            code="model_export",
        )
    return lowest
