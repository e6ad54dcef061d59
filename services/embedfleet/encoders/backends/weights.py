"""The weights of a graph in a file of their own, which a session maps instead of copying.

OpenVINO keeps the weights that it was given beside those that it computes with. Read from the graph they are
memory of the process, once a session; mapped from a file they are the kernel's, which can drop them.
"""

import fcntl
import logging
import os
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
# From making a folder to locking it.
UNLOCKED_SECONDS = 60.0

_log = logging.getLogger(__name__)


@contextmanager
def apart(graph: Path) -> Iterator[tuple[Path, Path] | None]:
    """Write a graph like this one, and the file that its weights are in; takes 0.3 s for 90 MB.

    Both are made at each start, so that nothing can be stale, and lose their names afterwards: who has
    mapped the file keeps it, and the room that it takes. What a process leaves that is killed meanwhile, the
    next one removes; the lock on the folder tells the two apart.

    Args:
        graph: the model's.

    Yields:
        The graph, and its file of weights. None where there is no room, the graph is too large, or can't be
        read at all: whoever opens it for work finds out why.
    """
    # Whatever is beside it may hold its weights; another graph doesn't.
    beside = [one for one in graph.parent.iterdir() if one.is_file() and one.suffix != graph.suffix]
    if sum(one.stat().st_size for one in [graph, *beside]) > LARGEST_BYTES:
        yield None
        return
    try:
        folder, lock = _locked_folder()
    except OSError as error:
        _warn(error)
        yield None
        return
    try:
        yield _written(graph, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _locked_folder() -> tuple[Path, int]:
    """Make a folder; return it by its real name, as /proc/self/maps shows it, and its lock."""
    for left in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        _remove_if_left(left)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX)).resolve()
    lock = os.open(folder, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    return folder, lock


def _remove_if_left(folder: Path) -> None:
    try:
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return  # gone meanwhile, or another user's
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if time.time() - os.fstat(lock).st_mtime > UNLOCKED_SECONDS:
            shutil.rmtree(folder, ignore_errors=True)
    except OSError:
        return  # a process is at it
    finally:
        os.close(lock)


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
        "the weights could not be put into a file of their own, so full batches are slower: %s; such a "
        "file needs room in %s",
        error,
        tempfile.gettempdir(),
    )
