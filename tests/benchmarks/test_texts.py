"""What the contestants read, and what it costs."""

import json
from pathlib import Path

import pytest
from benchmarks.bench.corpus import cut, cycled, generated, load
from benchmarks.engine.flops import Shape
from benchmarks.path.texts import text_files

from embedfleet.documents.tokens import ModelTokens
from embedfleet.encoders.files import inspect
from embedfleet.encoders.tokenizer import TextTokenizer

TINY = Path(__file__).parents[1] / "encoders" / "tiny"
VIETNAMESE = "Ngửi thấy mùi gas rò rỉ trong bếp thì khóa van bình, mở cửa sổ. "


@pytest.fixture(scope="module")
def tokenizer() -> TextTokenizer:
    """The tiny model's."""
    return TextTokenizer(inspect(TINY, "test/tiny"))


@pytest.mark.parametrize("text", [VIETNAMESE * 50, "word " * 500, "一二三" * 300, "short", ""])
def test_a_text_is_cut_to_what_the_model_takes(tokenizer: TextTokenizer, text: str) -> None:
    for tokens in (6, 17, 60):
        piece = cut(tokenizer, text, tokens)
        count = len(tokenizer.offsets(piece)) + tokenizer.special_tokens
        assert count <= tokens
        assert text.startswith(piece)
        assert piece == text or count >= tokens - 2


def test_a_piece_that_has_more_tokens_than_it_had_within_the_whole_is_cut_again() -> None:
    class Halving:
        """One token for two letters of a long text, one a letter of a short one."""

        special_tokens = 2

        def offsets(self, text: str) -> list[tuple[int, int]]:
            step = 2 if len(text) > 8 else 1
            return [(at, at + step) for at in range(0, len(text), step)]

    assert cut(Halving(), "x" * 12, 5) == "xx"  # type: ignore[arg-type]


def test_real_chunks_are_used_when_they_are_here(tokenizer: TextTokenizer, tmp_path: Path) -> None:
    file = tmp_path / "chunks.jsonl"
    lines = [json.dumps({"text": f"{number} {VIETNAMESE * 40}"}, ensure_ascii=False) for number in range(50)]
    file.write_text("\n".join(lines), "utf-8")
    corpus = load(tokenizer, str(file))
    assert corpus.source == "50 real chunks of chunks.jsonl"
    assert sorted(text.split()[0] for text in corpus.mixed) == sorted(str(number) for number in range(50))
    long, short = (
        sum(len(tokenizer.offsets(text)) for text in texts) for texts in (corpus.mixed, corpus.short)
    )
    assert len(corpus.short) == 50
    assert short < long
    assert load(tokenizer, str(file)) == corpus


def test_generated_chunks_say_so_and_have_the_mix(
    tokenizer: TextTokenizer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("benchmarks.bench.corpus.REAL", tmp_path / "absent.jsonl")
    monkeypatch.setattr("benchmarks.bench.corpus.GENERATED", 60)
    corpus = load(tokenizer, "")
    assert corpus.source.startswith("60 generated chunks")
    assert len(corpus.mixed) == 60
    counts = [len(tokenizer.offsets(text)) + 2 for text in generated(tokenizer, 60)]
    assert max(counts) <= 256
    assert sum(count < 100 for count in counts) in range(5, 35)


def test_texts_begin_again_when_there_are_too_few() -> None:
    assert cycled(["a", "b"], 5) == ["a", "b", "a", "b", "a"]


def test_files_have_the_chunks_that_are_wanted() -> None:
    meter = ModelTokens.load(TINY / "tokenizer.json")
    files = list(text_files([VIETNAMESE * 12, "A paragraph in English. " * 30], 4, 10, meter, 256))
    assert len({file.text for file in files}) == len({file.name for file in files}) == 4
    assert all(abs(file.chunks - 10) <= 1 for file in files)


def test_the_cost_of_a_token_is_the_model_card_arithmetic(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text('{"num_hidden_layers": 6, "hidden_size": 384, "intermediate_size": 1536}', "utf-8")
    shape = Shape.of(config)
    # Six layers of 4·384² + 2·384·1536 multiplications with their additions, and 4·384 for each other token.
    assert shape.flops(1) == 6 * (2 * 1_769_472 + 1536)
    assert shape.flops(214) / 214 == pytest.approx(23.2e6, rel=0.01)
