"""Cleaning keeps the text, its pages and its headings."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedfleet.documents.clean import MAX_HEADING, clean, clean_text, normalise
from embedfleet.documents.parsers import Block
from tests.documents.make_files import VIETNAMESE

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=300)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (unicodedata.normalize("NFD", VIETNAMESE), VIETNAMESE),
        ("a\x00b\x07c\ufeffd\x9fe", "abcde"),
        ("  a \t b\u00a0\u3000c  \r\n  d ", "a b c\nd"),
        ("a\n \n\n\n\nb", "a\n\nb"),
        ("hy\u00adphen hy\u00ad\nphen", "hyphen hyphen"),
        ("lone \ud800 and \ud83d\ude00 pair", "lone \ufffd and 😀 pair"),
        ("page\x0cbreak\u2028line", "page\nbreak\nline"),
        ("می\u200cخواهم 👨\u200d👩", "می\u200cخواهم 👨\u200d👩"),
        ("日本語　の文章。", "日本語 の文章。"),
        ("Tiáº¿ng Viá»‡t", "Tiếng Việt"),
        ("Ông Nguyễn Văn A ở Hà Nội".encode().decode("latin-1"), "Ông Nguyễn Văn A ở Hà Nội"),
        ("next\x85line", "next\nline"),
        ("It was là” and vô… “café”", "It was là” and vô… “café”"),
        (" \n\t ", ""),
    ],
)
def test_cleaning(raw, expected):
    assert clean_text(raw) == expected


def test_words_are_joined_only_where_lines_are_wrapped():
    assert clean_text("exam-\nple", wrapped=True) == "example"
    assert clean_text("exam-\nple") == "exam-\nple"
    assert clean_text("Saint-\nDenis 3-\n4", wrapped=True) == "Saint-\nDenis 3-\n4"


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("phát triển kinh tế-\nxã hội", "phát triển kinh tế-xã hội"),
        ("Quan hệ Việt\u2010\nnga được mở rộng", "Quan hệ Việt\u2010nga được mở rộng"),
        ("Hãy đọc tệp python-\ntypes.md trước khi bắt đầu", "Hãy đọc tệp python-types.md trước khi bắt đầu"),
        ("đường sắt Bắc-\nNam", "đường sắt Bắc-\nNam"),
        ("Nguyễn Văn Hường wrote of the infor-\nmation " + "in libraries " * 9, "information"),
        (VIETNAMESE * 9 + "\n" + "all of it in English " * 9 + "exam-\nple" + " and on" * 20, "example"),
    ],
)
def test_hyphens_of_vietnamese_are_kept(raw, expected):
    assert expected in clean_text(raw, wrapped=True)


@given(ANY_TEXT)
def test_clean_text_is_clean_and_stays_so(raw):
    cleaned = clean_text(raw)
    cleaned.encode("utf-8")
    assert "\0" not in cleaned
    assert cleaned == cleaned.strip()
    assert unicodedata.is_normalized("NFC", cleaned)


@given(
    st.text(st.characters(exclude_categories=(), min_codepoint=0x100) | st.sampled_from("a -\n\r\0\u00ad"))
)
def test_cleaning_twice_changes_nothing(raw):
    assert clean_text(clean_text(raw)) == clean_text(raw)


@given(st.text(st.sampled_from("ab \n\u0301\u0323\U0001d165ế"), max_size=200))
def test_normalising_keeps_canonical_text(text):
    if "\u034f" not in normalise(text):
        assert normalise(text) == unicodedata.normalize("NFC", text)


@pytest.mark.parametrize("mark", ["\u0301\u0323", "\U0001d165\u0323"])
def test_a_million_marks_on_one_letter_take_no_time(mark):
    # Plain NFC needs minutes for this: quadratic in the marks of one letter.
    text = normalise("a" + mark * 500_000)
    assert text.count("\u0323") + text.count("ạ") == 500_000


@pytest.mark.parametrize("raw", [" " * 2_000_000 + "x", "\n " * 1_000_000 + "x", "-\n" * 1_000_000 + "x"])
def test_runs_without_end_take_no_time(raw):
    assert clean_text(raw, wrapped=True).endswith("x")


def test_pages_and_headings_are_known_by_offset():
    text = clean(
        [
            Block("  first  page ", page=1),
            Block("\0\n", page=2),
            Block("Chương\nhai", page=3, heading_level=1),
            Block("body", page=3),
        ]
    )
    assert text.text == "first page\n\nChương\nhai\n\nbody"
    place = text.text.index
    assert [text.page_at(place(word)) for word in ("first", "page", "Chương", "body")] == [1, 1, 3, 3]
    assert [text.heading_at(place(word)) for word in ("first", "Chương", "body")] == [
        None,
        "Chương hai",
        "Chương hai",
    ]


@given(st.lists(st.builds(Block, ANY_TEXT, st.integers(1, 5), st.none() | st.integers(1, 6)), max_size=12))
@settings(deadline=None)
def test_every_heading_starts_where_it_is_said_to(blocks):
    text = clean(sorted(blocks, key=lambda block: block.page))
    for start, heading in zip(text.heading_starts, text.headings, strict=True):
        assert len(heading) <= MAX_HEADING
        assert " ".join(text.text[start:].split()).startswith(heading)
    assert text.page_starts == sorted(set(text.page_starts))
    assert text.page_numbers == sorted(set(text.page_numbers))
