"""Python runs this in each process of the fleet: counting and logging do nothing while the switch is on.

The app has no such switch: nobody would run it blind to save what this measures. To look at the switch costs
the same whether it is on or off. `labels` works in both: what it returns is kept, and counts later.
"""

import logging
import mmap
import os
from collections.abc import Callable
from functools import wraps
from typing import Any

from prometheus_client import Counter, Gauge, Histogram


def _page() -> mmap.mmap:
    with open(os.environ["TELEMETRY_SWITCH"], "rb") as switch:
        return mmap.mmap(switch.fileno(), 1, access=mmap.ACCESS_READ)


_is_silent = _page()


def _unless_silent(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def gated(metric: Any, *args: Any, **named: Any) -> Any:
        return None if _is_silent[0] else method(metric, *args, **named)

    return gated


for kind, names in {Counter: ("inc",), Gauge: ("set", "inc", "dec"), Histogram: ("observe",)}.items():
    for name in names:
        setattr(kind, name, _unless_silent(getattr(kind, name)))

_is_enabled = logging.Logger.isEnabledFor


def _is_heard(logger: logging.Logger, level: int) -> bool:
    return not _is_silent[0] and _is_enabled(logger, level)


setattr(logging.Logger, "isEnabledFor", _is_heard)  # noqa: B010 — to mypy it is a method
