"""ONNX Runtime on a GPU: the derived graph, with inputs and vectors in buffers that stay where they are.

Tested on a CPU through its seams (the same graph, session and buffers, made for another provider); not yet
measured on a GPU.
"""

import ctypes
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime

from embedfleet.contracts.errors import ConfigurationError
from embedfleet.encoders.backends import machine
from embedfleet.encoders.backends.choice import Choice, Device, Precision
from embedfleet.encoders.backends.graph import VECTORS, derive
from embedfleet.encoders.backends.onnx import graph_of
from embedfleet.encoders.backends.session import open_session, shrinking
from embedfleet.encoders.base import Ids, Vectors
from embedfleet.encoders.encoder import Mask
from embedfleet.encoders.files import ModelFiles
from embedfleet.encoders.manifest import damaged

CUDA = "CUDAExecutionProvider"
# The rest is for the driver's context and cuBLAS's workspaces, which the arena doesn't count.
ARENA_SHARE = 0.9
FIRST_TOKENS = 4096

Opened = tuple[onnxruntime.InferenceSession, Device]


class CudaRuntime:
    """Runs the derived graph on the first visible GPU.

    Args:
        files: a model with an ONNX graph whose first output is the token vectors.
        choice: its precision counts.
        threads: of ONNX Runtime for the nodes that stay on the CPU; 0: one a core.
        opened: opens the session and says where its buffers are; tests give another.

    Raises:
        ConfigurationError: the graph can't be derived or loaded, or the GPU does not start (`no_gpu`).
    """

    multiple = 32  # few shapes, so that the arena finds its pieces again
    streams = 1

    def __init__(
        self,
        files: ModelFiles,
        choice: Choice,
        threads: int,
        opened: Callable[[bytes, Path, int], Opened] | None = None,
    ) -> None:
        path = graph_of(files)
        try:
            graph = derive(path, choice.precision, files.pooling, files.dim)
        except Exception as error:  # the optimiser raises whatever its pieces do
            raise damaged(
                files.folder, f"{path.name} can't be made into a graph for the GPU ({error})"
            ) from error
        open_there = opened or partial(on_gpu, precision=choice.precision)
        self._session, device = open_there(graph, files.folder, machine.threads(threads))
        self._dim = files.dim
        self._shrink = shrinking(f"{'gpu' if device == 'cuda' else 'cpu'}:0")
        try:
            self._inputs = {one.name: _Buffer(np.int64, device) for one in self._session.get_inputs()}
            self._vectors = _Buffer(np.float32, device)
        except Exception as error:
            raise _no_gpu(f"it has no buffers ({error})") from error
        self._lock = threading.Lock()  # the buffers hold one batch

    def run(self, token_ids: Ids, mask: Mask) -> Vectors:
        """Return float32[n, dim]; see `Runtime.run`."""
        with self._lock:
            return self._run(token_ids, mask, None)

    def give_back(self) -> None:
        """Shrink the arena, which only a run can do: the smallest there is."""
        one = np.zeros((1, 1), dtype=np.int64)
        with self._lock:
            self._run(one, one == 0, self._shrink)

    def _run(self, token_ids: Ids, mask: Mask, options: onnxruntime.RunOptions | None) -> Vectors:
        feeds = {"input_ids": token_ids, "attention_mask": mask, "token_type_ids": np.zeros_like(token_ids)}
        binding = self._session.io_binding()
        for name, buffer in self._inputs.items():
            binding.bind_input(name, *buffer.filled(feeds[name]))
        shape = (len(token_ids), self._dim)
        binding.bind_output(VECTORS, *self._vectors.emptied(shape))
        self._session.run_with_iobinding(binding, options)
        return np.asarray(binding.copy_outputs_to_cpu()[0], dtype=np.float32)


class _Buffer:
    """Memory on the device that batches of any shape share: a piece for each power of two, from the first on.

    A batch is copied as a whole piece, since a part can't be: so there is a small one for small batches.
    """

    def __init__(self, element: type[np.generic], device: Device) -> None:
        self._element = element
        self._device = device
        self._pieces: dict[int, tuple[npt.NDArray[np.generic], onnxruntime.OrtValue]] = {}
        self._piece(FIRST_TOKENS)

    def filled(self, values: npt.NDArray[np.generic]) -> tuple[object, ...]:
        """Copy a batch's values in; return how to bind them."""
        host, value = self._piece(values.size)
        host[: values.size] = values.reshape(-1)
        value.update_inplace(host)
        return self._bound(value, values.shape)

    def emptied(self, shape: tuple[int, ...]) -> tuple[object, ...]:
        """Make room for an output; return how to bind it."""
        return self._bound(self._piece(int(np.prod(shape)))[1], shape)

    def _bound(self, value: onnxruntime.OrtValue, shape: tuple[int, ...]) -> tuple[object, ...]:
        return self._device, 0, self._element, list(shape), value.data_ptr()

    def _piece(self, count: int) -> tuple[npt.NDArray[np.generic], onnxruntime.OrtValue]:
        size = max(FIRST_TOKENS, 1 << (count - 1).bit_length())
        if size not in self._pieces:
            value = onnxruntime.OrtValue.ortvalue_from_shape_and_type([size], self._element, self._device, 0)
            self._pieces[size] = np.zeros(size, self._element), value
        return self._pieces[size]


def on_gpu(graph: bytes, folder: Path, threads: int, precision: Precision) -> Opened:
    """Open a session on the first visible GPU.

    Raises:
        ConfigurationError: the GPU does not start (`no_gpu`).
    """
    # CUDA and cuDNN from the wheels of the extra, where they are there; else the system's.
    onnxruntime.preload_dlls()
    try:
        session = open_session(graph, (CUDA, gpu_options(precision)), folder, threads)
    except ConfigurationError as error:  # the graph is our own, made a moment ago: it isn't that
        raise _no_gpu(str(error.__cause__)) from error.__cause__
    if CUDA not in session.get_providers():
        raise _no_gpu(library_problem())
    return session, "cuda"


def _no_gpu(why: str) -> ConfigurationError:
    return ConfigurationError(
        f"ONNX Runtime could not start on the GPU: {why}; or set FLEET_DEVICE=cpu", code="no_gpu"
    )


def gpu_options(precision: Precision) -> dict[str, str]:
    """Return the CUDA provider's options; vectors in fp32 are of that precision, and not of TF32."""
    options = {"device_id": "0", "arena_extend_strategy": "kSameAsRequested"}
    options |= {"use_tf32": "0"} if precision == "fp32" else {}
    total = machine.device_bytes()
    return options | ({"gpu_mem_limit": str(int(ARENA_SHARE * total))} if total else {})


def library_problem() -> str:
    """Return which library the CUDA provider lacks, as the dynamic linker says it."""
    folder = Path(onnxruntime.__file__).parent / "capi"
    try:
        for name in ("libonnxruntime_providers_shared.so", "libonnxruntime_providers_cuda.so"):
            ctypes.CDLL(str(folder / name), mode=ctypes.RTLD_GLOBAL)
    except OSError as error:
        return (
            f"a library of CUDA or cuDNN is missing or of another version ({error}): install the extra "
            "`embeddings-gpu`, which brings them"
        )
    return "its log says why (the GPU may be too old for this onnxruntime, or held by another process)"
