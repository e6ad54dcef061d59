"""`embedfleet ingest` against an API over HTTP: keys, progress, failures, exit codes."""

import os
import unicodedata
from pathlib import Path

import pytest
from commands import command, events, on_terminal, program
from stub_api import Stub

from embedfleet.cli.ingest.sources import select
from embedfleet.contracts.errors import InvalidRequest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two files of one name in two folders, one of another type, a hidden one."""
    root = tmp_path / "papers"
    for name in ("a/notes.txt", "b/notes.txt", "c/deep/er.MD", "picture.png", ".git/x.txt", "a/.hidden.txt"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"text of {name}")
    return root


def test_a_folder_becomes_documents_with_relative_keys(stub: Stub, folder: Path) -> None:
    result = command("ingest", str(folder), "--collection", "demo", "--metadata", '{"year": 2026}')
    assert result.exit_code == 0
    assert set(stub.forms) == {"a/notes.txt", "b/notes.txt", "c/deep/er.MD"}
    form = stub.forms["a/notes.txt"]
    assert form["bytes"] == b"text of a/notes.txt"
    assert (form["filename"], form["collection"], form["metadata"]) == ("notes.txt", "demo", '{"year": 2026}')
    assert "chunk_size" not in form


def test_a_pipe_gets_json_lines_with_real_chunk_counts(stub: Stub, folder: Path) -> None:
    paths = (str(folder / "a"), str(folder / "picture.png"))
    lines = events(command("ingest", *paths, "--collection", "demo", "--verbose").stdout)
    assert [line["event"] for line in lines] == ["skipped", "uploading", *["progress"] * 3, "done", "summary"]
    assert lines[0]["reason"].startswith("type .png is not one of")
    assert [(line["state"], line["done"], line["total"]) for line in lines[2:5]] == [
        ("PARSING", 0, None),
        ("EMBEDDING", 1, 3),
        ("READY", 3, 3),
    ]
    done = lines[5]
    assert done["document_id"] == stub.forms["notes.txt"]["id"]
    assert (done["state"], done["chunks"], done["error"]) == ("READY", 3, None)
    assert 0 < done["seconds"] < 30
    assert {name: lines[6][name] for name in ("ready", "failed", "skipped", "chunks")} == {
        "ready": 1,
        "failed": 0,
        "skipped": 1,
        "chunks": 3,
    }


def test_a_pipe_gets_only_ends_without_verbose(stub: Stub, folder: Path) -> None:
    lines = events(command("ingest", str(folder / "a"), "--collection", "demo").stdout)
    assert [line["event"] for line in lines] == ["done", "summary"]


@pytest.mark.parametrize(
    ("message", "note", "unchanged"),
    [
        ("a.txt is queued", "", 0),
        ("a.txt is here already with the same content and options; nothing to do", "nothing to do", 1),
        ("a.txt is queued as generation 2 of its document", "replaces an older version", 0),
    ],
)
def test_what_was_there_before_is_said(
    stub: Stub, tmp_path: Path, message: str, note: str, unchanged: int
) -> None:
    (tmp_path / "a.txt").write_text("text")
    stub.message = message
    done, summary = events(command("ingest", str(tmp_path), "--collection", "demo").stdout)
    assert (done["note"], summary["ready"], summary["unchanged"]) == (note, 1, unchanged)
    shown, code = on_terminal("ingest", str(tmp_path), "--collection", "demo")
    assert code == 0
    assert f"{'=' if unchanged else '✓'} a.txt  3 chunks" in shown
    assert note in shown


def test_failures_are_a_table_with_code_and_detail_and_exit_1(stub: Stub, tmp_path: Path) -> None:
    for name in ("good.txt", "corrupt.pdf", "refused.md", "forever.txt"):
        (tmp_path / name).write_text(name)
    result = command("ingest", str(tmp_path), "--collection", "demo", "--timeout", "1")
    assert result.exit_code == 1
    states = {Path(line["file"]).name: line for line in events(result.stdout) if line["event"] == "done"}
    assert {name: line["state"] for name, line in states.items()} == {
        "good.txt": "READY",
        "corrupt.pdf": "FAILED",
        "refused.md": "REFUSED",
        "forever.txt": "TIMEOUT",
    }
    assert states["corrupt.pdf"]["error"]["code"] == "corrupt"
    assert states["refused.md"]["error"]["detail"] == "the file has no bytes"
    for word in ("Not ingested", "corrupt", "the file is damaged", "empty_file", "timeout"):
        assert word in result.stderr


@pytest.mark.parametrize("name", ["busy.txt", "limited.txt"])
def test_retry_after_is_honoured(stub: Stub, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("text")
    assert command("ingest", str(tmp_path), "--collection", "demo").exit_code == 0
    (_, first), (_, second) = stub.uploads
    assert second - first >= 1
    assert stub.forms[name]["bytes"] == b"text"


def test_a_task_that_expired_is_followed_by_its_document(stub: Stub, tmp_path: Path) -> None:
    (tmp_path / "expired.txt").write_text("text")
    assert command("ingest", str(tmp_path), "--collection", "demo").exit_code == 0


def test_uploads_are_parallel_but_bounded(stub: Stub, tmp_path: Path) -> None:
    for number in range(24):
        (tmp_path / f"{number}.txt").write_text(str(number) * 200_000)
    assert command("ingest", str(tmp_path), "--collection", "demo").exit_code == 0
    assert len(stub.forms) == 24
    assert 2 <= stub.most_at_once <= 4


def test_the_key_and_the_chunk_options_are_sent(
    stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLEET_API_KEY", "secret")
    file = tmp_path / "a.txt"
    file.write_text("text")
    options = ["--chunk-size", "300", "--chunk-overlap", "30", "--chunker", "token"]
    assert command("ingest", str(file), "--collection", "demo", *options).exit_code == 0
    form = stub.forms["a.txt"]
    assert (form["chunk_size"], form["chunk_overlap"], form["chunker_type"]) == ("300", "30", "token")
    assert stub.keys == {"Bearer secret"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["/no/such/file.txt", "--collection", "demo"], "does not exist"),
        (["{folder}/picture.png", "--collection", "demo"], "no .pdf"),
        (["{folder}", "--collection", "de/mo"], "letter or digit"),
        (["{folder}", "--collection", "demo", "--chunk-size", "100"], "smaller than chunk_size"),
        (["{folder}", "--collection", "demo", "--chunker", "magic"], "magic"),
        (["{folder}", "--collection", "demo", "--metadata", "[1]"], "JSON object"),
        (["{folder}", "--collection", "demo", "--metadata", "{"], "JSON object"),
        (["{folder}/a", "{folder}/b", "--collection", "demo"], "would both be the document"),
        (["{folder}"], "--collection"),
    ],
)
def test_wrong_use_is_exit_2_and_nothing_is_sent(
    stub: Stub, folder: Path, arguments: list[str], words: str
) -> None:
    result = command("ingest", *[argument.replace("{folder}", str(folder)) for argument in arguments])
    assert result.exit_code == 2
    assert words in " ".join(result.stderr.replace("│", " ").split())
    assert not stub.uploads


def test_the_same_file_twice_is_one_document(stub: Stub, folder: Path) -> None:
    file = str(folder / "a" / "notes.txt")
    assert command("ingest", file, file, str(folder / "a"), "--collection", "demo").exit_code == 0
    assert [key for key, _ in stub.uploads] == ["notes.txt"]


def test_odd_names_and_kinds_of_files_are_survived(stub: Stub, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.txt")
    (tmp_path / "dangling.txt").symlink_to(tmp_path / "nowhere")
    (tmp_path / "folder.txt").mkdir()
    for raw in (b"caf\xe9.txt", b"caf\xe8.txt", "tiếng việt [bold].txt".encode(), b"a\x1b[31m\nb.txt"):
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + raw)).write_text("text")
    result = program("ingest", str(tmp_path), "--collection", "demo")
    assert result.returncode == 0, result.stderr
    skipped = {Path(line["file"]).name for line in events(result.stdout) if line["event"] == "skipped"}
    assert skipped == {"pipe.txt", "dangling.txt"}
    assert set(stub.forms) == {"caf\\xe9.txt", "caf\\xe8.txt", "tiếng việt [bold].txt", "a\x1b[31m\nb.txt"}


def test_a_terminal_gets_bars_and_no_control_characters_of_names(stub: Stub, tmp_path: Path) -> None:
    (tmp_path / "evil\x1b]0;owned\x07.txt").write_text("text")
    (tmp_path / "corrupt.txt").write_text("text")
    text, code = on_terminal("ingest", str(tmp_path), "--collection", "demo")
    assert code == 1
    assert "1/3 chunks" in text
    assert "3 chunks" in text
    assert "1 ready, 1 failed, 0 skipped; 3 chunks" in text
    assert "\x1b]0;owned" not in text


def test_no_api_is_one_sentence_and_exit_1(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text")
    result = program("ingest", str(tmp_path), "--collection", "demo", "--url", "http://127.0.0.1:1")
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert "http://127.0.0.1:1 can't be used" in result.stderr
    assert "embedfleet up" in result.stderr


def test_two_spellings_of_one_name_would_be_one_document(tmp_path: Path) -> None:
    for spelling in ("NFC", "NFD"):
        (tmp_path / unicodedata.normalize(spelling, "Báo cáo.txt")).write_text(spelling)
    with pytest.raises(InvalidRequest, match=r"would both be the document 'Báo cáo\.txt'"):
        select([tmp_path])
