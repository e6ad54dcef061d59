"""Who may ask: keys where there are some, this machine alone where there are none."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from embedfleet.local.redis import RedisServer
from tests.api.serving import ALPHA_KEY, BETA_KEY, Api, base_env, fetch, send, serving

LIST = "/api/v1/tasks"
BARE = ["uvicorn", "--factory", "embedfleet.api.app:create_app", "--host", "0.0.0.0"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-API-Key": ""},
        {"X-API-Key": "wrong"},
        {"X-API-Key": ALPHA_KEY.upper()},
        {"Authorization": ALPHA_KEY},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Basic {ALPHA_KEY}"},
        {"X-API-Key": "Mật khẩu".encode().decode("latin-1")},
    ],
)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/v1/tasks"),
        ("GET", "/api/v1/tasks/x"),
        ("POST", "/api/v1/tasks/x/revoke"),
        ("GET", "/api/v1/documents"),
        ("GET", "/api/v1/documents/x"),
        ("POST", "/api/v1/documents/upload"),
        ("POST", "/api/v1/search"),
    ],
)
def test_without_a_known_key_every_route_is_401(
    api: Api, method: str, path: str, headers: dict[str, str]
) -> None:
    raw = {name: value.encode("latin-1") for name, value in headers.items()}
    answer = fetch(api.url + path, method, headers=raw)
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
    assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Bearer {ALPHA_KEY}"},
        {"authorization": f"bearer {ALPHA_KEY}"},
        {"x-api-key": ALPHA_KEY},
    ],
)
def test_key_in_either_header_is_taken(api: Api, headers: dict[str, str]) -> None:
    assert fetch(api.url + LIST, headers=headers).status_code == 200


def test_two_tenants_never_share_a_document(api: Api) -> None:
    with api.client() as alpha, api.client(**{"X-API-Key": BETA_KEY}) as beta:
        ids = {send(client, "shared.txt", b"same").json()["document_id"] for client in (alpha, beta)}
    assert len(ids) == 2


def test_probes_need_no_key(api: Api) -> None:
    assert fetch(f"{api.url}/livez").json() == {"status": "ok"}
    assert fetch(f"{api.url}/metrics").is_success
    assert "checks" in fetch(f"{api.url}/readyz").json()


@pytest.fixture(scope="module")
def keyless(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a server without keys."""
    folder = tmp_path_factory.mktemp("keyless")
    with RedisServer(folder / "redis") as redis:
        yield base_env(redis.url, folder)


def outer_address() -> str:
    """Return an address of this machine that is no loopback address; sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has the loopback address only")
        return str(probe.getsockname()[0])


def test_bare_server_without_keys_answers_this_machine_only(keyless: dict[str, str], tmp_path: Path) -> None:
    outside = outer_address()
    with serving(keyless, tmp_path, command=BARE) as api:
        there = api.url.replace("127.0.0.1", outside)
        refused = fetch(there + LIST)
        assert (refused.status_code, refused.json()["code"]) == (403, "keys_required")
        assert "FLEET_API_KEYS" in refused.json()["detail"]
        # A name that leads here, as after DNS rebinding, and a page elsewhere that posts a form.
        for headers in (
            {"Host": "evil.example"},
            {"Host": ""},
            {"Host": "["},
            {"Sec-Fetch-Site": "cross-site"},
        ):
            assert fetch(api.url + LIST, headers=headers).status_code == 403
        # The connection decides, whatever the headers claim.
        claims = {"Host": "127.0.0.1", "X-Forwarded-For": "127.0.0.1", "X-Forwarded-Host": "localhost"}
        assert fetch(there + LIST, headers=claims).status_code == 403
        for headers in (
            {},
            {"Host": "localhost:8000"},
            {"Host": "[::1]:80"},
            {"Sec-Fetch-Site": "same-origin"},
        ):
            assert fetch(api.url + LIST, headers=headers).status_code == 200
        assert fetch(f"{there}/livez").status_code == 200


def test_auth_off_lets_everyone_in(keyless: dict[str, str], tmp_path: Path) -> None:
    outside = outer_address()
    with serving({**keyless, "FLEET_AUTH": "off"}, tmp_path, command=BARE) as api:
        assert fetch(api.url.replace("127.0.0.1", outside) + LIST).status_code == 200


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"FLEET_HOST": "0.0.0.0"}, "FLEET_AUTH=off"),
        ({"FLEET_API_KEYS": '[{"name": "hunter2"}]'}, "FLEET_API_KEYS"),
        ({"FLEET_PORT": "hunter2"}, "FLEET_PORT"),
        ({"FLEET_MODEL_PATH": "/nowhere"}, "FLEET_MODEL_PATH"),
    ],
)
def test_server_refuses_wrong_settings_in_one_line(
    variables: dict[str, str], said: str, tmp_path: Path
) -> None:
    env = base_env("redis://127.0.0.1:1/0", tmp_path) | variables
    done = subprocess.run(
        [sys.executable, "-m", "embedfleet.api"],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert said in done.stderr
    assert "hunter2" not in done.stderr
