"""A real fleet loses points behind its back: found, repaired, whole again, and shown as a metric."""

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.e2e.fleet import EXAMPLES, Fleet, until

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("fleet")]


def fsck(fleet: Fleet, *arguments: str) -> tuple[int, list[dict[str, Any]]]:
    """Run the command as an operator does: beside the fleet, which it finds by its data folder."""
    env = {
        name: value for name, value in fleet.env.items() if name not in ("CELERY_BROKER_URL", "QDRANT_URL")
    }
    line = [sys.executable, "-m", "embedfleet.cli", "fsck", "--collection", "holed", *arguments]
    done = subprocess.run(line, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode in (0, 1), done.stderr
    return done.returncode, [json.loads(each) for each in done.stdout.splitlines()]


def test_points_that_were_deleted_behind_the_fleets_back_come_back(fleet: Fleet) -> None:
    identifier = fleet.upload(EXAMPLES / "ferry-operations-handbook.pdf", "holed")["document_id"]
    whole = fleet.ended(identifier)["progress"]["total"]
    until(lambda: fsck(fleet)[0] == 0, "the document is settled")
    condition = {"key": "chunk_index", "range": {"lt": 3}}
    path = "/collections/default__holed/points/delete"
    fleet.qdrant.post(
        path, json={"filter": {"must": [condition]}}, params={"wait": "true"}
    ).raise_for_status()
    fleet.qdrant.put(
        "/collections/default__holed/points",
        params={"wait": "true"},
        json={
            "points": [
                {
                    "id": "00000000-0000-4000-8000-000000000001",
                    "vector": [1.0] * 384,
                    "payload": {"document_id": identifier.replace(identifier[0], "0"), "generation": 1,
                                "chunk_index": 0, "model_key": "m"},
                }
            ]
        },
    ).raise_for_status()  # fmt: skip
    # The orphan is found at once, what is missing only then.
    until(
        lambda: "points_missing" in fsck(fleet)[1][-1]["summary"], "the document has been at rest for a lease"
    )
    code, found = fsck(fleet)
    assert (code, found[-1]["summary"]) == (1, {"orphan_points": 1, "points_missing": 1})
    assert fleet.search("ferry", "holed")
    code, repaired = fsck(fleet, "--repair")
    assert (code, repaired[-1]["repaired"]) == (0, {"orphan_points": 1, "points_missing": 1})
    until(lambda: fleet.document(identifier)["generation"] == 2, "it is processed again")
    assert fleet.ended(identifier)["state"] == "READY"
    until(lambda: fleet.points("holed") == whole, "the old generation is gone")
    assert fsck(fleet)[0] == 0


def test_the_fleet_checks_itself(fleet: Fleet) -> None:
    url = f"{fleet.ready['url']}/metrics"

    def last_run() -> float:
        text = fleet.http.get(url).raise_for_status().text
        lines = [each for each in text.splitlines() if each.startswith("fleet_fsck_last_run")]
        return max((float(line.split()[1]) for line in lines), default=0.0)

    until(lambda: last_run() > 0, "the first check has run", 60)
    text = fleet.http.get(url).text
    assert 'fleet_fsck_findings{kind="points_missing"} ' in text
