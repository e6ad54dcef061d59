"""`status`, `revoke`, `search`, `up`: what they print, and how they fail."""

import json
import os
import shlex
import socket
import subprocess
from pathlib import Path

import pytest
from commands import PROGRAM, command, events, on_terminal, program
from stub_api import Stub

from embedfleet.cli.client import find_url
from embedfleet.contracts.errors import ConfigurationError
from embedfleet.local.datadir import DataDir, FleetState


def hit(text: str) -> dict[str, object]:
    return {
        "score": 0.5,
        "text": text,
        "document_id": "d",
        "filename": "a.txt",
        "chunk_index": 0,
        "page": None,
    }


def test_the_overview_counts_tasks_by_state_and_queue(stub: Stub) -> None:
    (line,) = events(command("status").stdout)
    assert line["tasks"]["SUCCESS"] == 7
    assert line["unfinished"] == {"documents": 1, "embeddings": 0}
    assert line["unfinished_is_complete"] is True


def test_the_overview_on_a_terminal_ends_no_line_with_blanks(stub: Stub) -> None:
    shown, code = on_terminal("status")
    assert code == 0
    assert "documents: 1 unfinished\r\n" in shown
    assert not [line for line in shown.splitlines() if line != line.rstrip()]


def test_status_finds_tasks_and_documents(stub: Stub, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text")
    command("ingest", str(tmp_path), "--collection", "demo")
    identifier = stub.forms["a.txt"]["id"]
    assert events(command("status", f"task-{identifier}").stdout)[0]["document"]["state"] == "READY"
    assert events(command("status", identifier).stdout)[0]["id"] == identifier


def test_an_unknown_id_is_a_sentence(stub: Stub) -> None:
    result = command("status", "nothing")
    assert result.exit_code == 1
    assert result.stderr == "embedfleet: there is no task or document nothing [not_found]\n"


@pytest.mark.parametrize("identifier", ["../../metrics", "a b", "?x=1", "é"])
def test_what_can_not_be_an_id_is_wrong_use(stub: Stub, identifier: str) -> None:
    assert command("status", identifier).exit_code == 2
    assert command("revoke", identifier).exit_code == 2


def test_revoke_says_what_the_api_says(stub: Stub) -> None:
    done = command("revoke", "task-1")
    assert (done.exit_code, json.loads(done.stdout)["message"]) == (0, "revoke of task-1")
    assert command("revoke", "done").exit_code == 1


def test_search_prints_a_hit_a_line(stub: Stub) -> None:
    stub.hits = [hit("first"), hit("second")]
    result = command("search", "what?", "--collection", "demo", "--limit", "2", "--document", "d")
    assert [line["text"] for line in events(result.stdout)] == ["first", "second"]
    assert stub.searches == [
        {"collection": "demo", "query": "what?", "limit": 2, "filter": {"document_ids": ["d"]}}
    ]


def test_no_hits_is_said_on_stderr(stub: Stub) -> None:
    result = command("search", "what?", "--collection", "demo")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "no hits\n")


def test_a_problem_of_the_api_is_one_sentence(stub: Stub) -> None:
    result = command("search", "what?", "--collection", "absent")
    assert (result.exit_code, result.stderr) == (1, "embedfleet: no such collection [not_found]\n")


def test_another_server_is_not_mistaken_for_the_api(stub: Stub) -> None:
    result = command("search", "what?", "--collection", "demo", "--url", f"{stub.url}/docs#")
    assert result.exit_code == 1
    assert "embedfleet: " in result.stderr


