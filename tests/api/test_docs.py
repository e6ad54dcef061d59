"""/docs: whole without the internet, and no script of anybody else in a page where keys are typed."""

import re
from urllib.parse import urljoin, urlsplit

import httpx
import pytest

from tests.api.serving import Api, fetch


def addresses(text: str) -> list[str]:
    return re.findall(r'(?:src|href)="([^"]+)"', text)


def test_everything_that_the_page_loads_comes_from_here(api: Api) -> None:
    page = fetch(f"{api.url}/docs")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    found = addresses(page.text)
    assert len(found) >= 5
    for address in found:
        # Relative: the API may be below a path of an ingress.
        assert not urlsplit(address).netloc
        assert not address.startswith("/")
        answer = fetch(urljoin(str(page.url), address))
        assert answer.status_code == 200, address
        assert answer.content
    assert "http" not in page.text
    assert "http" not in fetch(f"{api.url}/docs/start.js").text


def test_no_script_but_files_from_here_may_run(api: Api) -> None:
    page = fetch(f"{api.url}/docs")
    assert not re.findall(r"<script(?![^>]*src=)|<style|\son\w+=|javascript:", page.text)
    for path in ("/docs", "/docs/start.js", "/docs/swagger-ui-bundle.js"):
        policy = dict(
            part.strip().split(" ", 1)
            for part in fetch(api.url + path).headers["content-security-policy"].split(";")
        )
        assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
        assert policy["script-src"] == policy["connect-src"] == "'self'"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("swagger-ui-bundle.js", "text/javascript"),
        ("start.js", "text/javascript"),
        ("swagger-ui.css", "text/css"),
        ("favicon-32x32.png", "image/png"),
    ],
)
def test_files_are_what_they_are_sent_as(api: Api, name: str, kind: str) -> None:
    answer = fetch(f"{api.url}/docs/{name}")
    assert answer.headers["content-type"].split(";")[0] == kind
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", ["/redoc", "/docs/oauth2-redirect", "/docs/x", "/docs/..%2fmain.py"])
def test_there_is_nothing_else(alpha: httpx.Client, path: str) -> None:
    assert alpha.get(path).status_code == 404


def test_nothing_is_asked_of_a_validator_elsewhere(api: Api) -> None:
    assert "validatorUrl: null" in fetch(f"{api.url}/docs/start.js").text
