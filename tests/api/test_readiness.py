"""The readiness check by itself: whatever is wrong with a dependency, the others are told, too."""

from types import SimpleNamespace
from typing import Any, cast

import anyio
import pytest

from embedfleet.api import ops
from embedfleet.api.dependencies import Services
from embedfleet.contracts.errors import DependencyDown


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (DependencyDown("Redis", "here", "gone"), "Redis at here"),
        (ValueError("secret"), "ValueError: the log"),
    ],
)
def test_a_check_that_breaks_is_a_problem_and_stops_nothing(error: Exception, said: str) -> None:
    def refuse() -> None:
        raise error

    fine: Any = lambda *_: None  # noqa: E731
    services = SimpleNamespace(
        ledger=SimpleNamespace(ping=refuse),
        blobs=SimpleNamespace(check=fine),
        store=SimpleNamespace(ping=fine),
        encoder=SimpleNamespace(encode=fine),
    )
    readiness = anyio.run(ops.check, cast("Services", services))
    assert readiness.status == "unavailable"
    assert readiness.checks["redis"].startswith(said)
    assert "secret" not in readiness.model_dump_json()
    assert [readiness.checks[name] for name in ("blobs", "qdrant", "encoder")] == ["ok"] * 3
