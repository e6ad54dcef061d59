"""No chunk over the model's limit, no text lost, sizes as asked, linear time."""

import time
import unicodedata
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embedfleet.contracts.documents import ChunkOptions
from embedfleet.contracts.errors import DocumentProcessingError
from embedfleet.documents.chunk import Chunker
from embedfleet.documents.clean import CleanText, clean
from embedfleet.documents.parsers import Block
from tests.documents.conftest import MAX_TOKENS
from tests.documents.make_files import VIETNAMESE

WORDS = st.sampled_from(
    [
        "tiếng",
        "Việt.",
        "đoạn",
        "the",
        "End!",
        "。",
        "日本語",
        "x" * 150,
        "ﷺ",
        "👨\u200d👩",
        "\n\n",
        "\n",
        "a\u0301\u0323",
        "1,5",
    ]
)
TEXTS = st.lists(WORDS | st.text(max_size=30), max_size=120).map(" ".join)
SIZES = st.builds(
    lambda kind, size, share: ChunkOptions(
        chunker_type=kind, chunk_size=size, chunk_overlap=int(size * share)
    ),
    st.sampled_from(["sentence", "token", "markdown"]),
    st.integers(50, 400),
    st.sampled_from([0, 0.2, 0.5, 0.99]),
)
PROPERTY = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def chunk(text, options, tokens, max_tokens=MAX_TOKENS, room=10**9):
    chunker = Chunker(text, options, tokens, max_tokens, room)
    return list(chunker), chunker


def plain(text):
    return clean([Block(text)])


@given(text=TEXTS, options=SIZES, heads=st.sets(st.integers(0, 20)))
@PROPERTY
def test_what_always_holds(tokens, text, options, heads):
    parts = text.split("\n")
    whole = clean(Block(part, heading_level=1 if n in heads else None) for n, part in enumerate(parts))
    chunks, chunker = chunk(whole, options, tokens)
    covered = set()
    for index, piece in enumerate(chunks):
        assert piece.index == index
        assert piece.text == whole.text[piece.start : piece.end]
        assert piece.text == piece.text.strip() != ""
        assert [piece.token_count] == tokens.counts([piece.text])
        assert piece.token_count <= MAX_TOKENS
        content = piece.token_count - tokens.special_tokens
        size = content if options.chunker_type == "token" else len(piece.text)
        assert size <= options.chunk_size or len(piece.text) == 1
        covered.update(range(piece.start, piece.end))
    assert {n for n, c in enumerate(whole.text) if not c.isspace()} <= covered
    assert [c.start for c in chunks] == sorted(c.start for c in chunks)
    assert chunker.longest <= options.chunk_size


def test_sentences_are_kept_whole_and_overlap(wordpiece):
    text = plain(" ".join(f"This is sentence number {n}." for n in range(60)))
    chunks, _ = chunk(text, ChunkOptions(chunk_size=200, chunk_overlap=60), wordpiece, 512)
    assert len(chunks) > 5
    for before, after in pairwise(chunks):
        assert before.text.endswith(".")
        assert after.text.startswith("This is")
        assert before.start < after.start < before.end < after.end
        assert before.end - after.start <= 60


def test_vietnamese_and_japanese_are_cut_at_their_sentences(wordpiece):
    for text in (VIETNAMESE + " ", "文書を読み、切り分け、索引に入れる。"):
        chunks, _ = chunk(plain(text * 20), ChunkOptions(chunk_size=120, chunk_overlap=0), wordpiece, 512)
        assert all(c.text[-1] in ".。:" for c in chunks)


def test_the_models_limit_cuts_shorter_and_says_so(wordpiece):
    text = plain((VIETNAMESE + " ") * 30)
    chunks, chunker = chunk(text, ChunkOptions(), wordpiece)
    assert chunker.limited
    assert chunker.longest == max(len(c.text) for c in chunks) < 1000
    _, roomy = chunk(text, ChunkOptions(), wordpiece, 5_000)
    assert not roomy.limited


def test_token_sizes(wordpiece):
    text = plain((VIETNAMESE + " ") * 10)
    options = ChunkOptions(chunker_type="token", chunk_size=50, chunk_overlap=10)
    chunks, chunker = chunk(text, options, wordpiece)
    assert not chunker.limited
    assert all(c.token_count - wordpiece.special_tokens <= 50 for c in chunks)
    assert sum(c.token_count > 40 for c in chunks) >= len(chunks) - 1
    overlaps = [b.end - a.start for b, a in pairwise(chunks)]
    assert all(overlap > 0 for overlap in overlaps)


