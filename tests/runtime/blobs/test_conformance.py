"""What every place for blobs does: a folder, and a bucket on a server that speaks S3's protocol."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from pydantic import BaseModel

from embedfleet.contracts.errors import DependencyDown, NotFound
from embedfleet.runtime.blobs import Blobs

VIETNAMESE = "Tàu thủy rời bến lúc chín giờ, thuyền trưởng rung chuông. ".encode()
# Parts of a multipart upload are 5 MiB: these are none, exactly one, and the last not full.
SIZES = [0, 1, 5 << 20, (11 << 20) + 7]


class Note(BaseModel):
    text: str


@pytest.fixture(params=["folder", "bucket"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "folder":
        return str(tmp_path / "blobs")
    found: str = request.getfixturevalue("bucket_url")
    return found


@pytest.fixture
def many(url: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many blobs are more than a list of the store shows at once, which a folder's does anyhow."""
    if "://" not in url:
        return 11
    # A page is a thousand, the server's and ours; that many requests would take seconds.
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "100")
    monkeypatch.setattr("embedfleet.runtime.blobs.bucket.PAGE_KEYS", 100)
    return 211


@pytest.fixture
def blobs(url: str) -> Blobs:
    return Blobs(url)


def pieces(size: int) -> Iterator[bytes]:
    """Yield bytes that tell their place, in uneven pieces."""
    text = b"".join(b"%08x" % number for number in range(size // 8 + 1))[:size]
    yield from (text[at : at + 700_001] for at in range(0, size, 700_001))


@pytest.mark.parametrize("size", SIZES)
def test_what_is_put_is_got_and_in_a_file_whatever_its_size(blobs: Blobs, size: int) -> None:
    expected = b"".join(pieces(size))
    blobs.put("a/b/c.pdf", pieces(size))
    assert blobs.get("a/b/c.pdf") == expected
    with blobs.file("a/b/c.pdf", limit=size) as path:
        assert path.read_bytes() == expected
        assert path.read_bytes() == expected  # it may be opened again


def test_a_second_put_takes_the_place_of_the_first(blobs: Blobs) -> None:
    blobs.put("a", b"one")
    blobs.put("a", VIETNAMESE)
    assert blobs.get("a") == VIETNAMESE
    assert list(blobs.keys("")) == ["a"]


def test_what_is_not_there_is_not_found(blobs: Blobs) -> None:
    with pytest.raises(NotFound) as caught:
        blobs.get("pending/none")
    assert caught.value.code == "no_blob"
    assert not blobs.exists("pending/none")
    assert blobs.age("pending/none") == 0
    assert blobs.read(Note, "pending/none") is None
    assert blobs.folders("pending") == list(blobs.keys("pending")) == list(blobs.ages("pending")) == []
    blobs.delete("pending/none")
    blobs.delete_folder("pending")
    blobs.move("pending/none", "pending/other")
    assert list(blobs.keys("")) == []


@pytest.mark.parametrize("size", [1, 12 << 20])
@pytest.mark.parametrize("kind", [ValueError, ConnectionResetError])
def test_a_write_that_breaks_off_leaves_the_old_blob_and_no_litter(
    blobs: Blobs, size: int, kind: type[Exception]
) -> None:
    blobs.put("a/b", b"old")

    def broken() -> Iterator[bytes]:
        yield from pieces(size)
        raise kind

    with pytest.raises(DependencyDown if kind is ConnectionResetError else kind):
        blobs.put("a/b", broken())
    assert blobs.get("a/b") == b"old"
    assert list(blobs.keys("")) == ["a/b"]


@pytest.mark.parametrize("size", [1, 12 << 20])
def test_a_writer_killed_in_the_middle_leaves_the_old_blob(url: str, size: int) -> None:
    Blobs(url).put("a/b", b"old")
    script = """
import os, signal, sys
from embedfleet.runtime.blobs import Blobs
def pieces():
    yield bytes(int(sys.argv[2]))
    os.kill(os.getpid(), signal.SIGKILL)
Blobs(sys.argv[1]).put("a/b", pieces())
"""
    done = subprocess.run([sys.executable, "-c", script, url, str(size)], check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert Blobs(url).get("a/b") == b"old"
    assert list(Blobs(url).keys("")) == ["a/b"]


def test_a_reader_gets_one_version_or_is_told_to_ask_again(blobs: Blobs) -> None:
    size = 11 << 20
    blobs.put("a", b"0" * size)
    reading = blobs.pieces("a")
    seen = [next(reading)]
    blobs.put("a", b"1" * size)
    with suppress(DependencyDown):
        seen += reading
        assert sum(map(len, seen)) == size
    assert {byte for piece in seen for byte in piece} == {ord("0")}
    assert blobs.get("a") == b"1" * size


def test_lists_are_whole_beyond_a_page(blobs: Blobs, many: int) -> None:
    expected = {f"pending/task-{number:04}" for number in range(many)}
    for key in expected:
        blobs.put(key, b"x")
    blobs.put("pending-not/x", b"x")
    found = list(blobs.keys("pending"))
    assert len(found) == many
    assert set(found) == expected == {key for key, _ in blobs.ages("pending")}
    assert sorted(blobs.folders("pending")) == []
    blobs.delete_folder("pending")
    assert list(blobs.keys("pending")) == []
    assert blobs.exists("pending-not/x")


def test_folders_are_whole_beyond_a_page(blobs: Blobs, many: int) -> None:
    for number in range(many):
        blobs.put(f"chunks/t/document-{number:04}/1/0", b"x")
    blobs.put("chunks/t/file", b"x")
    assert sorted(blobs.folders("chunks/t")) == [f"document-{number:04}" for number in range(many)]
    assert blobs.folders("chunks") == ["t"]


def test_what_is_deleted_while_it_is_listed_hides_nothing_else(blobs: Blobs, many: int) -> None:
    for number in range(many):
        blobs.put(f"revoked/{number:04}", b"x")
    for key in blobs.keys("revoked"):
        blobs.delete(key)
    assert list(blobs.keys("revoked")) == []


def test_a_folder_whose_last_blob_is_deleted_is_no_folder(blobs: Blobs) -> None:
    blobs.put("chunks/t/d/1/0", b"x")
    blobs.put("chunks/t/d/2/0", b"y")
    blobs.put("chunks/t/d/2/1", b"z")
    blobs.put("chunks/t/d2/1/0", b"of another document")
    blobs.delete_folder("chunks/t/d/1")
    assert blobs.folders("chunks/t/d") == ["2"]
    blobs.delete_folder("chunks/t/d")
    blobs.delete("chunks/t/d/2/0")
    assert blobs.folders("chunks/t") == ["d2"]


@pytest.mark.parametrize(
    "key",
    ["../outside", "a/../../outside", "a/..", "/etc/passwd", "", ".", "a//b", "a/./b", "a/", "a\0b"],
)
def test_a_key_never_leaves_its_place(blobs: Blobs, key: str) -> None:
    calls = [blobs.get, blobs.exists, blobs.delete, blobs.age, blobs.folders]
    calls += [lambda key: blobs.put(key, b"x"), lambda key: blobs.file(key, 1).__enter__()]
    if key:
        calls += [lambda key: list(blobs.keys(key)), lambda key: list(blobs.ages(key)), blobs.delete_folder]
    for call in calls:
        with pytest.raises(ValueError, match="leaves the store"):
            call(key)
    assert list(blobs.keys("")) == []


@pytest.mark.parametrize("neighbour", ["", "-2", "/deeper"])
def test_neighbours_see_nothing_of_each_other(url: str, blobs: Blobs, neighbour: str) -> None:
    other = Blobs(f"{url}{neighbour}/x" if neighbour == "" else f"{url}{neighbour}")
    blobs.put("deleted/t/c", b"ours")
    other.put("deleted/t/c", b"theirs")
    other.delete_folder("deleted")
    assert blobs.get("deleted/t/c") == b"ours"
    assert list(other.keys("deleted")) == []


def test_what_one_process_writes_the_next_sees(url: str, blobs: Blobs) -> None:
    script = (
        "import sys; from embedfleet.runtime.blobs import Blobs; Blobs(sys.argv[1]).put('a/b', b'theirs')"
    )
    assert not blobs.exists("a/b")
    subprocess.run([sys.executable, "-c", script, url], check=True, timeout=60)
    assert blobs.exists("a/b")
    assert blobs.get("a/b") == b"theirs"


def test_ages_are_told_by_the_clock_of_the_store(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Blobs(url).put("a/b", b"x")
    monkeypatch.setattr(time, "time", lambda real=time.time: real() - 7200)
    blobs = Blobs(url)
    assert -2 < blobs.age("a/b") < 60
    assert [(key, -2 < age < 60) for key, age in blobs.ages("a")] == [("a/b", True)]


def test_check_proves_that_blobs_can_be_written(blobs: Blobs) -> None:
    blobs.check()
    blobs.check()
    assert list(blobs.keys("pending")) == []


def test_a_record_that_can_not_be_read_is_put_aside(blobs: Blobs) -> None:
    blobs.put("revoked/t", '{"text": "thu hồi"}'.encode())
    assert blobs.read(Note, "revoked/t") == Note(text="thu hồi")
    blobs.put("revoked/t", b"{")
    assert blobs.read(Note, "revoked/t") is None
    assert list(blobs.keys("")) == ["damaged/revoked/t"]


def test_a_copy_for_a_reader_leaves_nothing_behind(
    blobs: Blobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    blobs.put("uploads/a", VIETNAMESE)
    with blobs.file("uploads/a", limit=1000) as path:
        assert path.read_bytes() == VIETNAMESE
        assert os.listdir(scratch) == []  # not even a kill -9 would leave it
    assert blobs.get("uploads/a") == VIETNAMESE
