"""What of this process' mappings is in memory."""

from collections.abc import Callable
from pathlib import Path


def resident(is_one: Callable[[str], bool]) -> list[int]:
    """Return how many kB of each mapping are in memory (Linux).

    Args:
        is_one: says whether a mapping is meant, by the line that heads it in smaps, which ends with its file.
    """
    found, is_its_own = [], False
    for line in Path("/proc/self/smaps").read_text("utf-8").splitlines():
        if not line.split()[0].endswith(":"):
            is_its_own = is_one(line)
        elif is_its_own and line.startswith("Rss:"):
            found.append(int(line.split()[1]))
    return found
