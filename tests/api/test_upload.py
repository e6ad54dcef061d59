import asyncio
import json
import math
import tempfile
from typing import Any

import pytest
from fastapi import Request
from hypothesis import given
from hypothesis import strategies as st

from embedfleet.api.uploads.metadata import MAX_BYTES, MAX_KEYS, parse_metadata
from embedfleet.api.uploads.upload import clean_filename, extension_of, form_schema, received
from embedfleet.contracts.errors import DependencyDown, InvalidRequest

KEYS = st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True)
SCALARS = (
    st.text(st.characters(exclude_categories=["Cs"]), max_size=50)
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
)


@given(st.dictionaries(KEYS, SCALARS, max_size=8))
def test_flat_metadata_is_taken_as_it_is(values: dict[str, Any]) -> None:
    assert parse_metadata(json.dumps(values)) == values


@given(st.text(max_size=200))
def test_any_text_is_metadata_or_refused(text: str) -> None:
    try:
        values = parse_metadata(text)
    except ValueError:
        return
    json.dumps(values, ensure_ascii=False, allow_nan=False).encode("utf-8")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '"text"',
        '{"a": null}',
        '{"a": {}}',
        '{"a": [1]}',
        '{"a": NaN}',
        '{"a": 1e999}',
        '{"a": 9223372036854775808}',
        '{"a": "\\ud800"}',
        '{"": 1}',
        '{"a.b": 1}',
        '{"a[]": 1}',
        json.dumps({"k" * 65: 1}),
        json.dumps({f"k{number}": number for number in range(MAX_KEYS + 1)}),
        json.dumps({"a": "x" * MAX_BYTES}),
        "[" * MAX_BYTES,
        '{"a":' * (MAX_BYTES // 5),
        '{"a": ' + "9" * 5000 + "}",
    ],
)
def test_other_metadata_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"JSON|key|number|bytes"):
        parse_metadata(text)


def test_metadata_limit_counts_bytes() -> None:
    text = json.dumps({"a": "ế" * (MAX_BYTES // 2)}, ensure_ascii=False)
    assert len(text) < MAX_BYTES
    with pytest.raises(ValueError, match=str(MAX_BYTES)):
        parse_metadata(text)


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ("report.pdf", "report.pdf"),
        ("/etc/passwd.txt", "passwd.txt"),
        ("..\\..\\boot.md", "boot.md"),
        ("../../a/b.txt", "b.txt"),
        ("  spaced.txt ", "spaced.txt"),
        ("Tie\u0302\u0301ng Vie\u0323\u0302t.txt", "Tiếng Việt.txt"),
        ("a" * 251 + ".txt", "a" * 251 + ".txt"),
    ],
)
def test_filename_is_a_name_in_nfc(raw: str, name: str) -> None:
    assert clean_filename(raw) == name


@pytest.mark.parametrize(
    "raw", ["", "/", "a/", " ", "a\x00.txt", "a\n.txt", "a\u2028.txt", "a\ud800.txt", "a" * 252 + ".txt"]
)
def test_other_filenames_are_refused(raw: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        clean_filename(raw)
    assert refusal.value.code == "invalid_filename"


@given(st.text(max_size=300))
def test_a_filename_never_holds_a_path_or_control_characters(raw: str) -> None:
    try:
        name = clean_filename(raw)
    except InvalidRequest:
        return
    assert 0 < len(name) <= 255
    assert not set(name) & {"/", "\\", "\0", "\n", "\r"}
    name.encode("utf-8")


@pytest.mark.parametrize(
    ("name", "extension"), [("a.PDF", ".pdf"), ("a.tar.gz", ".gz"), ("a", ""), (".pdf", ""), ("a.", "")]
)
def test_extension_is_in_lower_case(name: str, extension: str) -> None:
    assert extension_of(name).rstrip(".") == extension


def test_full_disk_is_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    part = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\n'
    body = part + b"x" * 2_000_000 + b"\r\n--b--\r\n"

    async def receive() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    async def read() -> None:
        headers = [(b"content-type", b"multipart/form-data; boundary=b")]
        async with received(Request({"type": "http", "headers": headers}, receive)):
            raise AssertionError("there is no folder to spool to")

    with pytest.raises(DependencyDown, match="/nowhere"):
        asyncio.run(read())


def test_form_is_described_with_its_file() -> None:
    schema = form_schema()["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert set(schema["required"]) == {"file", "collection"}
    assert set(schema["properties"]) == {
        "file",
        "collection",
        "document_key",
        "chunk_size",
        "chunk_overlap",
        "chunker_type",
        "metadata",
    }
    assert math.isclose(schema["properties"]["chunk_size"]["maximum"], 8000)