def test_markdown_sections_are_never_mixed(wordpiece):
    blocks = [Block("Title", heading_level=1), Block("Part one", heading_level=2), Block("Body one. " * 3)]
    blocks += [Block("Part two", heading_level=2), Block("Body two. " * 40)]
    chunks, _ = chunk(
        clean(blocks), ChunkOptions(chunker_type="markdown", chunk_size=200, chunk_overlap=0), wordpiece, 512
    )
    assert chunks[0].text.startswith("Title\n\nPart one\n\nBody one.")
    assert chunks[1].text.startswith("Part two\n\nBody two.")
    assert {c.heading for c in chunks[1:]} == {"Part two"}


def test_pages_are_those_of_the_first_character(wordpiece):
    text = clean([Block("One. " * 30, page=1), Block("Two. " * 30, page=2)])
    chunks, _ = chunk(text, ChunkOptions(chunk_size=100, chunk_overlap=0), wordpiece, 512)
    assert [c.page for c in chunks] == [1 if c.text.startswith("One") else 2 for c in chunks]


def test_visible_characters_are_kept_whole(wordpiece):
    family = "👨\u200d👩\u200d👧"
    chunks, _ = chunk(plain(family * 300), ChunkOptions(chunk_size=52, chunk_overlap=0), wordpiece, 512)
    assert {c.text.replace(family, "") for c in chunks} == {""}


@pytest.mark.parametrize(
    "text",
    [
        "ที่นี่มีน้ำดื่มเพื่อผู้ที่เดินทางมาถึงก่อนเที่ยงวันนี้" * 20,
        "လူတိုင်းသည်တူညီလွတ်လပ်သောဂုဏ်သိက္ခာဖြင့်မွေးဖွားလာသူများဖြစ်သည်" * 20,
        "👨\u200d👩\u200d👧" * 200,
        "e\u0323\u0302" * 300,
    ],
    ids=["thai", "burmese", "emoji", "marks"],
)
@pytest.mark.parametrize("overlap", [1, 40, 99])
def test_no_chunk_starts_inside_a_visible_character(wordpiece, text, overlap):
    whole = CleanText(text)
    chunks, _ = chunk(whole, ChunkOptions(chunk_size=100, chunk_overlap=overlap), wordpiece, 512)
    assert len(chunks) > 5
    for before, after in pairwise(chunks):
        assert before.start < after.start <= before.end < after.end
        assert before.end - after.start <= overlap
    assert [c.text[:4] for c in chunks if c.start and _continues(text, c.start)] == []


def _continues(text, at):
    return unicodedata.category(text[at])[0] == "M" or "\u200d" in text[at - 1 : at + 1]


def test_too_many_chunks_are_refused(wordpiece):
    text = plain("word " * 2_000)
    with pytest.raises(DocumentProcessingError) as caught:
        chunk(text, ChunkOptions(chunk_size=1000, chunk_overlap=999), wordpiece, 512, room=20_000)
    assert caught.value.code == "limit_exceeded"


def test_a_model_too_small_to_cut_by_is_refused(wordpiece):
    with pytest.raises(ValueError, match="too small"):
        chunk(CleanText("x"), ChunkOptions(), wordpiece, 20)


def test_a_run_that_is_one_unknown_token_is_cut_and_hardly_repeated(wordpiece):
    text = plain("x" * 300_000)
    chunks, _ = chunk(text, ChunkOptions(chunker_type="token"), wordpiece, 256)
    assert max(len(c.text) for c in chunks) < 8_000
    assert sum(len(c.text) for c in chunks) < 1.5 * 300_000


@pytest.mark.parametrize("kind", ["sentence", "token"])
def test_time_is_linear_without_spaces(tokens, kind):
    def seconds(characters):
        started = time.perf_counter()
        chunk(plain("x" * characters), ChunkOptions(chunker_type=kind), tokens)
        return time.perf_counter() - started

    seconds(10_000)
    small = min(seconds(100_000) for _ in range(3))
    # Quadratic time would be 64 times as long.
    assert seconds(800_000) < 24 * small + 0.5
