"""The weights of a graph in a file of their own, which a session maps instead of copying.

OpenVINO keeps the weights that it was given beside those that it computes with. Read from the graph they are
memory of the process, once a session; mapped from a file they are the kernel's, which can drop them.
"""

import logging
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnxruntime

LARGEST_BYTES = 1_000_000_000
"""Of a graph with its weights: the chart gives a pod 2 GiB for temporary files."""
PREFIX = "embedfleet-weights-"
STALE_SECONDS = 3600.0

_log = logging.getLogger(__name__)


@contextmanager
def apart(graph: Path) -> Iterator[tuple[Path, Path] | None]:
    """Give a graph like this one, and the file that its weights are in; it takes 0.3 s for 90 MB.

    Both are made at each start, so that nothing can be stale, and are gone afterwards; who has mapped the
    file keeps it. Of a process that is killed meanwhile they stay, until another comes an hour later.

    Args:
        graph: the model's.

    Returns:
        None where there is no room, the graph is too large, or can't be read at all: whoever opens it for
        work finds out why.
    """
    if sum(one.stat().st_size for one in graph.parent.glob(f"{graph.name}*")) > LARGEST_BYTES:
        yield None
        return
    try:
        _sweep(Path(tempfile.gettempdir()))
        folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    except OSError as error:
        _warn(error)
        yield None
        return
    try:
        yield _written(graph, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _written(graph: Path, folder: Path) -> tuple[Path, Path] | None:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what is wrong with a graph is said when it is opened for work
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.optimized_model_filepath = str(written := folder / "model.onnx")
    for name, value in {
        "session.optimized_model_external_initializers_file_name": (file := folder / "weights").name,
        "session.optimized_model_external_initializers_min_size_in_bytes": "1024",
        "session.disable_prepacking": "1",
    }.items():
        options.add_session_config_entry(name, value)
    try:
        onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's exceptions share no other base
        _warn(error)
        return None
    return written, file


def _warn(error: Exception) -> None:
    _log.warning(
        "the weights could not be put into a file of their own, so full batches are slower: %s; see that "
        "there is room in %s",
        error,
        tempfile.gettempdir(),
    )


def _sweep(folder: Path) -> None:
    """Remove what processes left that were killed."""
    for left in folder.glob(f"{PREFIX}*"):
        if time.time() - left.lstat().st_mtime > STALE_SECONDS:
            shutil.rmtree(left, ignore_errors=True)