def test_a_key_that_can_not_be_sent_is_not_printed(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEET_API_KEY", "hush\nhush")
    result = command("status")
    assert result.exit_code == 1
    assert "FLEET_API_KEY" in result.stderr
    assert "hush" not in result.stdout + result.stderr


def test_a_variable_that_is_not_allowed_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    result = program(
        "up",
        "--port",
        "0",
        "--data-dir",
        str(tmp_path),
        FLEET_MODEL_REVISION="sesame",
        QDRANT_URL="x",
        CELERY_BROKER_URL="redis://127.0.0.1:1/0",
    )
    assert result.returncode == 1
    assert "FLEET_MODEL_REVISION" in result.stderr
    assert "Traceback" not in result.stderr
    assert "sesame" not in result.stderr


def test_the_address_is_the_option_then_the_variable_then_the_fleet_here(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FLEET_DATA_DIR", str(tmp_path))
    monkeypatch.delenv("FLEET_URL", raising=False)
    assert find_url("") == "http://127.0.0.1:8000"
    lock = DataDir(tmp_path).claim()
    DataDir(tmp_path).publish(FleetState(os.getpid(), "http://127.0.0.1:9", "", ""))
    assert find_url("") == "http://127.0.0.1:9"
    os.close(lock)
    assert find_url("") == "http://127.0.0.1:8000"
    monkeypatch.setenv("FLEET_URL", "https://fleet.example/")
    assert find_url("") == "https://fleet.example"
    assert find_url("http://other:1/api/v1") == "http://other:1"


@pytest.mark.parametrize(
    "url",
    ["localhost:8000", "http://", "http://[::1", "http://h:abc", "http://h:99999", "http://h:0", "ftp://h"],
)
def test_what_is_no_address_is_a_sentence(url: str) -> None:
    with pytest.raises(ConfigurationError, match="must look like"):
        find_url(url)


def test_a_busy_port_is_a_sentence_with_the_fix(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        result = program("up", "--port", str(port), "--data-dir", str(tmp_path))
    assert result.returncode == 1
    assert f"port {port} is in use" in result.stderr
    assert f"embedfleet up --port {port + 1}" in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "fleet.json").exists()


def test_the_port_is_the_variable_s_unless_it_is_given(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = str(busy.getsockname()[1])
        result = program("up", "--data-dir", str(tmp_path), FLEET_PORT=port)
        assert (result.returncode, f"port {port} is in use" in result.stderr) == (1, True)
        given = program("up", "--port", port, "--data-dir", str(tmp_path), FLEET_PORT="1")
        assert f"port {port} is in use" in given.stderr
    wrong = program("up", "--data-dir", str(tmp_path), FLEET_PORT="many")
    assert (wrong.returncode, "FLEET_PORT" in wrong.stderr) == (2, True)


def test_blobs_that_can_not_be_written_are_a_sentence(tmp_path: Path) -> None:
    result = program("up", "--port", "0", "--data-dir", str(tmp_path), FLEET_BLOB_URL="/proc/blobs")
    assert result.returncode == 1
    assert "FLEET_BLOB_URL /proc/blobs can't be written" in result.stderr
    assert result.stderr.count("\n") == 1
    assert not list((tmp_path / "logs").iterdir()), "nothing was started"


def test_a_held_data_folder_is_a_sentence(tmp_path: Path) -> None:
    lock = DataDir(tmp_path).claim()
    try:
        result = program("up", "--port", "0", "--data-dir", str(tmp_path))
    finally:
        os.close(lock)
    assert result.returncode == 1
    assert f"process id {os.getpid()}" in result.stderr


def test_no_arguments_shows_the_help() -> None:
    result = program()
    assert result.returncode == 2
    assert "ingest" in result.stdout + result.stderr


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("", "asks for an API key: set FLEET_API_KEY"),
        ("wrong", "doesn't know the key in FLEET_API_KEY: set FLEET_API_KEY to one that it has"),
    ],
)
def test_without_a_right_key_the_variable_is_named(
    stub: Stub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, key: str, said: str
) -> None:
    stub.wanted_key = "right"
    monkeypatch.setenv("FLEET_API_KEY", key)
    (tmp_path / "a.txt").write_text("text")
    for arguments in (
        ["status"],
        ["search", "x", "--collection", "c"],
        ["ingest", str(tmp_path), "--collection", "c"],
    ):
        result = command(*arguments)
        assert result.exit_code == 1
        assert result.stderr.splitlines()[-1] == f"embedfleet: the API at 127.0.0.1 {said} [unauthorized]"
    monkeypatch.setenv("FLEET_API_KEY", "right")
    assert command("status").exit_code == 0


def test_a_reader_that_leaves_early_is_no_error_of_ours(stub: Stub) -> None:
    stub.hits = [hit("x" * 10_000)] * 100
    ends = subprocess.run(
        f"{shlex.join(PROGRAM)} search q --collection demo --limit 100 | head -c 10",
        shell=True,
        capture_output=True,
        text=True,
    )
    assert len(ends.stdout) == 10
    assert ends.stderr == ""
