"""Finding a model, and what finding it may import."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from embedfleet.contracts.documents import ChunkOptions
from embedfleet.contracts.errors import ConfigurationError
from embedfleet.documents.chunk import Chunker
from embedfleet.documents.clean import CleanText
from embedfleet.documents.tokens import ModelTokens
from embedfleet.encoders.files import ModelFiles, inspect
from embedfleet.encoders.manifest import write_manifest
from embedfleet.encoders.models import cached, chunk_tokens, locate, verify
from embedfleet.encoders.registry import PROMPTS_FILE
from embedfleet.encoders.tokenizer import TextTokenizer
from embedfleet.runtime.settings import ModelSettings
from tests.encoders.conftest import TINY, put

LIGHT = "import embedfleet.encoders.models, embedfleet.encoders.tokenizer, sys; print(*sys.modules)"


def test_finding_imports_neither_numpy_nor_a_runtime() -> None:
    done = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True, check=True)
    roots = {name.partition(".")[0] for name in done.stdout.split()}
    assert roots.isdisjoint({"numpy", "onnxruntime", "torch", "httpx", "transformers"})


def test_a_folder_of_the_user_comes_first() -> None:
    files = locate(ModelSettings(model_path=TINY, model_id="my/model"), "onnx")
    assert files.folder == TINY
    assert files.model_id == "my/model"
    assert verify(files) == 0


def test_a_folder_that_is_given_the_default_s_name_is_warned_of(
    tiny_copy: Path, caplog: pytest.LogCaptureFixture
) -> None:
    locate(ModelSettings(model_path=tiny_copy), "onnx")
    (warning,) = caplog.messages
    assert "set FLEET_MODEL_ID" in warning
    assert str(tiny_copy) in warning
    caplog.clear()
    locate(ModelSettings(model_path=tiny_copy, model_id="my/model"), "onnx")
    write_manifest(tiny_copy, "my/model", "a" * 40, "export")
    locate(ModelSettings(model_path=tiny_copy), "onnx")
    assert not caplog.messages


def test_a_name_that_the_folder_s_manifest_overrides_is_warned_of(
    tiny_copy: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_manifest(tiny_copy, "my/model", "a" * 40, "export")
    monkeypatch.setenv("FLEET_MODEL_PATH", str(tiny_copy))
    for name in ("", "my/model"):
        monkeypatch.setenv("FLEET_MODEL_ID", name)
        assert locate(ModelSettings()).model_id == "my/model"
    assert not caplog.messages
    for name in ("your/model", ModelSettings.model_fields["model_id"].default):
        monkeypatch.setenv("FLEET_MODEL_ID", name)
        assert locate(ModelSettings()).model_id == "my/model"
        (warning,) = caplog.messages
        assert f"FLEET_MODEL_ID {name} is not used" in warning
        assert "my/model" in warning
        assert str(tiny_copy) in warning
        caplog.clear()


def test_a_folder_without_what_the_backend_needs_is_refused(tiny_copy: Path) -> None:
    (tiny_copy / "model.safetensors").unlink()
    settings = ModelSettings(model_path=tiny_copy)
    locate(settings)
    with pytest.raises(ConfigurationError, match="safetensors"):
        locate(settings, "torch")
    (tiny_copy / "onnx/model.onnx").unlink()
    with pytest.raises(ConfigurationError, match=r"model\.onnx"):
        locate(settings, "onnx")


def test_a_missing_model_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="run `embedfleet models fetch`") as error:
        locate(ModelSettings(model_cache=tmp_path))
    assert error.value.code == "model_missing"
    with pytest.raises(ConfigurationError, match="--backend torch"):
        locate(ModelSettings(model_cache=tmp_path), "torch")
    with pytest.raises(ConfigurationError, match="FLEET_MODEL_PATH"):
        locate(ModelSettings(model_path=tmp_path / "none"))


@pytest.mark.parametrize("model_id", ["../../etc", "/etc", "a/b/c", "a/../b", "", "a b", "a/.."])
def test_an_id_can_t_leave_the_cache(tmp_path: Path, model_id: str) -> None:
    with pytest.raises(ConfigurationError, match="FLEET_MODEL_ID"):
        locate(ModelSettings(model_cache=tmp_path, model_id=model_id))


def test_one_revision_is_found_and_two_need_a_choice(tmp_path: Path) -> None:
    first, second = "a" * 40, "b" * 40
    settings = ModelSettings(model_cache=tmp_path, model_id="acme/tiny")
    put(tmp_path, first)
    assert locate(settings).revision == first
    put(tmp_path, second)
    with pytest.raises(ConfigurationError, match="FLEET_MODEL_REVISION"):
        locate(settings)
    assert locate(settings.model_copy(update={"model_revision": second})).revision == second


def test_a_folder_without_a_manifest_is_not_in_the_cache(tmp_path: Path) -> None:
    folder = put(tmp_path, "a" * 40)
    assert cached(tmp_path) == [folder]
    (folder / "manifest.json").unlink()
    assert cached(tmp_path) == []
    with pytest.raises(ConfigurationError, match="models fetch"):
        locate(ModelSettings(model_cache=tmp_path, model_id="acme/tiny"))


def prefixed(folder: Path, prefix: str) -> ModelFiles:
    prompts = {"prompts": {"query": "", "document": prefix}}
    (folder / PROMPTS_FILE).write_text(json.dumps(prompts), encoding="utf-8")
    return inspect(folder, "test/prefixed")


@pytest.mark.parametrize("prefix", ["passage: ", "the text of it is", "x"])
def test_no_chunk_of_a_model_with_a_prefix_is_cut(tiny_copy: Path, prefix: str) -> None:
    files = prefixed(tiny_copy, prefix)
    meter = ModelTokens.load(files.tokenizer)
    text = CleanText("the quick brown fox was at 42 words, or not? " * 60)
    options = ChunkOptions(chunk_size=4_000, chunk_overlap=0)
    chunks = list(Chunker(text, options, meter, chunk_tokens(files), 1_000_000))
    whole = meter.counts([prefix + chunk.text for chunk in chunks])
    assert len(chunks) > 5
    assert max(whole) <= files.max_tokens
    assert [len(ids) for ids in TextTokenizer(files).encode([chunk.text for chunk in chunks])] == whole


def test_a_model_without_a_prefix_keeps_all_its_tokens(tiny_copy: Path) -> None:
    assert chunk_tokens(inspect(tiny_copy, "test/tiny")) == 64


def test_a_prefix_that_leaves_little_room_is_refused(tiny_copy: Path) -> None:
    with pytest.raises(ConfigurationError, match="prefix"):
        chunk_tokens(prefixed(tiny_copy, "the of " * 20))
