"""CPU seconds of a tree of processes."""

import psutil


def seconds(root: int) -> float:
    """Return what a process, its descendants, and those of them that have ended used so far.

    Args:
        root: id of the process.
    """
    try:
        tree = [process := psutil.Process(root), *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0.0
    return sum(_own(process) for process in tree)


def _own(process: psutil.Process) -> float:
    """Return a process's time, and that of the children that it has waited for."""
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system + times.children_user + times.children_system)
