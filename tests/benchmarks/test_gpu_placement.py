"""Where nodes are, told by the real ONNX Runtime: its CPU stands for a GPU with kernels for some of them."""

from types import SimpleNamespace

import onnxruntime
import pytest

from embedfleet.encoders.files import inspect
from tests.encoders.conftest import TINY

onnx = pytest.importorskip("onnx", reason="the dev group is not installed")
pytest.importorskip("sympy", reason="the dev group is not installed")
placement = pytest.importorskip("benchmarks.gpu.placement")

CPU = "CPUExecutionProvider"
tells = pytest.mark.skipif(
    not hasattr(onnxruntime.InferenceSession, "get_provider_graph_assignment_info"),
    reason="this onnxruntime doesn't tell where nodes are",
)


@pytest.fixture
def on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement.cuda, "CUDA", CPU)
    monkeypatch.setattr(placement.cuda, "gpu_options", lambda precision: {})


@tells
@pytest.mark.usefixtures("on_cpu")
def test_a_graph_that_has_a_kernel_for_each_node_is_all_there() -> None:
    found = placement.of(inspect(TINY, "test/tiny"), "fp32")
    assert found.elsewhere == ()
    assert set(found.nodes) == {CPU}
    assert found.nodes[CPU]["Attention"] == 2  # one a layer


@tells
@pytest.mark.usefixtures("on_cpu")
def test_no_heavy_node_is_lost_where_the_provider_has_kernels_for_few() -> None:
    def heavy(precision: str) -> tuple[int, int]:
        found = placement.of(inspect(TINY, "test/tiny"), precision)
        listed = sum(count for kind, count in found.nodes[CPU].items() if kind in placement.HEAVY)
        return listed, sum(int(words.split()[0]) for words in found.elsewhere)

    (all_of_them, none), (some, others) = heavy("fp32"), heavy("fp16")
    assert none == 0
    assert some + others == all_of_them


def told(monkeypatch: pytest.MonkeyPatch, **parts: list[tuple[str, str]]) -> None:
    """Let sessions tell of these nodes (operator, name) by provider."""
    info = [
        SimpleNamespace(
            ep_name=provider,
            get_nodes=lambda nodes=nodes: [SimpleNamespace(op_type=kind, name=name) for kind, name in nodes],
        )
        for provider, nodes in parts.items()
    ]
    monkeypatch.setattr(
        onnxruntime.InferenceSession, "get_provider_graph_assignment_info", lambda self: info, raising=False
    )


def test_heavy_nodes_on_another_provider_are_named_and_light_ones_may_be_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = [("MatMul", "query"), ("Shape", "shape")]
    told(monkeypatch, CPUExecutionProvider=[("MatMul", "dense")], Other=other)
    found = placement.placed(two_products(), CPU, {})
    assert found.elsewhere == ("MatMul query on Other",)
    assert found.nodes == {CPU: {"MatMul": 1}, "Other": {"MatMul": 1, "Shape": 1}}


def test_heavy_nodes_that_nobody_lists_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    told(monkeypatch, CPUExecutionProvider=[("MatMul", "dense")])
    assert placement.placed(two_products(), CPU, {}).elsewhere == ("1 MatMul on no provider, so the CPU's",)


def test_a_node_that_was_made_another_is_no_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    told(monkeypatch, CPUExecutionProvider=[("MatMul", "dense"), ("Gemm", "query_with_bias")])
    assert placement.placed(two_products(), CPU, {}).elsewhere == ()


@pytest.mark.usefixtures("on_cpu")
def test_a_wheel_that_does_not_tell_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement.onnxruntime, "InferenceSession", object)
    assert placement.of(inspect(TINY, "test/tiny"), "fp32") is None


def two_products() -> bytes:
    kind = onnx.TensorProto.FLOAT
    values = [onnx.helper.make_tensor_value_info(name, kind, [2, 2]) for name in ("a", "b", "d")]
    nodes = [
        onnx.helper.make_node("MatMul", ["a", "b"], ["c"], name="query"),
        onnx.helper.make_node("MatMul", ["c", "b"], ["d"], name="dense"),
    ]
    graph = onnx.helper.make_graph(nodes, "two", values[:2], values[2:])
    opset = onnx.helper.make_opsetid("", 17)
    return bytes(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=9).SerializeToString())
