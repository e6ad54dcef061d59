"""What a model's own files say of it.

Standard library and pydantic only: the document worker reads `ModelFiles` too.
"""

import hashlib
import json
import mmap
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from embedfleet.encoders.manifest import check, damaged, file_sha256, read_manifest
from embedfleet.encoders.registry import (
    CONFIG_FILES,
    ONNX_FILE,
    PREFIXES,
    PROMPTS_FILE,
    TEXT_FILES,
    TOKENIZER_CONFIG_FILE,
    TOKENIZER_FILE,
    WEIGHTS_FILE,
)

Pooling = Literal["mean", "cls"]

MAX_JSON_BYTES = 1_000_000
ONNX_FILES = (ONNX_FILE, "model.onnx")
# Families that number a row's positions from the one after the padding id's.
POSITIONS_AFTER_PADDING = frozenset({"camembert", "mpnet", "roberta", "xlm-roberta"})


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """One model on disk, and what its own files say of it.

    Attributes:
        folder: where the files are.
        model_id: name on the hub.
        revision: commit on the hub; for a folder without a manifest, a hash of its content.
        dim: length of a vector.
        max_tokens: longest input, special tokens included; what is longer is cut.
        pooling: how token vectors become one.
        normalize: whether the model itself normalises (the encoders always do).
        query_prefix: text put before a query.
        passage_prefix: text put before a chunk.
        vocabulary: how many token ids there are.
        pad_id: token id that fills the rows of a batch; masked, so it changes no vector.
        tokenizer: the tokenizer's file.
        onnx: the ONNX graph, or None.
        weights: the safetensors checkpoint, or None.
    """

    folder: Path
    model_id: str
    revision: str
    dim: int
    max_tokens: int
    pooling: Pooling
    normalize: bool
    query_prefix: str
    passage_prefix: str
    vocabulary: int
    pad_id: int
    tokenizer: Path
    onnx: Path | None
    weights: Path | None

    @property
    def model_key(self) -> str:
        """Return what vectors must share to be comparable: model, revision, pooling, prefix."""
        return f"{self.model_id}@{self.revision}:{self.pooling}:{self.passage_prefix}"


def inspect(folder: Path, model_id: str) -> ModelFiles:
    """Read what a model folder says of itself.

    Args:
        folder: a fetched folder, or one of the user's own.
        model_id: name for a folder that has no manifest.

    Raises:
        ConfigurationError: a file is missing or broken, or the model needs what the encoders
            don't do (another pooling, a dense layer): its vectors would be silently wrong.
    """
    check(folder, hashes=False)
    config = _object(folder, "config.json")
    dim, pooling = _pooling(folder)
    if config.get("hidden_size") != dim:
        raise damaged(folder, f"config.json says {config.get('hidden_size')} dimensions, 1_Pooling {dim}")
    if not (folder / TOKENIZER_FILE).is_file():
        raise damaged(folder, f"{TOKENIZER_FILE} is missing")
    manifest = read_manifest(folder)
    name = manifest.model_id if manifest else model_id
    query_prefix, passage_prefix = _prefixes(folder, name)
    return ModelFiles(
        folder=folder,
        model_id=name,
        revision=manifest.revision if manifest else _content_revision(folder),
        dim=dim,
        max_tokens=_max_tokens(folder, config),
        pooling=pooling,
        normalize=_normalizes(folder),
        query_prefix=query_prefix,
        passage_prefix=passage_prefix,
        vocabulary=_positive(folder, "config.json", config, "vocab_size"),
        pad_id=_pad_id(config),
        tokenizer=folder / TOKENIZER_FILE,
        onnx=next((folder / name for name in ONNX_FILES if (folder / name).is_file()), None),
        weights=folder / WEIGHTS_FILE if (folder / WEIGHTS_FILE).is_file() else None,
    )


def _prefixes(folder: Path, model_id: str) -> tuple[str, str]:
    """Return what is put before a query and before a chunk.

    Names and default as sentence-transformers has them; it writes empty prompts that nobody set, so only
    those with text count.
    """
    saved = _object(folder, PROMPTS_FILE) if (folder / PROMPTS_FILE).is_file() else {}
    prompts = saved.get("prompts")
    named = prompts.items() if isinstance(prompts, dict) else ()
    texts = {str(name): str(text) for name, text in named if text}
    if not texts:
        return PREFIXES.get(model_id, ("", ""))
    default = texts.get(str(saved.get("default_prompt_name")), "")
    passages = [texts[name] for name in ("document", "passage", "corpus") if name in texts]
    return texts.get("query", default), next(iter(passages), default)


