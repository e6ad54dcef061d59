"""What docs/runbooks.md tells to do can be done; what it says of kubectl is tested in tests/deploy/docs."""

import re
import shlex

import pytest
import typer
import typer.core
import yaml

from embedfleet.cli.main import app
from tests.deploy.chart import CHART, ROOT
from tests.deploy.rules.test_rules import ALERTS

PAGE = (ROOT / "docs/runbooks.md").read_text("utf-8")
SECTIONS = dict(re.findall(r"^## (Fleet\w+)\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE))
FENCES = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
LINES = [line for fence in FENCES for line in fence.splitlines()]
COMMANDS = sorted({*LINES, *re.findall(r"`((?:embedfleet|celery|docker|kubectl) [^`]+)`", PAGE)})


def test_the_sections_are_those_of_the_alerts() -> None:
    assert set(SECTIONS) == set(ALERTS)


@pytest.mark.parametrize("alert", ALERTS)
def test_each_section_says_what_to_look_at_what_to_do_and_what_zero_pods_mean(alert: str) -> None:
    section = SECTIONS[alert]
    at = [section.index(head) for head in ("**Look at** ", "```sh\n", "**Do:** ", "**At zero pods:** ")]
    assert at == sorted(at)


@pytest.mark.parametrize("command", [one for one in COMMANDS if one.startswith("embedfleet")])
def test_our_own_commands_are_there_with_these_options(command: str) -> None:
    group = typer.main.get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    _, verb, *words = shlex.split(command)
    known = {option for parameter in group.commands[verb].params for option in parameter.opts}
    assert {word for word in words if word.startswith("-")} <= known


def test_commands_of_others_are_on_the_pages_that_explain_them() -> None:
    pages = [(ROOT / f"docs/{page}.md").read_text("utf-8") for page in ("troubleshooting", "operations")]
    explained = " ".join("".join(pages).split())
    for command in COMMANDS:
        words = shlex.split(command)
        if words[0] in ("celery", "redis-cli"):
            assert " ".join(words[:3]) in explained, command
            assert " ".join(words[-2:]) in explained, command
        else:
            assert words[0] in ("embedfleet", "kubectl", "curl", "docker", "export"), command


def test_routes_and_ports_that_are_asked_exist() -> None:
    routes = (ROOT / "docs/openapi.json").read_text("utf-8")
    asked = re.findall(r"\$FLEET_URL(/[a-z0-9/]+)", PAGE)
    assert set(asked) > {"/readyz", "/api/v1/tasks/"}
    assert all(f'"{route}"' in routes for route in asked)


def test_services_of_compose_are_those_of_the_compose_file() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.gpu.yml").read_text("utf-8"))["services"]
    (line,) = [one for one in COMMANDS if one.startswith("docker compose logs")]
    assert set(shlex.split(line)[5:]) <= services.keys()


def test_variables_and_metrics_that_are_named_exist() -> None:
    settings = (ROOT / "docs/environment.md").read_text("utf-8")
    named = set(re.findall(r"\b(?:FLEET|QDRANT|CELERY)_[A-Z_]+", PAGE)) - {"FLEET_URL", "FLEET_API_KEY"}
    assert len(named) > 8
    assert {name for name in named if f"`{name}`" not in settings} == set()
    example = (ROOT / ".env.example").read_text("utf-8")
    assert {name for name in re.findall(r"`(REDIS_[A-Z_]+)`", PAGE) if f"{name}=" not in example} == set()
    # What the rules name is held against the app in tests/deploy/test_names.py.
    rules = (CHART / "files/rules.yaml").read_text("utf-8")
    source = "".join(path.read_text("utf-8") for path in (ROOT / "services").rglob("*.py"))
    metrics = set(re.findall(r"`(?:namespace:)?(fleet_\w+)", PAGE))
    assert len(metrics) > 8
    made = {name for name in metrics if f'"{name.removesuffix("_total")}"' in source or name in rules}
    assert metrics == made
