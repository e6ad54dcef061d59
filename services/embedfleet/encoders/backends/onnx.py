"""ONNX Runtime on the CPU, in fp32. Pooling is ours, in float32."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from embedfleet.contracts.errors import EmbeddingError
from embedfleet.encoders.backends import machine
from embedfleet.encoders.backends.session import open_session, shrinking
from embedfleet.encoders.base import Ids, Vectors
from embedfleet.encoders.encoder import Mask
from embedfleet.encoders.files import ModelFiles, Pooling
from embedfleet.encoders.manifest import damaged

CPU = "CPUExecutionProvider"


class OnnxRuntime:
    """Runs the model's ONNX graph by ONNX Runtime's own provider.

    Args:
        files: a model with an ONNX graph whose first output is the token vectors.
        threads: of the runtime; 0: one a core.

    Raises:
        ConfigurationError: the graph can't be loaded.
    """

    def __init__(self, files: ModelFiles, threads: int) -> None:
        self.multiple = 1
        self.streams = 1
        session = open_session(graph_of(files), (CPU, {}), files.folder, machine.threads(threads))
        self._layers = Layers(session, files)

    def run(self, token_ids: Ids, mask: Mask) -> Vectors:
        """Return float32[n, dim]; see `Runtime.run`."""
        return self._layers.run(token_ids, mask)

    def give_back(self) -> None:
        """Shrink the arena."""
        self._layers.shrink()
        machine.give_back_loading()


class Layers:
    """The model's layers in one session, and the pooling after them.

    Args:
        session: its first output is the token vectors.
        files: the model.
    """

    def __init__(self, session: onnxruntime.InferenceSession, files: ModelFiles) -> None:
        self._session = session
        self._dim = files.dim
        self._pooling = files.pooling
        self._inputs = {graph_input.name for graph_input in session.get_inputs()}
        self._output = session.get_outputs()[0].name

    def run(self, token_ids: Ids, mask: Mask, options: Any = None) -> Vectors:
        """Return float32[n, dim] of the pooled token vectors.

        Args:
            token_ids: int64[n, width].
            mask: bool[n, width], which of them are no padding.
            options: ONNX Runtime's, of this run.
        """
        feeds = {
            "input_ids": token_ids,
            "attention_mask": mask.astype(np.int64),
            "token_type_ids": np.zeros_like(token_ids),
        }
        wanted = {name: value for name, value in feeds.items() if name in self._inputs}
        (tokens,) = self._session.run([self._output], wanted, options)
        if tokens.shape != (*token_ids.shape, self._dim):
            raise EmbeddingError(
                f"the graph's output {self._output} has shape {tokens.shape}, not "
                f"{(*token_ids.shape, self._dim)}: it is not the export of this model"
            )
        return _pool(np.asarray(tokens, dtype=np.float32), mask, self._pooling)

    def shrink(self) -> None:
        """Shrink the session's arena, which only a run can do: the smallest there is."""
        one = np.zeros((1, 1), dtype=np.int64)
        self.run(one, one == 0, shrinking("cpu:0"))


def graph_of(files: ModelFiles) -> Path:
    """Return the model's ONNX graph.

    Raises:
        ConfigurationError: there is none.
    """
    if files.onnx is None:
        raise damaged(files.folder, "onnx/model.onnx is missing")
    return files.onnx


def _pool(tokens: Vectors, mask: Mask, pooling: Pooling) -> Vectors:
    """Return float32[n, dim] of float32[n, width, dim]; padding has no part in it."""
    if pooling == "cls":
        return tokens[:, 0]
    weights = mask.astype(np.float32)
    # A product of matrices a row: no second copy of the token vectors is made.
    sums = np.matmul(weights[:, None, :], tokens)[:, 0]
    return np.asarray(sums / weights.sum(axis=1, keepdims=True), dtype=np.float32)
