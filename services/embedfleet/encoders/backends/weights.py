"""The weights of a graph in a file of their own, which a session maps instead of copying.

OpenVINO keeps the weights that it was given beside those that it computes with. Read from the graph they are
memory of the process, once a session; mapped from a file they are the kernel's, which can drop them.
"""

import logging
from pathlib import Path

import onnxruntime

_log = logging.getLogger(__name__)

LARGEST_BYTES = 1_000_000_000
"""Of a graph with its weights: the chart gives a pod 2 GiB for temporary files."""


def put_apart(graph: Path, file: Path) -> Path | None:
    """Write a graph beside `file`, with its weights in `file`; takes 0.3 s for 90 MB.

    Made at each start, so that there is no file that could be stale.

    Args:
        graph: the model's.
        file: where its weights go; its folder exists and is empty.

    Returns:
        The new graph; None where there was no room, the graph is too large, or can't be read at all: whoever
        opens it for work finds out why.
    """
    if sum(one.stat().st_size for one in graph.parent.glob(f"{graph.name}*")) > LARGEST_BYTES:
        return None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what is wrong with the graph is said when it is opened for work
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.optimized_model_filepath = str(written := file.with_name("apart.onnx"))
    for name, value in {
        "session.optimized_model_external_initializers_file_name": file.name,
        "session.optimized_model_external_initializers_min_size_in_bytes": "1024",
        "session.disable_prepacking": "1",
    }.items():
        options.add_session_config_entry(name, value)
    try:
        onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's exceptions share no other base
        _log.warning(
            "the weights could not be put into a file of their own (%s), so they take memory twice and full "
            "batches are slower; make room in %s",
            error,
            file.parent,
        )
        return None
    return written
