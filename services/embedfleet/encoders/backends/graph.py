"""The graph for a GPU, derived from the model's own: fused, in half precision, pooled.

Attention, GELU and LayerNorm become one kernel each, and one vector a row leaves the GPU instead of one a
token.
Derived anew at every start (about 4 s for a model of 90 MB), so that there is no file that could be stale.
"""

from pathlib import Path
from typing import Any

import numpy as np

from embedfleet.contracts.errors import ConfigurationError
from embedfleet.encoders.backends.choice import Precision
from embedfleet.encoders.files import Pooling

try:
    import onnx
    import sympy  # noqa: F401 — the optimiser imports it, some versions only when it runs
    from onnxruntime.transformers import optimizer
except ImportError as missing:
    raise ConfigurationError(
        f"the graph for the GPU can't be made: {missing.name} is not installed; install the extra "
        "`embeddings-gpu`",
        code="backend_missing",
    ) from missing

VECTORS = "pooled"
"""Name of the graph's only output, float32[n, dim]."""


def derive(path: Path, precision: Precision, pooling: Pooling, dim: int) -> bytes:
    """Return a graph whose only output is one vector a row, not normalised.

    Mean pooling gives the sum over a row's tokens: it has the direction of their mean, and no more is needed.

    Args:
        path: the model's graph; its first output is the token vectors.
        precision: `fp16` or `fp32`. Inputs stay int64, the output and the pooling are float32.
        pooling: how token vectors become one.
        dim: length of a vector.

    Raises:
        Exception: whatever the optimiser raises for a graph that it can't read.
    """
    fused = optimizer.optimize_by_fusion(onnx.load(path), "bert")
    if precision == "fp16":
        fused.convert_float_to_float16(keep_io_types=False, node_block_list=_counting(fused.model.graph))
    graph = fused.model.graph
    tokens = graph.output[0].name
    graph.node.extend(_sum(tokens) if pooling == "mean" else _first(tokens))
    graph.initializer.extend(
        [
            onnx.numpy_helper.from_array(np.array([0, 1, -1], np.int64), "pool_weights_shape"),
            onnx.numpy_helper.from_array(np.array([-1, dim], np.int64), "pool_vectors_shape"),
            onnx.numpy_helper.from_array(np.array([0], np.int64), "pool_first"),
        ]
    )
    del graph.output[:]
    graph.output.append(onnx.helper.make_tensor_value_info(VECTORS, onnx.TensorProto.FLOAT, ["rows", dim]))
    return bytes(fused.model.SerializeToString())


def _counting(graph: Any) -> list[str]:
    """Return the nodes that compute a whole number in floats, like MPNet's buckets of distances.

    Half precision would round some of them into the next bucket: of a random MPNet the lowest cosine was 0.94
    with it, and 0.9999 without.
    """
    makers = {output: node for node in graph.node for output in node.output}
    integers = (onnx.TensorProto.INT64, onnx.TensorProto.INT32)
    left = [
        node
        for node in graph.node
        if node.op_type == "Cast" and any(one.name == "to" and one.i in integers for one in node.attribute)
    ]
    names: set[str] = set()
    while left:
        node = left.pop()
        if node.name not in names:
            names.add(node.name)
            left.extend(makers[name] for name in node.input if name in makers)
    return sorted(names)


def _sum(tokens: str) -> list[Any]:
    # In float32: half precision would overflow on long rows. Only operators that every opset has alike.
    return [
        onnx.helper.make_node("Cast", [tokens], ["pool_tokens"], to=onnx.TensorProto.FLOAT),
        onnx.helper.make_node("Cast", ["attention_mask"], ["pool_mask"], to=onnx.TensorProto.FLOAT),
        onnx.helper.make_node("Reshape", ["pool_mask", "pool_weights_shape"], ["pool_weights"]),
        onnx.helper.make_node("MatMul", ["pool_weights", "pool_tokens"], ["pool_sum"]),
        onnx.helper.make_node("Reshape", ["pool_sum", "pool_vectors_shape"], [VECTORS]),
    ]


def _first(tokens: str) -> list[Any]:
    return [
        onnx.helper.make_node("Gather", [tokens, "pool_first"], ["pool_token"], axis=1),
        onnx.helper.make_node("Cast", ["pool_token"], ["pool_float"], to=onnx.TensorProto.FLOAT),
        onnx.helper.make_node("Reshape", ["pool_float", "pool_vectors_shape"], [VECTORS]),
    ]
