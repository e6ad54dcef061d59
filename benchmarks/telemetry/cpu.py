"""CPU seconds of a tree of processes, as Linux counts them."""

import os
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def seconds(root: int) -> float:
    """Return what a process, its descendants, and those of them that have ended used so far.

    Args:
        root: id of the process.
    """
    fields = {
        pid: stat
        for path in Path("/proc").glob("[0-9]*")
        if (stat := _stat(path)) and (pid := int(path.name))
    }
    tree, waiting = set[int](), [root]
    while waiting:
        tree.add(parent := waiting.pop())
        waiting.extend(pid for pid, stat in fields.items() if int(stat[1]) == parent)
    # User and system time, its own and that of the children that it has waited for.
    return sum(sum(map(int, fields[pid][11:15])) for pid in tree if pid in fields) / TICKS


def _stat(process: Path) -> list[str]:
    """Return the fields of a process after its name, of which the first is its state."""
    try:
        return (process / "stat").read_text("ascii", "replace").rpartition(")")[2].split()
    except OSError:
        return []
