import errno
import os
import time
from pathlib import Path

import pytest

from embedfleet.contracts.errors import DependencyDown
from embedfleet.runtime.blobs import Blobs
from embedfleet.runtime.blobs import folder as module
from embedfleet.runtime.blobs.folder import Folder


def test_a_write_that_breaks_off_leaves_no_litter_on_the_disk(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)

    def pieces():
        yield b"new"
        raise ConnectionResetError

    with pytest.raises(DependencyDown):
        blobs.put("a/b", pieces())
    assert os.listdir(tmp_path / "a") == []


def test_delete_prunes_empty_folders(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    blobs.put("chunks/t/d/1/0", b"x")
    blobs.delete_folder("chunks/t/d")
    assert os.listdir(tmp_path) == ["chunks"]
    assert os.listdir(tmp_path / "chunks") == []


def test_a_file_for_a_reader_is_the_blob_itself(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    blobs.put("a", b"x")
    with blobs.file("a", limit=0) as path:
        assert path == tmp_path / "a"


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


def test_a_file_whose_age_the_disk_refuses_to_tell_is_listed_as_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Folder(tmp_path)
    for key in ("a/bad", "a/good"):
        folder.put(key, [b"x"])
    os.utime(tmp_path / "a" / "good", (0, 0))
    age = folder._age

    def told(path: Path) -> float:
        if path.name == "bad":
            raise OSError(errno.EIO, "Input/output error")
        return age(path)

    monkeypatch.setattr(folder, "_age", told)
    found = dict(folder.ages("a"))
    assert found["a/bad"] == 0.0
    assert found["a/good"] > 1e9


@pytest.mark.parametrize("error", [FileNotFoundError, FileExistsError])
def test_folders_that_another_process_removes_meanwhile_are_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[OSError]
) -> None:
    failures, make = [error()] * 2, module._make_folders

    def racing(folder: Path) -> None:
        if failures:
            raise failures.pop()
        make(folder)

    monkeypatch.setattr(module, "_make_folders", racing)
    blobs = Blobs(tmp_path)
    blobs.put("uploads/t/d/1.txt", b"x")
    assert blobs.get("uploads/t/d/1.txt") == b"x"


def test_a_disk_that_does_not_tell_whether_there_is_a_blob_is_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs, stat = Blobs(tmp_path), Path.stat

    def refuse(path: Path, **options: bool) -> os.stat_result:
        if path.is_relative_to(tmp_path):
            raise OSError(errno.ESTALE, "stale")
        return stat(path, **options)

    monkeypatch.setattr(Path, "stat", refuse)
    for ask in (lambda: blobs.exists("a"), blobs.free_bytes):
        with pytest.raises(DependencyDown, match="stale"):
            ask()
