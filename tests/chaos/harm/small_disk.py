"""A disk so small that it can be filled: a tmpfs that Redis writes its append-only file to."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.chaos.stack import Stack, wait_until

SIZE = "48m"
BLOCK = bytes(1 << 16)


class NotAllowed(Exception):
    """This machine or this Redis doesn't let the suite do it; says why."""


@contextmanager
def small_disk(stack: Stack) -> Iterator[Path]:
    """Mount one, have Redis move to it, and move it back at the end.

    Raises:
        NotAllowed: mounting takes rights that this user hasn't, or Redis doesn't move.
    """
    folder = stack.folder / "small-disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
    except OSError as error:
        raise NotAllowed(str(error)) from error
    if done.returncode:
        raise NotAllowed(done.stderr.strip())
    home = stack.client.config_get("dir")["dir"]
    try:
        try:
            _move(stack.client, str(folder))
        except Exception as error:
            raise NotAllowed(f"Redis doesn't move its files: {error}") from error
        yield folder
        _move(stack.client, home)
    finally:
        subprocess.run(["umount", "-l", str(folder)], capture_output=True, check=False)


def fill(folder: Path) -> None:
    """Leave no byte free."""
    with (folder / "ballast").open("wb", buffering=0) as file:
        try:
            while file.write(BLOCK):
                pass
        except OSError:
            return


def free(folder: Path) -> None:
    """Give the space back."""
    (folder / "ballast").unlink(missing_ok=True)


def _move(client: Any, folder: str) -> None:
    client.config_set("appendonly", "no")
    client.config_set("dir", folder)
    client.config_set("appendonly", "yes")

    def written() -> bool:
        info = client.info("persistence")
        return not (info["aof_rewrite_in_progress"] or info["aof_rewrite_scheduled"])

    wait_until(written, f"Redis has its append-only file in {folder}", 30)
