"""`embedfleet rm`: what it deletes, and when it asks first."""

import os
import pty
import subprocess

import pytest
from commands import PROGRAM, command, events
from stub_api import Stub


def test_a_document_is_deleted(stub: Stub) -> None:
    done = command("rm", "some-id", "--yes")
    assert (done.exit_code, events(done.stdout)) == (0, [{"message": "gone: some-id"}])
    assert stub.deleted == ["documents/some-id"]


def test_a_collection_is_deleted(stub: Stub) -> None:
    assert command("rm", "--collection", "demo", "-y").exit_code == 0
    assert stub.deleted == ["collections/demo"]


@pytest.mark.parametrize(
    "arguments",
    [(), ("id", "--collection", "demo"), ("a/b",), ("--collection", "../x"), ("--collection", "")],
)
def test_wrong_use_deletes_nothing(stub: Stub, arguments: tuple[str, ...]) -> None:
    assert command("rm", *arguments, "--yes").exit_code == 2
    assert stub.deleted == []


def test_a_script_has_to_say_yes(stub: Stub) -> None:
    refused = command("rm", "some-id")
    assert refused.exit_code == 2
    assert "--yes" in refused.stderr
    assert stub.deleted == []


def test_an_unknown_document_is_a_sentence(stub: Stub) -> None:
    result = command("rm", "absent", "--yes")
    assert (result.exit_code, result.stderr) == (1, "embedfleet: none [not_found]\n")


@pytest.mark.parametrize(("answer", "deleted"), [(b"n\n", []), (b"y\n", ["collections/demo"])])
def test_on_a_terminal_it_asks(stub: Stub, answer: bytes, deleted: list[str]) -> None:
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(
            [*PROGRAM, "rm", "--collection", "demo"], stdin=theirs, stdout=theirs, stderr=theirs
        )
        os.write(ours, answer)
        code = process.wait(60)
        assert b"Delete all documents of demo?" in os.read(ours, 65_536)
    finally:
        os.close(ours)
        os.close(theirs)
    assert (code, stub.deleted) == (0 if deleted else 1, deleted)
