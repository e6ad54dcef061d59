"""Main memory: of the machine, of the container (cgroup v2 or v1), and of the limit that is set.

Three bounds hold at once and the tightest counts. Linux only; a file that is missing bounds nothing.
"""

import os
from pathlib import Path

_NO_LIMIT = 1 << 62  # v1 says "no limit" as a number of about 2**63
# Limit, usage, and of what is used that which the kernel takes back before it kills. Files that were read
# twice are active, and no less clean: without them a container that has read its model looks full.
_Names = tuple[str, str, tuple[str, ...]]
_V2: _Names = ("memory.max", "memory.current", ("inactive_file", "active_file", "slab_reclaimable"))
_V1: _Names = (
    "memory.limit_in_bytes",
    "memory.usage_in_bytes",
    ("total_inactive_file", "total_active_file"),
)
_RESET_PEAK = b"5"  # proc(5), clear_refs


class CpuDevice:
    """The memory that this process may use.

    Made after the model is loaded and has given its idle memory back: what is held then is never idle.

    Args:
        limit: most bytes that this process may hold (FLEET_MEMORY_LIMIT); None: no such limit.
        root: where the file system begins; a test gives another.
    """

    def __init__(self, limit: int | None = None, root: Path = Path("/")) -> None:
        self._limit = limit
        self._root = root
        self._groups = _groups(root)
        self._at_first = self._at_rest = self._own()
        self._has_peak = False

    def total(self) -> int:
        """Return the tightest of the bounds."""
        bounds = [self._meminfo().get("MemTotal", 0), *(group.limit() for group in self._groups)]
        return min(bound for bound in [*bounds, self._limit or 0, _NO_LIMIT] if bound > 0)

    def free(self) -> int:
        """Return what is left of the tightest bound; memory that only caches files is left."""
        left = [group.left() for group in self._groups]
        if (available := self._meminfo().get("MemAvailable")) is not None:
            left.append(available)
        if self._limit is not None:
            left.append(self._limit - self.resident())
        return max(0, min(left, default=_NO_LIMIT))

    def reserved(self) -> int:
        """Return what this process holds beyond what it held when idle memory was last given back.

        That is its allocator's arena; tasks' texts, which are no memory for a batch, are in it only until
        they are still held after the next time. Pages of files are not: they count as free already. What the
        arena holds beyond the limit is not for use again.
        """
        held, files = self._held()
        own = held - files
        allowed = _NO_LIMIT if self._limit is None else max(0, self._limit - files - self._at_rest)
        return min(allowed, max(0, own - self._at_rest))

    def settle(self) -> None:
        """Learn that idle memory was given back: what is still held is not idle."""
        self._at_rest = self._own()

    def grown(self) -> int:
        """Return what this process holds and can't give back, beyond what it held when this was made.

        OpenVINO keeps buffers, which its next batch uses again, and an allocator keeps pages that hold a few
        bytes of a task: 47 MB after 4,000 rows. Waiting frees neither.
        """
        return max(0, self._at_rest - self._at_first)

    def restart_peak(self) -> None:
        """Let `peak` begin anew; where the kernel doesn't allow that, it is what is held when it is asked."""
        self._has_peak = False
        try:
            handle = os.open(self._root / "proc/self/clear_refs", os.O_WRONLY)
        except OSError:
            return
        try:
            self._has_peak = os.write(handle, _RESET_PEAK) == len(_RESET_PEAK)
        except OSError:
            return
        finally:
            os.close(handle)

    def peak(self) -> int:
        """Return the most bytes that this process held since `restart_peak`; the limit doesn't bound it."""
        peak = self._kilobytes("proc/self/status").get("VmHWM", 0) if self._has_peak else 0
        return peak or self.resident()

    def resident(self) -> int:
        """Return what this process holds now."""
        return self._held()[0]

    def _own(self) -> int:
        """Return what this process holds now, pages of files and memory shared with others left out."""
        held, files = self._held()
        return held - files

    def _held(self) -> tuple[int, int]:
        """Return all that this process holds now, and how much of that is of files or shared."""
        words = _text(self._root / "proc/self/statm").split()
        page = os.sysconf("SC_PAGE_SIZE")  # 4 KiB on x86-64; 16 or 64 with some kernels of arm64
        return (int(words[1]) * page, int(words[2]) * page) if words else (0, 0)

    def _meminfo(self) -> dict[str, int]:
        return self._kilobytes("proc/meminfo")

    def _kilobytes(self, name: str) -> dict[str, int]:
        """Return the lines of a file like /proc/meminfo that are in kB, in bytes."""
        lines = _text(self._root / name).splitlines()
        return {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.endswith("kB")}


class _Group:
    """One cgroup with a memory limit."""

    def __init__(self, folder: Path, names: _Names) -> None:
        self._folder = folder
        self._limit_name, self._usage_name, self._cache_names = names

    def limit(self) -> int:
        """Return its bytes; 0: none."""
        text = _text(self._folder / self._limit_name).strip()
        return int(text) if text.isdecimal() and int(text) < _NO_LIMIT else 0

    def left(self) -> int:
        """Return the bytes up to the limit; what only caches files is left too."""
        used = int(_text(self._folder / self._usage_name).strip() or 0)
        stat = dict(line.split() for line in _text(self._folder / "memory.stat").splitlines())
        return self.limit() - used + sum(int(stat.get(name, 0)) for name in self._cache_names)


def _groups(root: Path) -> list[_Group]:
    """Return each cgroup with a limit, from this process's own up to the root of what can be seen.

    In a container its own group is usually shown as the root; then the path in /proc/self/cgroup leads
    nowhere, and the root is what is found.
    """
    found: list[_Group] = []
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        top, names = root / "sys/fs/cgroup" / controllers, _V1 if controllers else _V2
        own = top / path.strip("/")
        folders = [own, *own.parents]
        for folder in folders[: folders.index(top) + 1]:
            group = _Group(folder, names)
            if group.limit():
                found.append(group)
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text("ascii")
    except OSError:
        return ""
