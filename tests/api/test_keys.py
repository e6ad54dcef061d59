import hashlib
import json
import traceback
from pathlib import Path

import pytest
from pydantic import SecretStr

from embedfleet.api.http.keys import ApiKeys, is_loopback, load_keys
from embedfleet.contracts.errors import ConfigurationError
from embedfleet.runtime.settings import ApiSettings


def entry(key: str = "k", tenant: str = "acme", **more: str) -> dict[str, str]:
    return {"name": "n", "tenant": tenant, "sha256": hashlib.sha256(key.encode()).hexdigest(), **more}


def settings(value: object = "", **more: object) -> ApiSettings:
    text = value if isinstance(value, str) else json.dumps(value)
    return ApiSettings.model_validate({"api_keys": SecretStr(text), **more})


def test_key_leads_to_its_tenant() -> None:
    keys = load_keys(settings([entry("one", "acme"), entry("two", "other")], host="0.0.0.0"))
    found = keys.find(b"two")
    assert found is not None
    assert found.tenant == "other"
    assert keys.find(b"three") is None
    assert keys.find(b"") is None
    assert load_keys(settings([entry("")])).find(b"") is None


def test_keys_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    file.write_text(json.dumps([entry("one")]))
    found = load_keys(settings(api_keys_file=file)).find(b"one")
    assert found is not None
    assert found.tenant == "acme"


@pytest.mark.parametrize(
    "value",
    [
        "{",
        "hunter2",
        "null",
        [],
        [entry(tenant="Not A Tenant")],
        [entry(sha256="hunter2")],
        [entry(sha256="hunter2" * 100)],
        [entry(secret="hunter2")],
        [{"name": "n"}],
        [entry("hunter2"), entry("hunter2")],
    ],
)
def test_malformed_keys_name_the_variable_and_no_value(value: object) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        load_keys(settings(value))
    assert "FLEET_API_KEYS" in refusal.value.detail
    assert "hunter2" not in "".join(traceback.format_exception(refusal.value))


def test_unreadable_file_names_the_variable(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="FLEET_API_KEYS_FILE"):
        load_keys(settings(api_keys_file=tmp_path / "absent"))


@pytest.mark.parametrize(
    "more",
    [{"auth": "off"}, {"api_keys_file": Path("keys.json")}],
    ids=["keys and FLEET_AUTH=off", "keys twice"],
)
def test_contradictions_are_refused(more: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError, match="FLEET_API_KEYS"):
        load_keys(settings([entry()], **more))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.4", "fleet.example"])
def test_wider_than_loopback_without_keys_is_refused(host: str) -> None:
    with pytest.raises(ConfigurationError, match="FLEET_AUTH=off"):
        load_keys(settings(host=host))
    assert load_keys(settings(host=host, auth="off")) == ApiKeys(open_to_all=True)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost", "LOCALHOST"])
def test_loopback_needs_no_keys(host: str) -> None:
    assert is_loopback(host)
    assert load_keys(settings(host=host)) == ApiKeys(open_to_all=False)


@pytest.mark.parametrize(
    "host", ["", "0.0.0.0", "10.0.0.1", "localhost.example", "127.0.0.1.example", "2130706433"]
)
def test_other_hosts_are_no_loopback(host: str) -> None:
    assert not is_loopback(host)
