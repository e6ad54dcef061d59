"""kill -9 in the middle of a long document: READY after the restart, exactly the expected points."""

import os
import signal
from pathlib import Path

import pytest

from tests.e2e.fleet import EXAMPLES, Fleet, until

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("fleet")]

HANDBOOK = EXAMPLES / "ferry-operations-handbook.pdf"


def expected_points(fleet: Fleet) -> int:
    whole = fleet.upload(HANDBOOK, "whole")
    return int(fleet.ended(whole["document_id"])["progress"]["total"])


def kill(fleet: Fleet, member: str) -> None:
    victim = fleet.pid(member)
    os.kill(victim, signal.SIGKILL)
    until(lambda: fleet.pid(member) != victim, f"{member} is started anew")


def test_kill_of_the_embedding_worker_while_it_embeds(fleet: Fleet) -> None:
    expected = expected_points(fleet)
    answer = fleet.upload(HANDBOOK, "killed-embedding")
    until(lambda: fleet.document(answer["document_id"])["state"] == "EMBEDDING", "it is being embedded")
    kill(fleet, "embeddings")
    document = fleet.ended(answer["document_id"])
    assert (document["state"], document["progress"]["total"]) == ("READY", expected)
    assert fleet.points("killed-embedding") == expected


def test_kill_of_the_document_worker_while_it_parses(fleet: Fleet, tmp_path: Path) -> None:
    expected = expected_points(fleet)
    answer = fleet.upload(HANDBOOK, "killed-parsing")
    until(lambda: fleet.document(answer["document_id"])["state"] == "PARSING", "it is being parsed")
    children = fleet.tree("documents")[1:]
    kill(fleet, "documents")
    document = fleet.ended(answer["document_id"])
    assert (document["state"], document["progress"]["total"]) == ("READY", expected)
    assert fleet.points("killed-parsing") == expected
    assert [child for child in children if child.is_running() and child.status() != "zombie"] == []
