"""Problems that no route makes itself: unknown routes, wrong methods, what nobody foresaw."""

import logging

import httpx
import pytest
from fastapi.testclient import TestClient

from embedfleet.api.app import assemble
from embedfleet.contracts.errors import DependencyDown, Overloaded

FIELDS = {"type", "title", "status", "detail", "code", "retryable", "instance"}


@pytest.mark.parametrize(
    "path", ["/", "/nope", "/api/v1", "/api/v1/tasks/a/b", "/api/v2/tasks", "//x", "/%0a"]
)
def test_unknown_route(alpha: httpx.Client, path: str) -> None:
    answer = alpha.get(path)
    assert (answer.status_code, answer.json()["code"]) == (404, "no_such_route")
    assert answer.headers["content-type"] == "application/problem+json"
    assert set(answer.json()) == FIELDS


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/livez", "GET"),
        ("PUT", "/api/v1/search", "POST"),
        ("POST", "/api/v1/tasks/x", "GET"),
        ("POST", "/api/v1/tasks/", "GET"),
    ],
)
def test_wrong_method(alpha: httpx.Client, method: str, path: str, allowed: str) -> None:
    answer = alpha.request(method, path)
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
    assert answer.headers["allow"] == allowed


@pytest.fixture
def broken() -> TestClient:
    """The app with routes that fail, without its services."""
    app = assemble(1000)

    @app.get("/unforeseen")
    def unforeseen() -> None:
        raise RuntimeError("the secret is hunter2")

    @app.get("/down")
    def down() -> None:
        raise DependencyDown("Redis", "host:1/0", "refused")

    @app.get("/busy")
    def busy() -> None:
        raise Overloaded("Too many at once.", retry_after=7, status=429)

    return TestClient(app, raise_server_exceptions=False)


def test_unforeseen_error_tells_the_client_nothing(broken: TestClient) -> None:
    answer = broken.get("/unforeseen")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert answer.headers["content-type"] == "application/problem+json"
    assert set(answer.json()) == FIELDS
    assert "hunter2" not in answer.text


def test_fleet_errors_keep_their_status_and_say_when_to_retry(
    broken: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "embedfleet.api"):
        down, busy = broken.get("/down"), broken.get("/busy")
    assert (down.status_code, down.json()["code"], down.headers["retry-after"]) == (
        503,
        "dependency_down",
        "5",
    )
    assert down.json() == {
        "type": "urn:embedfleet:problem:dependency_down",
        "title": "Service Unavailable",
        "status": 503,
        "detail": "Redis at host:1/0 can't be used: refused",
        "code": "dependency_down",
        "retryable": True,
        "instance": "/down",
    }
    assert (busy.status_code, busy.headers["retry-after"]) == (429, "7")
    assert [record.getMessage() for record in caplog.records] == [
        "GET /down: dependency_down: Redis at host:1/0 can't be used: refused"
    ]
