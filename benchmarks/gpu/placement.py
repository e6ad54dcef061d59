"""Where ONNX Runtime runs the nodes of a graph: that a session has a provider says nothing of them.

A node that the GPU's provider has no kernel for goes to the CPU, and nothing says so.
"""

from collections import Counter
from collections.abc import Mapping

import onnx
import onnxruntime

from benchmarks.gpu.checks import Placement
from embedfleet.encoders.backends import cuda
from embedfleet.encoders.backends.choice import Precision
from embedfleet.encoders.backends.graph import derive
from embedfleet.encoders.backends.onnx import graph_of
from embedfleet.encoders.files import ModelFiles

# What a model's time goes into, fused or not; the rest counts tokens and reshapes.
HEAVY = frozenset(
    {
        *("MatMul", "FusedMatMul", "Gemm", "Attention", "MultiHeadAttention", "Softmax"),
        *("LayerNormalization", "SkipLayerNormalization", "EmbedLayerNormalization"),
        *("Gelu", "BiasGelu", "FastGelu", "QuickGelu", "Erf"),
    }
)
# Since ONNX Runtime 1.24.
RECORDING = "session.record_ep_graph_assignment_info"


def of(files: ModelFiles, precision: Precision) -> Placement | None:
    """Return where the nodes of the graph are that a model gets for the GPU; as `placed`."""
    graph = derive(graph_of(files), precision, files.pooling, files.dim)
    return placed(graph, cuda.CUDA, cuda.gpu_options(precision))


def placed(graph: bytes, provider: str, options: Mapping[str, str]) -> Placement | None:
    """Open a session as the encoder does, and see where its nodes are; None where the wheel doesn't tell.

    The list has only nodes that a provider has a kernel for. In fp16 the CPU lacks most, and gets such nodes
    with casts around them after the list was made: those count as elsewhere, too.

    Args:
        graph: serialised.
        provider: ONNX Runtime's name of the one that should have the heavy nodes.
        options: of that provider.

    Raises:
        Exception: whatever ONNX Runtime raises for a graph or a provider that does not start.
    """
    if not hasattr(onnxruntime.InferenceSession, "get_provider_graph_assignment_info"):
        return None
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    settings.add_session_config_entry(RECORDING, "1")
    session = onnxruntime.InferenceSession(
        graph, sess_options=settings, providers=[(provider, dict(options))], enable_fallback=0
    )
    nodes: dict[str, Counter[str]] = {}
    elsewhere: list[str] = []
    listed: Counter[str] = Counter()
    for part in session.get_provider_graph_assignment_info():
        for node in part.get_nodes():
            nodes.setdefault(part.ep_name, Counter())[node.op_type] += 1
            if node.op_type in HEAVY:
                listed[node.op_type] += 1
                if part.ep_name != provider:
                    elsewhere.append(f"{node.op_type} {node.name} on {part.ep_name}")
    return Placement(nodes, (*elsewhere, *_unlisted(graph, listed)))


def _unlisted(graph: bytes, listed: Counter[str]) -> list[str]:
    """Return the heavy nodes that no provider took, by number: ONNX Runtime may have renamed some."""
    asked = Counter(node.op_type for node in onnx.load_from_string(graph).graph.node if node.op_type in HEAVY)
    if asked.total() <= listed.total():
        return []
    return [f"{count} {kind} on no provider, so the CPU's" for kind, count in (asked - listed).items()]
