import json
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from embedfleet.api.http.openapi import text

CHECKED_IN = Path(__file__).parents[2] / "docs" / "openapi.json"


def test_checked_in_description_is_in_step() -> None:
    assert CHECKED_IN.read_text("utf-8") == text(), (
        "run `python -m embedfleet.api.http.openapi > docs/openapi.json`"
    )


def test_every_route_describes_its_errors_as_problems() -> None:
    schema = json.loads(text())
    paths = schema["paths"]
    assert set(paths) == {
        "/api/v1/documents/upload",
        "/api/v1/documents/",
        "/api/v1/documents/{document_id}",
        "/api/v1/collections/{name}",
        "/api/v1/tasks/",
        "/api/v1/tasks/{task_id}",
        "/api/v1/tasks/{task_id}/revoke",
        "/api/v1/queues/",
        "/api/v1/search",
        "/livez",
        "/readyz",
        "/metrics",
    }
    for path, operations in paths.items():
        for operation in operations.values():
            assert operation["description"]
            if path.startswith("/api"):
                assert {"401", "422", "503"} <= set(operation["responses"])
                assert operation["security"]
            for status, response in operation["responses"].items():
                if status >= "400" and path != "/readyz":
                    assert set(response["content"]) == {"application/problem+json"}
    assert "Problem" in schema["components"]["schemas"]
    assert "HTTPValidationError" not in json.dumps(schema)


def test_server_serves_its_description(alpha: httpx.Client) -> None:
    assert alpha.get("/openapi.json").json() == json.loads(text())
    assert alpha.get("/docs").status_code == 200


def test_metrics_count_by_route_template_and_status(alpha: httpx.Client) -> None:
    alpha.get("/api/v1/tasks/some-id")
    alpha.get("/made-up/path")
    exposition = alpha.get("/metrics").text
    families = {family.name: family for family in text_string_to_metric_families(exposition)}
    counted = {
        (sample.labels["method"], sample.labels["route"], sample.labels["status"])
        for sample in families["fleet_http_requests"].samples
        if sample.name == "fleet_http_requests_total"
    }
    assert ("GET", "/api/v1/tasks/{task_id}", "404") in counted
    assert ("GET", "unmatched", "404") in counted
    assert "some-id" not in exposition
    assert "made-up" not in exposition
    assert "fleet_http_request_seconds" in families
