"""Token ids, their limit and their offsets."""

import unicodedata
from pathlib import Path

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from embedfleet.contracts.errors import ConfigurationError
from embedfleet.encoders.files import ModelFiles, inspect
from embedfleet.encoders.tokenizer import TextTokenizer, scrub

PROMPTS = '{"prompts": {"query": "for ", "document": "was "}}'


@pytest.fixture(scope="module")
def tokenizer(tiny_files: ModelFiles) -> TextTokenizer:
    return TextTokenizer(tiny_files)


def test_cuts_at_the_model_s_own_limit(tokenizer: TextTokenizer) -> None:
    short, long = tokenizer.encode(["the", "the " * 1000])
    assert len(short) == 1 + tokenizer.special_tokens
    assert len(long) == tokenizer.max_tokens == 64
    assert long[0] == short[0]
    assert long[-1] == short[-1]


def test_texts_that_lose_their_end_are_counted(tokenizer: TextTokenizer) -> None:
    room = tokenizer.max_tokens - tokenizer.special_tokens
    texts = ["the " * room, "the " * (room + 1), "the", "the " * 1000]
    assert tokenizer.encode_chunks(texts) == (tokenizer.encode(texts), 2)


@pytest.mark.slow
def test_the_real_model_s_limit_is_256_whatever_its_tokenizer_says(real_files: ModelFiles) -> None:
    tokenizer = TextTokenizer(real_files)
    assert tokenizer.max_tokens == 256
    assert len(tokenizer.encode(["word " * 2000])[0]) == 256
    assert len(tokenizer.encode(["word"])[0]) == 3


def test_offsets_are_uncut_and_in_characters(tokenizer: TextTokenizer) -> None:
    text = "the Việt 👩 for " * 40
    offsets = tokenizer.offsets(text)
    assert len(offsets) > tokenizer.max_tokens
    assert text[slice(*offsets[0])] == "the"
    assert text[slice(*offsets[-1])] == "for"


def test_offsets_and_ids_count_the_same_tokens(tokenizer: TextTokenizer) -> None:
    text = "not when, but was"
    assert len(tokenizer.encode([text])[0]) == len(tokenizer.offsets(text)) + tokenizer.special_tokens


def test_empty_input(tokenizer: TextTokenizer) -> None:
    assert tokenizer.encode([]) == []
    assert len(tokenizer.encode([""])[0]) == tokenizer.special_tokens
    assert tokenizer.offsets("") == []


def test_lone_surrogates_are_replaced_one_for_one(tokenizer: TextTokenizer) -> None:
    assert scrub("a\ud800b") == "a?b"
    assert tokenizer.encode(["the \ud800 for"]) == tokenizer.encode(["the ? for"])
    assert tokenizer.offsets("the \ud800 for")[-1] == (6, 9)


def test_prefixes_of_the_model_are_put_in_front(tiny_copy: Path, tokenizer: TextTokenizer) -> None:
    (tiny_copy / "config_sentence_transformers.json").write_text(PROMPTS, "utf-8")
    files = inspect(tiny_copy, "test/tiny")
    prefixed, plain = (
        TextTokenizer(files),
        TextTokenizer(inspect(Path(__file__).parent / "tiny", "test/tiny")),
    )
    assert prefixed.encode(["the"]) == plain.encode(["was the"])
    assert prefixed.encode_query("the") == plain.encode(["for the"])[0]
    assert files.model_key.endswith(":was ")


def test_a_query_s_letters_are_composed_as_a_chunk_s_are(tiny_copy: Path) -> None:
    words = Tokenizer(WordLevel({"?": 0, "tiếng": 1, "việt": 2}, unk_token="?"))
    words.pre_tokenizer = Whitespace()  # and no normaliser, as in a cased model
    words.save(str(tiny_copy / "tokenizer.json"))
    tokenizer = TextTokenizer(inspect(tiny_copy, "test/tiny"))
    assert tokenizer.encode_query(unicodedata.normalize("NFD", "tiếng việt")) == [1, 2]


def test_a_broken_file_is_a_configuration_error(tiny_copy: Path) -> None:
    (tiny_copy / "tokenizer.json").write_text('{"version": "1.0"}', "utf-8")
    with pytest.raises(ConfigurationError, match=r"tokenizer\.json"):
        TextTokenizer(inspect(tiny_copy, "test/tiny"))
