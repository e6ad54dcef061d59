"""What must hold of an encoder on a GPU before it may serve: each check returns what it saw, or raises."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np

from embedfleet.contracts.errors import EmbeddingError
from embedfleet.embeddings.memory import Device
from embedfleet.embeddings.memory.probing import measure, shapes
from embedfleet.embeddings.sizing import holds
from embedfleet.encoders.base import OUT_OF_MEMORY, Encoder, Vectors
from embedfleet.encoders.golden import Golden, cosines
from embedfleet.encoders.tokenizer import TextTokenizer

LEAST_COSINE = 0.999
MOST_ROWS = 1 << 20
# A token id that every vocabulary has.
ANY_ID = 5


class CheckFailed(Exception):
    """What was seen is not what must be."""


def provider(encoder: Encoder) -> dict[str, Any]:
    """See that the model runs on the GPU."""
    if encoder.device != "cuda":
        raise CheckFailed(f"the encoder runs on {encoder.device}, not on the GPU")
    return {"device": encoder.device, "precision": encoder.precision}


def gate(encoder: Encoder, tokenizer: TextTokenizer, golden: Golden) -> dict[str, Any]:
    """See that its vectors are those of sentence-transformers."""
    found = cosines(encoder, tokenizer, golden)
    least = float(found.min())
    if not least >= LEAST_COSINE:
        raise CheckFailed(f"least cosine {least:.6f} to the golden vectors, wanted {LEAST_COSINE}")
    return {"cos_min": least, "cos_mean": float(found.mean())}


def memory_fit(
    encoder: Encoder, device: Device, cap_tokens: int, give_back: Callable[[], object]
) -> dict[str, Any]:
    """Fit what a batch costs by the worker's own probes; hold it against a shape that was not probed."""
    model = measure(
        lambda rows, length: _batch(encoder, rows, length),
        give_back,
        device,
        shapes(encoder.max_tokens, cap_tokens),
        ours := holds(device),
    )
    rows, length = max(1, cap_tokens // encoder.max_tokens), encoder.max_tokens
    give_back()
    free, held = device.free(), ours() if ours else 0
    _batch(encoder, rows, length)
    taken = ours() - held if ours else free - device.free()
    expected = model.bytes(rows, length)
    return {
        **asdict(model),
        "expected_bytes": expected,
        "taken_bytes": taken,
        "ratio": _ratio(expected, taken),
    }


def out_of_memory(encoder: Encoder) -> dict[str, Any]:
    """Double a batch until memory is full: the error must be typed, and the encoder must go on after it."""
    before, rows = _batch(encoder, 2, encoder.max_tokens), 64
    while rows <= MOST_ROWS:
        try:
            _batch(encoder, rows, encoder.max_tokens)
        except EmbeddingError as error:
            if error.code != OUT_OF_MEMORY:
                raise CheckFailed(f"{rows} rows failed, but not as out of memory: {error.detail}") from error
            after = _batch(encoder, 2, encoder.max_tokens)
            if not np.allclose(before, after, atol=1e-3):
                raise CheckFailed("after running out of memory the same batch gives other vectors") from error
            return {"rows": rows, "length": encoder.max_tokens, "error": error.detail[:300]}
        rows *= 2
    raise CheckFailed(f"{MOST_ROWS} rows of {encoder.max_tokens} tokens did not fill the memory")


def _batch(encoder: Encoder, rows: int, length: int) -> Vectors:
    ids = np.full((rows, length), ANY_ID, dtype=np.int64)
    return encoder.encode(ids, np.full(rows, length, dtype=np.int32))


def _ratio(expected: float, taken: float) -> float | None:
    return expected / taken if taken else None
