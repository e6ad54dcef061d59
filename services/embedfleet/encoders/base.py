"""What an encoder is, and how the configured one is made."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from embedfleet.contracts.errors import EmbeddingError
from embedfleet.encoders.files import ModelFiles
from embedfleet.encoders.models import locate, verify
from embedfleet.runtime.settings import EngineSettings, ModelSettings

Ids = npt.NDArray[np.int64]
Lengths = npt.NDArray[np.int32]
Vectors = npt.NDArray[np.float32]

OUT_OF_MEMORY = "out_of_memory"


class Encoder(Protocol):
    """Token ids to vectors. Every backend passes the same conformance suite; thread-safe.

    Attributes:
        max_tokens: longest row, special tokens included.
        multiple: batches are padded to a multiple of this many tokens, but not beyond `max_tokens`: what a
            batch costs goes by that width.
        streams: batches that it computes side by side, each with its share of the cores: with fewer at once,
            cores are idle.
        dim: length of a vector.
        model_key: vectors with the same key are comparable (model, revision, pooling, prefix).
        precision: numbers that the model is computed in: `fp32`, `bf16` or `fp16`; apart from the key.
        provider: what runs it: `cuda`, `openvino` or `cpu` of ONNX Runtime, or `torch`.
        device: whose memory it takes, `cpu` or `cuda`.
    """

    max_tokens: int
    multiple: int
    streams: int
    dim: int
    model_key: str
    precision: str
    provider: str
    device: str

    def encode(self, token_ids: Ids, lengths: Lengths) -> Vectors:
        """Return one pooled, L2-normalised vector a row.

        Args:
            token_ids: int64[n, width], rows filled up to `width` with any id.
            lengths: int32[n], tokens of each row, from 1 to `width`.

        Returns:
            float32[n, dim], each row of length 1. A row's vector depends on its own tokens alone,
            up to rounding (cosine ≥ 0.99999 whatever it is batched with; 0.999 in reduced precision). A row
            to which the model gave no direction (zero, infinite or not a number) is NaN throughout: the
            caller fails that row, and it alone.

        Raises:
            EmbeddingError: a shape or length is wrong, or the runtime failed; the code is
                `out_of_memory` where a smaller batch may pass.
        """
        ...

    def give_back(self) -> None:
        """Give memory that the runtime keeps idle back to the device; costs milliseconds.

        Raises:
            EmbeddingError: the runtime failed.
        """
        ...


def pad(rows: Sequence[Sequence[int]], pad_id: int) -> tuple[Ids, Lengths]:
    """Return rows of token ids as one rectangle, as wide as the longest.

    Returns:
        int64[n, width] and int32[n]; width is 0 without rows.
    """
    lengths = np.fromiter((len(row) for row in rows), dtype=np.int32, count=len(rows))
    ids = np.full((len(rows), int(lengths.max(initial=0))), pad_id, dtype=np.int64)
    for position, row in enumerate(rows):
        ids[position, : len(row)] = row
    return ids, lengths


def padded_width(width: int, multiple: int, most: int) -> int:
    """Return the width that a batch really has: the next multiple, but no more than the model's limit."""
    return max(width, min(-(-width // multiple) * multiple, most))


def load(model: ModelSettings, engine: EngineSettings) -> Encoder:
    """Make the configured encoder from files that are already here, verified by sha256.

    Raises:
        ConfigurationError: the model is missing or damaged, its backend is not installed, FLEET_DEVICE or
            FLEET_PRECISION asks for what is not here, the vectors are wrong (`gate_failed`), or it found too
            little memory (`out_of_memory`).
    """
    # Imported here, as below: whoever needs the protocol alone loads no runtime.
    from embedfleet.encoders.start import build

    files = locate(model, engine.backend)
    verify(files)
    return build(files, engine)


def check_batch(token_ids: npt.NDArray[Any], lengths: npt.NDArray[Any], files: ModelFiles) -> None:
    """Refuse a batch that a model can't take: on a GPU a wrong id would end the whole process's CUDA.

    Raises:
        EmbeddingError: the code is `bad_batch`; the detail says what is wrong.
    """
    if token_ids.ndim != 2 or lengths.shape != (token_ids.shape[0],):
        problem = f"shapes {token_ids.shape} and {lengths.shape} are not (n, width) and (n,)"
    elif token_ids.dtype != np.int64 or lengths.dtype != np.int32:
        problem = f"dtypes {token_ids.dtype} and {lengths.dtype} are not int64 and int32"
    elif token_ids.shape[1] > files.max_tokens:
        problem = f"rows of {token_ids.shape[1]} tokens are longer than the model's {files.max_tokens}"
    elif lengths.size and not (lengths.min() >= 1 and lengths.max() <= token_ids.shape[1]):
        problem = f"lengths from {lengths.min()} to {lengths.max()} are not within 1 to {token_ids.shape[1]}"
    elif token_ids.size and not (token_ids.min() >= 0 and token_ids.max() < files.vocabulary):
        problem = f"ids from {token_ids.min()} to {token_ids.max()} are not below {files.vocabulary}"
    else:
        return
    raise EmbeddingError(f"the encoder was given a wrong batch: {problem}", code="bad_batch")


def normalised(vectors: Vectors) -> Vectors:
    """Return rows scaled to length 1; a row that has no direction (zero, infinite or NaN) becomes NaN."""
    with np.errstate(over="ignore", invalid="ignore"):
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    norms[~(np.isfinite(norms) & (norms > 0))] = np.nan
    with np.errstate(invalid="ignore"):
        return np.asarray(vectors / norms, dtype=np.float32)
