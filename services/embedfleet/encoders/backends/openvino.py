"""ONNX Runtime's OpenVINO provider in bf16: two batches side by side, full rows in a session of their own.

Where OpenVINO knows the shapes before, it computes attention in one piece, in the caches; else each step of
it goes through memory: 4 rows of 256 tokens took 0.88 of the time on 2 cores with AMX. Each fixed shape is a
session, so there is one, for what most tokens come in: the chunker fills chunks up to the model's limit, and
of the project's mixed corpus four in five tokens are in rows of full length.
"""

import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import onnxruntime

from embedfleet.contracts.errors import ConfigurationError
from embedfleet.encoders.backends import machine
from embedfleet.encoders.backends.onnx import Layers, graph_of
from embedfleet.encoders.backends.session import open_session
from embedfleet.encoders.backends.weights import apart
from embedfleet.encoders.base import Ids, Vectors
from embedfleet.encoders.encoder import Mask
from embedfleet.encoders.files import ModelFiles

OPENVINO = "OpenVINOExecutionProvider"
# OpenVINO's threads wait for each other after each layer; two batches side by side don't, and neither waits
# for the other at its end. A stream has buffers of its own; so there are two, whatever threads they share.
STREAMS = 2
# OpenVINO keeps memory for each width that it has seen, whatever its cache may hold: after 300 random batches
# it had grown by 76 MB with every width, by 30 MB with multiples of 16.
MULTIPLE = 16
# Of one run of full rows: 2,048 were no faster, 512 were 2 to 4 % slower, and 256 7 to 11 %.
FULL_TOKENS = 1024
# So of models with 114 to 512 tokens. No fewer rows: where they are that long, batches have one or two. No
# more: the gate's batches have 8, and these vectors must pass it too.
FULL_ROWS = range(2, 9)
# Of one run of other rows. OpenVINO holds what its largest run took: with 1,024 it held 33 MB more after 360
# batches of all widths on two streams, and was no faster.
OTHER_TOKENS = 512

_log = logging.getLogger(__name__)


class OpenVinoRuntime:
    """Runs the model's ONNX graph by OpenVINO.

    Args:
        files: a model with an ONNX graph whose first output is the token vectors.
        threads: of the runtime; 0: one a core.

    Raises:
        ConfigurationError: the graph can't be loaded, or the provider did not take it.
    """

    def __init__(self, files: ModelFiles, threads: int) -> None:
        self._files = files
        self._threads = machine.threads(threads)
        self.multiple = MULTIPLE
        self.streams = min(STREAMS, self._threads)
        self._full_rows = FULL_TOKENS // files.max_tokens
        self._full: Layers | None = None
        self._weights: Path | None = None
        graph = graph_of(files)
        with apart(graph) as found:
            if found:
                # Both sessions map one file of weights; what is mapped outlasts the file's name.
                graph, self._weights = found
            session = self._opened(graph)
            self._any = Layers(session, files)
            if found and self._full_rows in FULL_ROWS and (names := _dimensions(session)):
                self._full = self._fixed(graph, names)
        what = f"are computed {self._full_rows} at a time" if self._full else "have no session of their own"
        _log.info("OpenVINO: rows of %d tokens %s", files.max_tokens, what)

    def run(self, token_ids: Ids, mask: Mask) -> Vectors:
        """Return float32[n, dim]; see `Runtime.run`."""
        pieces = self._pieces(*token_ids.shape)
        return np.concatenate([layers.run(token_ids[rows], mask[rows]) for layers, rows in pieces])

    def give_back(self) -> None:
        """Shrink the arena, and give back OpenVINO's idle memory, which is not in it.

        The arena of full rows is left: it holds one shape's output, and would take it again at once.
        """
        self._any.shrink()
        machine.give_back_loading()
        if self._weights:
            machine.let_go(self._weights)

    def _pieces(self, rows: int, width: int) -> Iterator[tuple[Layers, slice]]:
        """Yield which rows of a batch are run together, and by what."""
        at = 0
        if self._full and width == self._files.max_tokens:
            for at in range(self._full_rows, rows + 1, self._full_rows):
                yield self._full, slice(at - self._full_rows, at)
        most = max(1, OTHER_TOKENS // width)
        for start in range(at, rows, most):
            yield self._any, slice(start, start + most)

    def _opened(self, graph: Path, fixed: Mapping[str, int] | None = None) -> onnxruntime.InferenceSession:
        offered = provider(self._threads, self.streams)
        session = open_session(graph, offered, self._files.folder, self._threads, fixed)
        if OPENVINO not in session.get_providers():
            raise ConfigurationError(
                f"ONNX Runtime could not start its provider {OPENVINO}; install the extra again, or set "
                "FLEET_PRECISION=fp32",
                code="no_precision",
            )
        return session

    def _fixed(self, graph: Path, names: tuple[str, str]) -> Layers | None:
        sizes = dict(zip(names, (self._full_rows, self._files.max_tokens), strict=True))
        try:
            return Layers(self._opened(graph, sizes), self._files)
        except ConfigurationError as error:  # some graphs compute with the sizes that they were exported with
            _log.warning("full batches are slower, since this graph takes no fixed shape: %s", error.detail)
            return None


def provider(threads: int, streams: int) -> tuple[str, dict[str, str]]:
    """Return the OpenVINO provider in bf16 with its options.

    Pinning is off: two processes that pin would share the same cores and leave the others idle. The cache of
    compiled shapes is small: with its default of 5,000 (and every width) a process held 1,011 MB after 1,600
    random batches and went on growing; 64 is no slower.
    """
    config = {
        "INFERENCE_PRECISION_HINT": "bf16",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": str(streams),
        "ENABLE_CPU_PINNING": "NO",
        "CPU_RUNTIME_CACHE_CAPACITY": "64",
    }
    device = {"device_type": "CPU", "num_streams": str(streams)}
    return OPENVINO, {**device, "load_config": json.dumps({"CPU": config})}


def _dimensions(session: onnxruntime.InferenceSession) -> tuple[str, str] | None:
    """Return what the graph calls rows and width; None where its inputs don't agree on two names."""
    shapes = {tuple(graph_input.shape) for graph_input in session.get_inputs()}
    if len(shapes) != 1 or len(set(shape := shapes.pop())) != 2:
        return None
    rows, width = shape
    return (rows, width) if isinstance(rows, str) and isinstance(width, str) else None
