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
INLINE = [
    " ".join(one.split()) for one in re.findall(r"`((?:embedfleet|celery|docker|kubectl) [^`]+)`", PAGE)
]
COMMANDS = sorted({*LINES, *INLINE})
# Their programs are an image's, and their variables a pod's.
INSIDE = re.compile(r"kubectl exec (\S+) --namespace fleet -- (.+)|docker compose exec (\S+) (.+)")
IN_PODS = [
    (match[1] or f"compose/{match[3]}", match[2] or match[4])
    for match in map(INSIDE.fullmatch, COMMANDS)
    if match
]
OURS = "python -P -m embedfleet.cli "


def test_the_sections_are_those_of_the_alerts() -> None:
    assert set(SECTIONS) == set(ALERTS)


@pytest.mark.parametrize("alert", ALERTS)
def test_each_section_says_what_to_look_at_what_to_do_and_what_zero_pods_mean(alert: str) -> None:
    section = SECTIONS[alert]
    at = [section.index(head) for head in ("**Look at** ", "```sh\n", "**Do:** ", "**At zero pods:** ")]
    assert at == sorted(at)


def test_what_needs_the_stores_runs_where_they_can_be_reached() -> None:
    assert {command for command in COMMANDS if " exec " in command} == set(filter(INSIDE.fullmatch, COMMANDS))
    for place, command in IN_PODS:
        assert place.endswith("redis" if command.startswith("redis-cli") else "api"), command


@pytest.mark.parametrize("command", sorted({inner for _, inner in IN_PODS if inner.startswith(OURS)}))
def test_our_own_commands_are_there_with_these_options(command: str) -> None:
    group = typer.main.get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    verb, *words = shlex.split(command.removeprefix(OURS))
    known = {option for parameter in group.commands[verb].params for option in parameter.opts}
    assert {word for word in words if word.startswith("-")} <= known


def test_commands_of_others_are_on_the_pages_that_explain_them() -> None:
    pages = [(ROOT / f"docs/{page}.md").read_text("utf-8") for page in ("troubleshooting", "operations")]
    explained = " ".join("".join(pages).split())
    for _, command in IN_PODS:
        words = shlex.split(command)
        if words[0] in ("celery", "redis-cli"):
            assert " ".join(words[-2:]) in explained, command
        if words[0] == "celery":
            assert " ".join(words[:3]) in explained, command
        assert words[0] in ("python", "celery", "redis-cli", "df"), command
    for command in COMMANDS:
        assert command.split()[0] in ("kubectl", "curl", "docker", "export"), command


def test_routes_and_ports_that_are_asked_exist() -> None:
    routes = (ROOT / "docs/openapi.json").read_text("utf-8")
    asked = re.findall(r"\$FLEET_URL(/[a-z0-9/]+)", PAGE)
    assert set(asked) > {"/readyz", "/api/v1/queues/"}
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
