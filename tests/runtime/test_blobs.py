import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from embedfleet.contracts.errors import DependencyDown, NotFound
from embedfleet.runtime import blobs as module
from embedfleet.runtime.blobs import Blobs


def test_what_is_put_is_got(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    blobs.put("a/b/c", iter([b"one", b"two"]))
    assert blobs.get("a/b/c") == b"onetwo"
    blobs.put("a/b/c", b"three")
    assert blobs.get("a/b/c") == b"three"
    assert list(blobs.keys("a")) == ["a/b/c"]


def test_a_write_that_breaks_off_leaves_the_old_blob_and_no_litter(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    blobs.put("a/b", b"old")

    def pieces():
        yield b"new"
        raise ConnectionResetError

    with pytest.raises(DependencyDown):
        blobs.put("a/b", pieces())
    assert blobs.get("a/b") == b"old"
    assert os.listdir(tmp_path / "a") == ["b"]


def test_a_writer_killed_in_the_middle_leaves_nothing_to_be_seen(tmp_path: Path) -> None:
    script = """
import os, signal, sys
from embedfleet.runtime import blobs as module
from embedfleet.runtime.blobs import Blobs
def pieces():
    yield b"half"
    os.kill(os.getpid(), signal.SIGKILL)
Blobs(sys.argv[1]).put("a/b", pieces())
"""
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False, timeout=60)
    assert list(Blobs(tmp_path).keys("")) == []
    with pytest.raises(NotFound):
        Blobs(tmp_path).get("a/b")


def test_delete_prunes_empty_folders_and_is_repeatable(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    blobs.put("chunks/t/d/1/0", b"x")
    blobs.put("chunks/t/d/2/0", b"y")
    blobs.delete_folder("chunks/t/d/1")
    assert blobs.folders("chunks/t/d") == ["2"]
    blobs.delete_folder("chunks/t/d/2")
    blobs.delete("chunks/t/d/2/0")
    assert blobs.folders("chunks") == []


@pytest.mark.parametrize("key", ["../outside", "a/../../outside", "/etc/passwd"])
def test_a_key_never_leaves_the_folder(tmp_path: Path, key: str) -> None:
    with pytest.raises(ValueError, match="leaves the folder"):
        Blobs(tmp_path / "blobs").put(key, b"x")


def test_a_folder_that_cannot_be_written_is_a_dependency_down(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DependencyDown, match="Blob folder"):
        Blobs(tmp_path / "file").check()


@pytest.mark.parametrize("skew", [-7200, 7200])
def test_ages_are_told_by_the_clock_of_the_disk(
    tmp_path: Path, skew: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.time, "time", lambda real=time.time: real() - skew)
    blobs = Blobs(tmp_path)
    blobs.put("a/b", b"x")
    assert -1 <= blobs.age("a/b") < 60
    assert list(blobs.keys("")) == ["a/b"]
    assert os.listdir(tmp_path) == ["a"]
    (tmp_path / "a" / ".new-left").touch()
    blobs.sweep_unfinished(3600)
    assert (tmp_path / "a" / ".new-left").exists()
    os.utime(tmp_path / "a" / ".new-left", (1, 1))
    blobs.sweep_unfinished(3600)
    assert os.listdir(tmp_path / "a") == ["b"]


def test_in_a_folder_that_takes_no_file_ages_are_told_by_our_own_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs = Blobs(tmp_path)
    blobs.put("a", b"x")

    def refuse(**_: object) -> None:
        raise OSError

    monkeypatch.setattr(module.tempfile, "mkstemp", refuse)
    assert -1 <= blobs.age("a") < 60
    assert blobs.age("gone") == 0


def test_a_key_names_a_file_in_the_folder_whatever_is_there(tmp_path: Path) -> None:
    assert Blobs(tmp_path).path("uploads/tài liệu..txt") == tmp_path.resolve() / "uploads/tài liệu..txt"
