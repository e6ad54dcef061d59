"""Python runs this in each process of the silent fleet: counting and logging do nothing there.

The app has no such switch: nobody would run it blind to save what this measures.
"""

import logging
from typing import Any

from prometheus_client import Counter, Gauge, Histogram


def _nothing(*_: Any, **__: Any) -> None: ...


def _itself(metric: Any, *_: Any, **__: Any) -> Any:
    return metric


logging.disable(logging.CRITICAL)
for kind, methods in {
    Counter: ("inc",),
    Gauge: ("set", "inc", "dec", "set_function"),
    Histogram: ("observe",),
}.items():
    setattr(kind, "labels", _itself)  # noqa: B010 — to mypy it is a method
    for method in methods:
        setattr(kind, method, _nothing)
