"""A document that is edited: what stood is copied, what changed is embedded, what went is gone."""

from typing import Any

import pytest

from tests.e2e.fleet import Fleet, until

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("fleet")]

OPTIONS = {"document_key": "log", "chunk_size": "200", "chunk_overlap": "0"}
KEPT = "and the keeper wrote the wind, the tide and the passing ships into the station log before dawn."
NEW = "A pelican with a brass telescope taught the harbour children to play chess."
OLD = "On day 50 the lighthouse lamp burned from dusk"


def upload(fleet: Fleet, text: str, **fields: str) -> tuple[dict[str, Any], dict[str, int]]:
    """Upload under the same key; return the document at its end, and the sums of its tasks' results."""
    answer = fleet.upload(("log.txt", text.encode()), "generations", **OPTIONS, **fields)
    document = fleet.ended(answer["document_id"])
    assert document["state"] == "READY"
    parts = fleet.task(answer["task_id"])["result"]["embedding_task_ids"]
    results = [fleet.task(part)["result"] for part in parts]
    sums = {
        key: sum(result[key] for result in results)
        for key in ("vectors_inserted", "embedded", "reused", "skipped")
    }
    assert sums["vectors_inserted"] == sums["embedded"] + sums["reused"]
    assert sums["vectors_inserted"] + sums["skipped"] == document["progress"]["total"]
    return document, sums


def only_points(fleet: Fleet, count: int) -> None:
    until(lambda: fleet.points("generations") == count, f"{count} points are all there is")


def test_a_document_that_is_edited_is_embedded_only_where_it_changed(fleet: Fleet) -> None:
    days = [f"On day {n} the lighthouse lamp burned from dusk, {KEPT}" for n in range(100)]
    first, sums = upload(fleet, "\n\n".join(days))
    total = first["progress"]["total"]
    assert total == 100
    assert (sums["embedded"], sums["reused"]) == (100, 0)

    days[50] = NEW
    second, sums = upload(fleet, "\n\n".join(days))
    assert (second["id"], second["generation"]) == (first["id"], 2)
    assert sums["reused"] >= 95
    assert 1 <= sums["embedded"] <= 5
    only_points(fleet, second["progress"]["total"])
    assert NEW in fleet.search("a pelican that teaches chess", "generations")[0]["text"]
    assert all(OLD not in hit["text"] for hit in fleet.search(f"{OLD}, {KEPT}", "generations"))
    assert "On day 70 the" in "".join(hit["text"] for hit in fleet.search(days[70], "generations"))

    third, sums = upload(fleet, "\n\n".join(days), metadata='{"season": "winter"}')
    assert (third["generation"], sums["embedded"]) == (3, 0)
    assert fleet.search("a pelican that teaches chess", "generations")[0]["metadata"] == {"season": "winter"}

    fourth, sums = upload(fleet, days[7])
    assert (fourth["progress"]["total"], sums["reused"]) == (1, 1)
    only_points(fleet, 1)
    hits = fleet.search("a pelican that teaches chess", "generations")
    assert [hit["text"] for hit in hits] == [days[7]]
