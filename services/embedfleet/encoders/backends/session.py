"""How a graph becomes a session of ONNX Runtime, whatever the provider."""

from collections.abc import Mapping
from pathlib import Path

import onnxruntime

from embedfleet.encoders.manifest import damaged


def open_session(
    graph: Path | bytes,
    provider: tuple[str, dict[str, str]],
    folder: Path,
    threads: int,
    fixed: Mapping[str, int] | None = None,
) -> onnxruntime.InferenceSession:
    """Load a graph into a session of one provider; the CPU's takes the nodes that it leaves.

    Args:
        graph: a file, or a serialised graph.
        provider: ONNX Runtime's name of it, and its options.
        folder: the model's, for the error.
        threads: of ONNX Runtime itself.
        fixed: dimensions that the graph names, and the one size that each will have.

    Raises:
        ConfigurationError: the graph or a file that it names can't be loaded.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # A pattern is a block a shape that is never given back: after batches of 4096 tokens in nine widths
    # the process held 483 MB with patterns and 349 MB without, at the same speed. Without the arena too,
    # encoding got about 5 % slower and glibc held 226 to 452 MB.
    options.enable_mem_pattern = False
    options.log_severity_level = 3
    for name, size in (fixed or {}).items():
        options.add_free_dimension_override_by_name(name, size)
    source = graph if isinstance(graph, bytes) else str(graph)
    try:
        # Without the fallback: a provider that fails must not become the CPU behind our back.
        return onnxruntime.InferenceSession(
            source, sess_options=options, providers=[provider], enable_fallback=0
        )
    except Exception as error:  # the runtime's exceptions share no other base
        name = "its graph" if isinstance(graph, bytes) else graph.name
        raise damaged(folder, f"ONNX Runtime can't load {name} ({error})") from error


def shrinking(arenas: str) -> onnxruntime.RunOptions:
    """Return options by which a run ends with its arenas given back.

    Args:
        arenas: like `cpu:0` or `gpu:0`.
    """
    options = onnxruntime.RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", arenas)
    return options