def _pooling(folder: Path) -> tuple[int, Pooling]:
    config = _object(folder, "1_Pooling/config.json")
    if config.get("include_prompt") is False:
        raise damaged(folder, "its pooling leaves the prompt out, which the encoders don't do")
    # Written since sentence-transformers 5.7; before, one flag a mode.
    if "pooling_mode" in config and config["pooling_mode"] in ("mean", "cls"):
        return _positive(folder, "1_Pooling/config.json", config, "embedding_dimension"), config[
            "pooling_mode"
        ]
    flags = [name for name, on in config.items() if name.startswith("pooling_mode_") and on]
    modes = {name.removeprefix("pooling_mode_") for name in flags}
    dim = _positive(folder, "1_Pooling/config.json", config, "word_embedding_dimension")
    if modes == {"mean_tokens"}:
        return dim, "mean"
    if modes == {"cls_token"}:
        return dim, "cls"
    raise damaged(folder, f"its pooling ({', '.join(sorted(modes)) or 'none'}) is not `mean` or `cls`")


def _normalizes(folder: Path) -> bool:
    modules = _json(folder, "modules.json")
    if not isinstance(modules, list) or not all(isinstance(module, dict) for module in modules):
        raise damaged(folder, "modules.json is not a list of modules")
    kinds = [str(module.get("type", "")).rpartition(".")[2] for module in modules]
    if kinds[:2] != ["Transformer", "Pooling"] or kinds[2:] not in ([], ["Normalize"]):
        raise damaged(folder, f"its modules ({', '.join(kinds)}) are not Transformer, Pooling[, Normalize]")
    return "Normalize" in kinds


def _max_tokens(folder: Path, config: dict[str, Any]) -> int:
    """Return sentence_bert_config.json's limit, else the tokenizer's, as far as the model has positions."""
    positions = _positive(folder, "config.json", config, "max_position_embeddings")
    if config.get("model_type") in POSITIONS_AFTER_PADDING:
        positions -= _pad_id(config) + 1
    limits = _object(folder, "sentence_bert_config.json")
    if limits.get("max_seq_length") is not None:
        tokens = _positive(folder, "sentence_bert_config.json", limits, "max_seq_length")
    else:
        tokenizer = _object(folder, TOKENIZER_CONFIG_FILE)
        # A tokenizer that knows no limit says 10^30.
        tokens = min(positions, _positive(folder, TOKENIZER_CONFIG_FILE, tokenizer, "model_max_length"))
    if tokens > positions:
        raise damaged(folder, f"it says {tokens} tokens, but the model has {positions} positions")
    return tokens


def _pad_id(config: dict[str, Any]) -> int:
    pad_id = config.get("pad_token_id")
    return pad_id if isinstance(pad_id, int) else 0


def _positive(folder: Path, name: str, values: dict[str, Any], key: str) -> int:
    value = values.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise damaged(folder, f"{name} has no positive {key}")
    return value


def _object(folder: Path, name: str) -> dict[str, Any]:
    value = _json(folder, name)
    if not isinstance(value, dict):
        raise damaged(folder, f"{name} is not a JSON object")
    return value


def _json(folder: Path, name: str) -> Any:
    path = folder / name
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise damaged(folder, f"{name} is larger than {MAX_JSON_BYTES} bytes")
        return json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise damaged(folder, f"{name} is missing") from error
    except (OSError, ValueError, RecursionError) as error:
        raise damaged(folder, f"{name} is broken") from error


def _content_revision(folder: Path) -> str:
    digest = hashlib.sha256()
    names = (*CONFIG_FILES, *TEXT_FILES, *ONNX_FILES, *_data_of_graphs(folder), WEIGHTS_FILE)
    for name in names:
        if (folder / name).is_file():
            digest.update(f"{name} {file_sha256(folder / name)}\n".encode())
    return f"content-{digest.hexdigest()[:16]}"


def _data_of_graphs(folder: Path) -> list[str]:
    """Return the files with weights of the graphs: what is named like a graph, or what a graph names.

    A graph names such a file as plain text, so it is found without a library that reads graphs. A file
    that is named by chance makes the revision depend on it, no more.
    """
    found = set()
    for graph in (folder / name for name in ONNX_FILES):
        if not graph.is_file() or not graph.stat().st_size:
            continue
        with graph.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            for path in graph.parent.iterdir():
                beside = path.is_file() and path.suffix != graph.suffix
                if beside and (path.name.startswith(graph.name) or content.find(os.fsencode(path.name)) >= 0):
                    found.add(path.relative_to(folder).as_posix())
    return sorted(found.difference(CONFIG_FILES, TEXT_FILES, [WEIGHTS_FILE]))
