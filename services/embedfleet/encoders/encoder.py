"""The one encoder: what is the same whatever runs the model."""

import traceback
from typing import Protocol

import numpy as np
import numpy.typing as npt

from embedfleet.contracts.errors import EmbeddingError
from embedfleet.encoders.backends.choice import Choice
from embedfleet.encoders.base import (
    OUT_OF_MEMORY,
    Ids,
    Lengths,
    Vectors,
    check_batch,
    normalised,
    padded_width,
)
from embedfleet.encoders.files import ModelFiles
from embedfleet.encoders.out_of_memory import is_out_of_memory

Mask = npt.NDArray[np.bool_]


class Runtime(Protocol):
    """Runs the model's layers; whatever it raises is a failure of that batch.

    Attributes:
        multiple: batches are padded to a multiple of this many tokens.
        streams: batches that run side by side; see `Encoder`.
    """

    multiple: int
    streams: int

    def run(self, token_ids: Ids, mask: Mask) -> Vectors:
        """Return float32[n, dim] of the pooled token vectors, of any length; n and width are ≥ 1."""
        ...

    def give_back(self) -> None:
        """As `Encoder.give_back`."""
        ...


class ModelEncoder:
    """An `Encoder` of one model's files on one runtime.

    Args:
        files: the model.
        choice: what the runtime was made for.
        runtime: runs it.
    """

    def __init__(self, files: ModelFiles, choice: Choice, runtime: Runtime) -> None:
        self.max_tokens = files.max_tokens
        self.multiple = runtime.multiple
        self.streams = runtime.streams
        self.dim = files.dim
        self.model_key = files.model_key
        self.choice = choice
        self.device: str = choice.device
        self.provider: str = choice.provider
        self.precision: str = choice.precision
        self._files = files
        self._runtime = runtime

    def encode(self, token_ids: Ids, lengths: Lengths) -> Vectors:
        """Return float32[n, dim]; see `Encoder.encode`."""
        check_batch(token_ids, lengths, self._files)
        if not len(lengths):
            return np.zeros((0, self.dim), dtype=np.float32)
        ids = self._widened(token_ids)
        mask = np.arange(ids.shape[1]) < lengths[:, None]
        try:
            pooled = self._runtime.run(ids, mask)
        except EmbeddingError:
            raise
        except Exception as error:  # the runtimes' exceptions share no other base
            code = OUT_OF_MEMORY if is_out_of_memory(error) else None
            # Its frames hold what the failed batch took, and who reads the memory next would see it in use.
            traceback.clear_frames(error.__traceback__)
            raise EmbeddingError(f"{self.provider} failed on a batch: {error}", code=code) from error
        return normalised(pooled)

    def give_back(self) -> None:
        """Give idle memory back; see `Encoder.give_back`."""
        try:
            self._runtime.give_back()
        except EmbeddingError:
            raise
        except Exception as error:
            raise EmbeddingError(f"{self.provider} failed to give memory back: {error}") from error

    def _widened(self, token_ids: Ids) -> Ids:
        """Return the rows padded to the runtime's next multiple, or to the model's limit if that is less."""
        rows, width = token_ids.shape
        wide = padded_width(width, self.multiple, self.max_tokens)
        if wide == width:
            return token_ids
        ids = np.full((rows, wide), self._files.pad_id, dtype=np.int64)
        ids[:, :width] = token_ids
        return ids


def make(files: ModelFiles, choice: Choice, threads: int) -> ModelEncoder:
    """Make one encoder; nothing is known of its vectors yet.

    Args:
        files: the model.
        choice: what is to run it.
        threads: of the runtime on a CPU; 0: one a core.

    Raises:
        ConfigurationError: the files can't be loaded, the backend is not installed, or the GPU fails.
    """
    # Imported here: a process loads the one runtime that it uses.
    if choice.provider == "torch":
        from embedfleet.encoders.backends.torch import TorchRuntime

        return ModelEncoder(files, choice, TorchRuntime(files, choice, threads))
    if choice.provider == "cuda":
        from embedfleet.encoders.backends.cuda import CudaRuntime

        return ModelEncoder(files, choice, CudaRuntime(files, choice, threads))
    if choice.provider == "openvino":
        from embedfleet.encoders.backends.openvino import OpenVinoRuntime

        return ModelEncoder(files, choice, OpenVinoRuntime(files, threads))
    from embedfleet.encoders.backends.onnx import OnnxRuntime

    return ModelEncoder(files, choice, OnnxRuntime(files, threads))
