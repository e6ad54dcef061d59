"""The plain design does its work, so that it is a rival; torch and the store are stand-ins."""

import importlib
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from embedfleet.documents.tokens import ModelTokens

TINY = Path(__file__).parents[1] / "encoders" / "tiny"
TEXT = "Ngửi thấy mùi gas rò rỉ trong bếp thì khóa van bình, mở cửa sổ. "


@pytest.fixture
def plain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Its module, imported without torch; a task that is sent on is run at once."""
    sentence = ModuleType("sentence_transformers")
    sentence.SentenceTransformer = object  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch", ModuleType("torch"))
    monkeypatch.setitem(sys.modules, "sentence_transformers", sentence)
    monkeypatch.delitem(sys.modules, "benchmarks.path.plain", raising=False)
    for name in ("MODEL", "UPLOADS", "REDIS", "QDRANT"):
        monkeypatch.setenv(f"BENCH_{name}", "memory://" if name == "REDIS" else str(tmp_path))
    module = importlib.import_module("benchmarks.path.plain")
    monkeypatch.delitem(sys.modules, "benchmarks.path.plain")

    def run(chunks: list[dict[str, Any]], collection: str) -> SimpleNamespace:
        return SimpleNamespace(id=str(module.generate_embeddings.run(chunks, collection)))

    monkeypatch.setattr(module.generate_embeddings, "delay", run)
    return module


class Store:
    """Counts what it is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.texts: list[str] = []

    def collection_exists(self, name: str) -> bool:
        self.asked.append("exists")
        return False

    def create_collection(self, name: str, vectors_config: object) -> None:
        self.asked.append("create")

    def upsert(self, name: str, points: list[Any], wait: bool) -> None:
        assert wait
        self.texts += [point.payload["text"] for point in points]


def test_a_file_is_cut_embedded_and_stored_and_its_collection_is_asked_for_once(
    plain: Any, tmp_path: Path
) -> None:
    store, file = Store(), tmp_path / "file.txt"
    model = SimpleNamespace(encode=lambda texts, **_: np.zeros((len(texts), 384), dtype=np.float32))
    plain.loaded.update(model=model, qdrant=store, tokens=ModelTokens.load(TINY / "tokenizer.json"))
    file.write_text(TEXT * 40, "utf-8")
    done = plain.process_document.run(str(file), "c", "file.txt")
    assert done["chunk_count"] == len(store.texts) > 1
    assert "khóa van bình" in store.texts[0]
    plain.process_document.run(str(file), "c", "file.txt")
    assert store.asked == ["exists", "create"]


def test_it_is_as_short_as_the_pages_say(plain: Any) -> None:
    lines = Path(plain.__file__).read_text("utf-8").splitlines()
    assert len(lines) <= 80
    page = Path(__file__).parents[2] / "docs" / "benchmarks.md"
    assert f"`plain.py`, {len(lines)} lines" in page.read_text("utf-8")
