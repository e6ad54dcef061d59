"""ONNX Runtime on the CPU, and what it makes of damaged graphs."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from embedfleet.contracts.errors import ConfigurationError, EmbeddingError
from embedfleet.encoders import golden
from embedfleet.encoders.backends.choice import Choice
from embedfleet.encoders.base import load, pad
from embedfleet.encoders.encoder import make
from embedfleet.encoders.files import ModelFiles, inspect
from embedfleet.encoders.golden import Golden, gate_export
from embedfleet.encoders.manifest import write_manifest
from embedfleet.runtime.settings import EngineSettings, ModelSettings
from tests.encoders.conftest import TINY
from tests.encoders.runtimes import BF16, PLAIN, has_openvino

LOAD = f"""
from embedfleet.encoders.base import load
from embedfleet.runtime.settings import EngineSettings, ModelSettings
load(ModelSettings(model_path={str(TINY)!r}), EngineSettings())
"""
CPU = EngineSettings(device="cpu", threads=1)


def test_pad_makes_a_rectangle() -> None:
    ids, lengths = pad([[1, 2, 3], [4], []], 9)
    assert ids.tolist() == [[1, 2, 3], [4, 9, 9], [9, 9, 9]]
    assert lengths.tolist() == [3, 1, 0]
    assert (ids.dtype, lengths.dtype) == (np.int64, np.int32)
    assert pad([], 9)[0].shape == (0, 0)


def test_load_takes_what_the_settings_name(tiny_copy: Path) -> None:
    encoder = load(
        ModelSettings(model_path=tiny_copy), EngineSettings(threads=1, device="cpu", precision="fp32")
    )
    assert (encoder.dim, encoder.provider, encoder.device, encoder.precision) == (16, "cpu", "cpu", "fp32")


def test_load_refuses_a_graph_that_changed_since_it_was_fetched(tiny_copy: Path) -> None:
    write_manifest(tiny_copy, "test/tiny", "abc", "hub")
    graph = tiny_copy / "onnx/model.onnx"
    content = bytearray(graph.read_bytes())
    content[len(content) // 2] ^= 1
    graph.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"onnx/model\.onnx has another sha256"):
        load(ModelSettings(model_path=tiny_copy), CPU)


def test_load_refuses_a_model_without_its_tokenizer(tiny_copy: Path) -> None:
    (tiny_copy / "tokenizer.json").unlink()
    with pytest.raises(ConfigurationError, match=r"tokenizer\.json is missing"):
        load(ModelSettings(model_path=tiny_copy), CPU)


@pytest.mark.parametrize("content", [b"", b"no graph", None])
def test_a_broken_graph_is_a_configuration_error(tiny_copy: Path, content: bytes | None) -> None:
    graph = tiny_copy / "onnx/model.onnx"
    graph.write_bytes(graph.read_bytes()[:-500] if content is None else content)
    with pytest.raises(ConfigurationError, match=r"can't load model\.onnx") as error:
        make(inspect(tiny_copy, "test/tiny"), PLAIN, 1)
    assert error.value.code == "model_damaged"


def test_a_graph_of_another_model_is_refused_at_the_first_batch(tiny_copy: Path) -> None:
    for name, old, new in (
        ("config.json", '"hidden_size": 16', '"hidden_size": 8'),
        ("1_Pooling/config.json", '"embedding_dimension": 16', '"embedding_dimension": 8'),
    ):
        text = (tiny_copy / name).read_text("utf-8")
        assert old in text
        (tiny_copy / name).write_text(text.replace(old, new), "utf-8")
    encoder = make(inspect(tiny_copy, "test/tiny"), PLAIN, 1)
    with pytest.raises(EmbeddingError, match="not the export of this model"):
        encoder.encode(*pad([[2, 3]], 0))


@pytest.mark.parametrize("choice", [PLAIN, BF16], ids=str)
@pytest.mark.parametrize("location", ["../secret.bin", "/", "gone.bin", "link.bin"])
def test_weights_outside_the_model_s_folder_are_refused(
    tiny_copy: Path, choice: Choice, location: str
) -> None:
    if choice is BF16 and not has_openvino():
        pytest.skip("this onnxruntime has no OpenVINO provider")
    secret = tiny_copy / "secret.bin"
    secret.write_bytes(bytes(4096))
    (tiny_copy / "onnx" / "link.bin").symlink_to(secret)
    graph = tiny_copy / "onnx" / "model.onnx"
    graph.write_bytes(with_external_weights(str(secret) if location == "/" else location))
    with pytest.raises(ConfigurationError, match=r"can't load model\.onnx") as error:
        make(inspect(tiny_copy, "test/tiny"), choice, 1)
    assert error.value.code == "model_damaged"


def test_weights_beside_the_graph_are_read(tiny_copy: Path) -> None:
    (tiny_copy / "onnx" / "model.onnx_data").write_bytes(bytes(4096))
    (tiny_copy / "onnx" / "model.onnx").write_bytes(with_external_weights("model.onnx_data"))
    make(inspect(tiny_copy, "test/tiny"), PLAIN, 1)


def with_external_weights(location: str) -> bytes:
    """Return a graph of one addition whose weights are in another file."""
    format = pytest.importorskip("onnx", reason="the dev group is not installed")
    weights = format.TensorProto(name="w", data_type=format.TensorProto.FLOAT, dims=[1024])
    weights.data_location = format.TensorProto.EXTERNAL
    weights.external_data.add(key="location", value=location)
    ends = [
        format.helper.make_tensor_value_info(name, format.TensorProto.FLOAT, [1024]) for name in ("x", "y")
    ]
    node = format.helper.make_node("Add", ["x", "w"], ["y"])
    graph = format.helper.make_graph([node], "added", ends[:1], ends[1:], [weights])
    model = format.helper.make_model(graph, opset_imports=[format.helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def test_the_runtime_sends_and_keeps_nothing_about_the_user(tmp_path: Path) -> None:
    variables = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    subprocess.run([sys.executable, "-B", "-c", LOAD], env=variables | {"HOME": str(tmp_path)}, check=True)
    assert list(tmp_path.rglob("*")) == []


def test_the_gate_of_an_export_lets_the_right_model_pass(
    tiny_files: ModelFiles, tiny_golden: Golden, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(golden, "read_golden", lambda model_id: tiny_golden)
    assert gate_export(tiny_files) >= 0.9999


def test_the_gate_of_an_export_stops_wrong_pooling(
    tiny_copy: Path, tiny_golden: Golden, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(golden, "read_golden", lambda model_id: tiny_golden)
    config = tiny_copy / "1_Pooling/config.json"
    config.write_text(config.read_text("utf-8").replace('"mean"', '"cls"'), "utf-8")
    with pytest.raises(ConfigurationError, match="other vectors"):
        gate_export(inspect(tiny_copy, "test/tiny"))


def test_the_gate_of_an_export_stops_what_it_knows_no_vectors_of(tiny_files: ModelFiles) -> None:
    with pytest.raises(ConfigurationError, match="no golden vectors"):
        gate_export(tiny_files)
