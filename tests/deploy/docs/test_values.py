"""The page of the chart's values has every one of them."""

import json
import re
from collections.abc import Iterator
from typing import Any

from tests.deploy.chart import CHART
from tests.deploy.docs.snippets import text

SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text("utf-8"))


def test_the_page_has_every_value() -> None:
    rows = set(re.findall(r"(?m)^\| `([\w.]+)` \|.*\| .+ \|$", text("chart")))
    values = {".".join(path) for path in _leaves(SCHEMA)} - {"global"}
    assert {"api.affinity", "blobs.s3.bucket", "poolDefaults.autoscaling.scaleUp.pods"} <= values
    assert values - rows == set()


def _leaves(node: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the path of each value in which the schema names no other."""
    if "$ref" in node:
        node = SCHEMA["$defs"][node["$ref"].rsplit("/", 1)[-1]]
    if "properties" not in node:
        yield path
    for name, child in node.get("properties", {}).items():
        yield from _leaves(child, (*path, name))
