from types import SimpleNamespace

import pytest

from embedfleet.contracts.errors import DependencyDown
from embedfleet.embeddings import tasks


def test_the_pool_asks_for_the_device_s_memory_before_it_claims(monkeypatch: pytest.MonkeyPatch) -> None:
    def check() -> None:
        raise DependencyDown("memory", "cuda", "others hold it")

    monkeypatch.setattr(
        tasks, "_engine", SimpleNamespace(lane=SimpleNamespace(outages=SimpleNamespace(check=check))), False
    )
    room = tasks._worker._dependencies[-1]
    with pytest.raises(DependencyDown, match="others hold it"):
        room()
