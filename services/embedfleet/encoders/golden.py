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
from embedfleet.encoders.backends.choice import PLAIN
from embedfleet.encoders.base import Encoder, Vectors, pad
from embedfleet.encoders.encoder import ModelEncoder, make
from embedfleet.encoders.files import ModelFiles
from embedfleet.encoders.registry import KNOWN
from embedfleet.encoders.tokenizer import TextTokenizer

MIN_COSINE = 0.999
MIN_EXPORT_COSINE = 0.9999
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
    texts = _texts(entry)
    numbers = np.frombuffer(base64.b64decode(entry["vectors"]), dtype="<f4").astype(np.float32)
    return Golden(texts, numbers.reshape(len(texts), -1))


def cosines(encoder: Encoder, tokenizer: TextTokenizer, golden: Golden) -> Vectors:
    """Return float32[n]: the cosine of each text's vector to its golden one."""
    vectors = _encode(encoder, tokenizer, golden.texts)
    return np.asarray(np.sum(vectors * golden.vectors, axis=1), dtype=np.float32)


def gate(encoder: ModelEncoder, files: ModelFiles) -> str:
    """Hold an encoder against the model's golden vectors; return what was found, in words.

    A model without golden vectors is held against itself in fp32 on the CPU, loaded for that moment.

    Raises:
        ConfigurationError: a cosine is below `MIN_COSINE` or not a number; the code is `gate_failed`.
        EmbeddingError: the runtime failed on a batch.
    """
    tokenizer = TextTokenizer(files)
    golden, source = _golden_for(files), "the golden vectors"
    if golden is None:
        plain = PLAIN[encoder.choice.backend]
        if encoder.choice == plain:
            return "no golden vectors of this model"
        golden, source = _reference(make(files, plain, 0), tokenizer), "fp32 on the CPU"
    lowest = float(cosines(encoder, tokenizer, golden).min())
    if not lowest >= MIN_COSINE:
        raise ConfigurationError(
            f"the vectors of {encoder.choice} are wrong: cosine {lowest:.6f} to {source}, {MIN_COSINE} is "
            "needed; set FLEET_PRECISION=fp32, or get the model anew with `embedfleet models fetch --force`",
            code="gate_failed",
        )
    return f"cosine to {source} ≥ {lowest:.5f}"


def gate_export(files: ModelFiles) -> float:
    """Return the lowest cosine of a model's ONNX graph, in fp32 on the CPU, to its golden vectors.

    Raises:
        ConfigurationError: it is below `MIN_EXPORT_COSINE`, or the model has no golden vectors.
    """
    golden = read_golden(files.model_id)
    if golden is None:
        raise ConfigurationError(
            f"there are no golden vectors of {files.model_id} to hold an export against", code="model_export"
        )
    lowest = float(cosines(make(files, PLAIN["onnx"], 0), TextTokenizer(files), golden).min())
    if not lowest >= MIN_EXPORT_COSINE:
        raise ConfigurationError(
            "the exported graph gives other vectors than the model "
            f"(cosine {lowest:.6f} < {MIN_EXPORT_COSINE}); it was thrown away",
            code="model_export",
        )
    return lowest


def _golden_for(files: ModelFiles) -> Golden | None:
    """Return the golden vectors of exactly these files: those of another revision are others."""
    known = KNOWN.get(files.model_id)
    return read_golden(files.model_id) if known and known.revision == files.revision else None


def _reference(encoder: Encoder, tokenizer: TextTokenizer) -> Golden:
    """Return what an encoder gives for the texts of any golden set."""
    path = resources.files("embedfleet.encoders") / "golden.json"
    texts = _texts(next(iter(json.loads(path.read_text(encoding="utf-8")).values())))
    return Golden(texts, _encode(encoder, tokenizer, texts))


def _texts(entry: dict[str, Any]) -> list[str]:
    return [item if isinstance(item, str) else item["repeat"] * item["times"] for item in entry["texts"]]


def _encode(encoder: Encoder, tokenizer: TextTokenizer, texts: list[str]) -> Vectors:
    rows = tokenizer.encode(texts)
    starts = range(0, len(rows), BATCH_ROWS)
    return np.concatenate(
        [encoder.encode(*pad(rows[at : at + BATCH_ROWS], tokenizer.pad_id)) for at in starts]
    )
