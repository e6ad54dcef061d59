"""What a model's folder says of itself, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from embedfleet.contracts.errors import ConfigurationError
from embedfleet.encoders.files import ModelFiles, inspect
from embedfleet.encoders.manifest import MANIFEST, check, read_manifest, write_manifest

POOLING = {"embedding_dimension": 16, "pooling_mode": "mean"}
LEAVING = {"model_id": "a", "revision": "b", "source": "hub", "files": {"../x": {"size": 1, "sha256": ""}}}
CLASSIC_POOLING = {"word_embedding_dimension": 16, "pooling_mode_cls_token": False}


def put(folder: Path, name: str, value: Any) -> None:
    (folder / name).write_text(value if isinstance(value, str) else json.dumps(value), "utf-8")


def change(folder: Path, name: str, **fields: Any) -> None:
    put(folder, name, json.loads((folder / name).read_text("utf-8")) | fields)


def test_reads_a_folder(tiny_files: ModelFiles) -> None:
    assert (tiny_files.dim, tiny_files.max_tokens, tiny_files.pooling) == (16, 64, "mean")
    assert tiny_files.normalize
    assert tiny_files.onnx is not None
    assert tiny_files.weights is not None


def test_reads_flags_and_limit_of_older_models(tiny_copy: Path) -> None:
    put(tiny_copy, "1_Pooling/config.json", CLASSIC_POOLING | {"pooling_mode_cls_token": True})
    put(tiny_copy, "sentence_bert_config.json", {"max_seq_length": 32})
    files = inspect(tiny_copy, "test/tiny")
    assert (files.pooling, files.max_tokens, files.dim) == ("cls", 32, 16)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("1_Pooling/config.json", CLASSIC_POOLING),
        ("1_Pooling/config.json", CLASSIC_POOLING | {"pooling_mode_max_tokens": True}),
        (
            "1_Pooling/config.json",
            CLASSIC_POOLING | {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True},
        ),
        ("1_Pooling/config.json", POOLING | {"pooling_mode": "lasttoken"}),
        (
            "1_Pooling/config.json",
            POOLING | {"include_prompt": False},
        ),
        ("1_Pooling/config.json", POOLING | {"embedding_dimension": 32}),
        ("1_Pooling/config.json", POOLING | {"embedding_dimension": True}),
        ("1_Pooling/config.json", []),
        ("modules.json", {}),
        ("modules.json", [{"type": "x.Transformer"}, {"type": "x.Pooling"}, {"type": "x.Dense"}]),
        ("modules.json", ["Transformer"]),
        ("sentence_bert_config.json", {"max_seq_length": 512}),
        ("sentence_bert_config.json", {"max_seq_length": -1}),
        ("sentence_bert_config.json", "[" * 100_000),
        ("config.json", "not JSON"),
        ("config.json", "\udcff".encode("utf-8", "surrogateescape").decode("latin-1")),
        ("config.json", {"pad": "x" * 1_000_001}),
        ("config.json", {"hidden_size": 16, "max_position_embeddings": 128}),
        (MANIFEST, "{}"),
        (
            MANIFEST,
            LEAVING,
        ),
    ],
)
def test_what_would_give_wrong_vectors_is_refused(tiny_copy: Path, name: str, content: Any) -> None:
    put(tiny_copy, name, content)
    with pytest.raises(ConfigurationError) as refused:
        inspect(tiny_copy, "test/tiny")
    assert refused.value.code == "model_damaged"
    assert str(tiny_copy) in refused.value.detail


@pytest.mark.parametrize("name", ["config.json", "modules.json", "1_Pooling/config.json", "tokenizer.json"])
def test_a_missing_file_is_named(tiny_copy: Path, name: str) -> None:
    (tiny_copy / name).unlink()
    with pytest.raises(ConfigurationError, match=f"{name} is missing"):
        inspect(tiny_copy, "test/tiny")


def test_without_a_manifest_the_revision_is_the_content(tiny_copy: Path, tiny_files: ModelFiles) -> None:
    assert inspect(tiny_copy, "test/tiny").model_key == tiny_files.model_key
    change(tiny_copy, "sentence_bert_config.json", max_seq_length=32)
    assert inspect(tiny_copy, "test/tiny").model_key != tiny_files.model_key


@pytest.mark.parametrize(
    ("graph", "weights"),
    [
        ("model.onnx", "model.onnx_data"),
        ("onnx/model.onnx", "onnx/model.onnx_data_1"),
        ("onnx/model.onnx", "onnx/model.onnx.data"),
        ("onnx/model.onnx", "onnx/lớp.bin"),
    ],
)
def test_the_revision_is_that_of_the_weights_beside_the_graph_too(
    tiny_copy: Path, graph: str, weights: str
) -> None:
    (tiny_copy / graph).write_bytes(b"graph \x0a\x08location\x12" + Path(weights).name.encode())
    revisions = set()
    for content in (b"some", b"others"):
        (tiny_copy / weights).write_bytes(content)
        revisions.add(inspect(tiny_copy, "test/tiny").revision)
    change(tiny_copy, "tokenizer_config.json", do_lower_case=False)
    revisions.add(inspect(tiny_copy, "test/tiny").revision)
    put(tiny_copy, "onnx/README.md", "no part of the model")
    revisions.add(inspect(tiny_copy, "test/tiny").revision)
    assert len(revisions) == 3


def test_the_manifest_knows_every_file(tiny_copy: Path) -> None:
    write_manifest(tiny_copy, "test/tiny", "abc", "hub")
    manifest = read_manifest(tiny_copy)
    assert manifest is not None
    assert "onnx/model.onnx" in manifest.files
    assert check(tiny_copy, hashes=True) == len(manifest.files)
    assert inspect(tiny_copy, "other/name").model_key == "test/tiny@abc:mean:"


def test_a_changed_byte_shows_only_in_the_hash(tiny_copy: Path) -> None:
    write_manifest(tiny_copy, "test/tiny", "abc", "hub")
    graph = tiny_copy / "onnx/model.onnx"
    content = bytearray(graph.read_bytes())
    content[1000] ^= 1
    graph.write_bytes(content)
    check(tiny_copy, hashes=False)
    with pytest.raises(ConfigurationError, match=r"onnx/model\.onnx has another sha256"):
        check(tiny_copy, hashes=True)
    graph.write_bytes(content[:-1])
    with pytest.raises(ConfigurationError, match=r"onnx/model\.onnx has \d+ bytes"):
        check(tiny_copy, hashes=False)
    graph.unlink()
    with pytest.raises(ConfigurationError, match=r"onnx/model\.onnx is missing"):
        check(tiny_copy, hashes=False)


def test_positions_that_begin_after_the_padding_id_are_fewer(tiny_copy: Path) -> None:
    put(tiny_copy, "sentence_bert_config.json", {"max_seq_length": 128})
    change(tiny_copy, "config.json", model_type="xlm-roberta", pad_token_id=1)
    with pytest.raises(ConfigurationError, match="128 tokens, but the model has 126 positions"):
        inspect(tiny_copy, "test/tiny")
    put(tiny_copy, "sentence_bert_config.json", {"max_seq_length": 126})
    assert inspect(tiny_copy, "test/tiny").max_tokens == 126


def test_a_tokenizer_without_a_limit_has_the_model_s(tiny_copy: Path) -> None:
    put(tiny_copy, "sentence_bert_config.json", {})
    change(tiny_copy, "tokenizer_config.json", model_max_length=10**30)
    assert inspect(tiny_copy, "test/tiny").max_tokens == 128
    change(tiny_copy, "config.json", model_type="mpnet", pad_token_id=1)
    assert inspect(tiny_copy, "test/tiny").max_tokens == 126


@pytest.mark.parametrize(
    ("saved", "expected"),
    [
        ({"prompts": {"query": "q: ", "document": "", "passage": "p: "}}, ("q: ", "p: ")),
        ({"prompts": {"query": "q: ", "document": "d: ", "passage": "p: "}}, ("q: ", "d: ")),
        ({"prompts": {"corpus": "c: "}}, ("", "c: ")),
        ({"prompts": {"any": "a: "}, "default_prompt_name": "any"}, ("a: ", "a: ")),
        ({"prompts": {"any": "a: "}, "default_prompt_name": None}, ("", "")),
        ({"prompts": {"query": "", "document": ""}}, ("query: ", "passage: ")),
        ({}, ("query: ", "passage: ")),
    ],
)
def test_prompts_are_the_files_else_the_card_s(
    tiny_copy: Path, saved: dict[str, Any], expected: tuple[str, str]
) -> None:
    put(tiny_copy, "config_sentence_transformers.json", saved)
    files = inspect(tiny_copy, "intfloat/e5-small-v2")
    assert (files.query_prefix, files.passage_prefix) == expected


def test_a_model_that_nobody_knows_has_no_prefix(tiny_copy: Path) -> None:
    (tiny_copy / "config_sentence_transformers.json").unlink()
    files = inspect(tiny_copy, "test/tiny")
    assert (files.query_prefix, files.passage_prefix) == ("", "")
    assert inspect(tiny_copy, "BAAI/bge-small-en-v1.5").query_prefix.startswith("Represent this sentence")
