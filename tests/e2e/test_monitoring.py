"""Every metric and label that dashboards and alerts name is in a real scrape of a running fleet."""

import json
import math
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import redis
import yaml
from dashboards.boards import BOARDS
from dashboards.panel import SCOPE, SEEN, WINDOW, Board
from dashboards.pictures import main as draw
from dashboards.prometheus import MISSING, Prometheus, PrometheusError, Scrape, binary, members, recording

from tests.dashboards.promql import Selector, groupings, selectors
from tests.e2e.fleet import EXAMPLES, ROOT, Fleet, until

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.xdist_group("fleet"),
    pytest.mark.skipif(binary() is None, reason=MISSING),
]

SVG = "{http://www.w3.org/2000/svg}"
RULES = ROOT / "helm/embedfleet/files/rules.yaml"
# Of KEDA, kube-state-metrics and NVIDIA's exporter: no fleet has them.
FOREIGN = ("keda_", "kube_", "DCGM_")
# An alert of the fleet's own would need a fault; ALERTS is the same for each.
ALWAYS = {"alert": "FleetTest", "expr": "max by (namespace) (fleet_queue_depth) >= 0"}
# The labels that an operator's Prometheus adds. Compose's adds none of them.
CLUSTER = "demo"
VIETNAMESE = "Bến phà Cần Giờ mở cửa lúc năm giờ sáng. Xe đạp được đi miễn phí, xe máy thì không. " * 40


@pytest.fixture(scope="module")
def prometheus(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """One that has seen a fleet at work: as from within a cluster, and as from Compose."""
    folder = tmp_path_factory.mktemp("prometheus")
    rule = folder / "always.yaml"
    rule.write_text(yaml.safe_dump({"groups": [{"name": "test", "rules": [ALWAYS]}]}), "utf-8")
    addresses = _members(fleet)
    scrapes = [Scrape(address) for address in addresses.values()]
    scrapes += [Scrape(address, {"namespace": CLUSTER, "pod": name}) for name, address in addresses.items()]
    with redis.Redis.from_url(fleet.ready["redis"], decode_responses=True) as client:
        limit = client.config_get("maxmemory")["maxmemory"]
        # Without one there is no share of it.
        client.config_set("maxmemory", "1gb")
        try:
            with Prometheus(folder, scrapes, [RULES, rule]) as found:
                # What was done before the first scrape is in no rate.
                until(lambda: len(found.now("up == 1")) == len(scrapes), "all are scraped")
                _work(fleet)
                _seen(found)
                yield found
        finally:
            client.config_set("maxmemory", limit)


def _work(fleet: Fleet) -> None:
    """Let every kind of work be done, and fail once."""
    files = [
        ("bến-phà.txt", VIETNAMESE.encode()),
        ("torn.pdf", b"%PDF-1.7\nnothing of use"),
    ]
    wanted = {file.suffix: file for file in EXAMPLES.iterdir()}
    assert wanted.keys() >= {".pdf", ".docx", ".md"}
    answers = [fleet.upload(file, "watched") for file in [*files, *wanted.values()]]
    states = [fleet.ended(answer["document_id"])["state"] for answer in answers]
    assert states == ["READY", "FAILED", *["READY"] * len(wanted)]
    assert "Cần Giờ" in fleet.search("Bến phà mở cửa lúc mấy giờ?", "watched")[0]["text"]


def _members(fleet: Fleet) -> dict[str, str]:
    return members(fleet.ready["url"], {name: fleet.pid(name) for name in fleet.ready["pids"]})


def _seen(prometheus: Prometheus) -> None:
    """Wait until everything was scraped, the first check of the stores included."""

    def checked() -> bool:
        checks = prometheus.now("fleet_fsck_last_run_timestamp_seconds > 0")
        firing = prometheus.now('ALERTS{alertname="FleetTest", alertstate="firing"}')
        return len(checks) == len(firing) == 2

    until(checked, "the stores are checked and an alert fires")
    _scraped_twice(prometheus, time.time())
    assert prometheus.now("up == 0") == []


def _scraped_twice(prometheus: Prometheus, moment: float) -> None:
    """Wait until rates have what happened up to a moment."""

    def scraped() -> bool:
        oldest = prometheus.now("min(timestamp(up))")
        return bool(oldest) and float(oldest[0]["value"][1]) > moment + 2

    until(scraped, "two scrapes")


def _rules() -> list[dict[str, str]]:
    groups = yaml.safe_load(RULES.read_text("utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def _asked(expression: str, namespace: str) -> str:
    """Return a panel's expression as Grafana sends it; its window has all of the work, however long ago."""
    return expression.replace("$namespace", namespace).replace(WINDOW, "1h")


EXPRESSIONS = {
    **{
        f"{board.name}: {panel.title} {number}": _asked(target.expr, CLUSTER)
        for board in BOARDS
        for panel in board.panels
        for number, target in enumerate(panel.targets)
    },
    **{f"rule: {rule.get('alert') or rule['record']}": rule["expr"] for rule in _rules()},
}


def test_every_metric_and_label_that_is_named_is_there(prometheus: Prometheus) -> None:
    problems = dict[str, set[str]]()
    for where, expression in EXPRESSIONS.items():
        text = prometheus.formatted(expression)
        assert selectors(text), where
        missing = {one.text() for one in selectors(text) if not _is_there(prometheus, one)}
        for grouping in groupings(text):
            missing |= {
                f"label {label}"
                for label in grouping.labels
                if not any(_has(prometheus, one, label) for one in grouping.selectors)
            }
        if missing:
            problems[where] = missing
    assert problems == {}


def _is_there(prometheus: Prometheus, selector: Selector) -> bool:
    """Say whether there is such a series; without a look at its labels `!=` would find one that has none."""
    if selector.metric.startswith(FOREIGN):
        return True
    named = all(_has(prometheus, selector, label) for label, _, _ in selector.matchers)
    return named and bool(prometheus.series(selector.text()))


def _has(prometheus: Prometheus, selector: Selector, label: str) -> bool:
    """Say whether series of a metric have a label: one that they haven't is the empty text."""
    return selector.metric.startswith(FOREIGN) or bool(prometheus.series(f'{selector.metric}{{{label}!=""}}'))


def _drawn(found: list[dict[str, Any]]) -> bool:
    """Say whether there is anything to draw: of a series that is no number Grafana draws nothing."""
    return any(not math.isnan(float(series["value"][1])) for series in found)


@pytest.mark.parametrize("namespace", [CLUSTER, "", ".*"], ids=["cluster", "compose", "all"])
@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.name)
def test_every_panel_shows_something(prometheus: Prometheus, board: Board, namespace: str) -> None:
    empty = [
        f"{panel.title}: {target.expr}"
        for panel in board.panels
        for target in panel.targets
        if not _drawn(prometheus.now(_asked(target.expr.removesuffix(SEEN), namespace)))
    ]
    assert empty == []


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.name)
def test_every_series_has_the_labels_of_its_legend(prometheus: Prometheus, board: Board) -> None:
    for panel in board.panels:
        for target in panel.targets:
            named = set(re.findall(r"{{(\w+)}}", target.legend))
            for series in prometheus.now(_asked(target.expr, CLUSTER)):
                assert named <= series["metric"].keys(), panel.title


def test_alerts_are_evaluated_and_name_labels_that_they_have(prometheus: Prometheus) -> None:
    unwell = {rule["name"]: rule["lastError"] for rule in prometheus.rules() if rule["health"] != "ok"}
    assert unwell == {}
    for rule in _rules():
        told = set(re.findall(r"\$labels\.(\w+)", json.dumps(rule.get("annotations", {}))))
        used = selectors(prometheus.formatted(rule["expr"]))
        assert [label for label in told if not any(_has(prometheus, one, label) for one in used)] == [], rule[
            "alert"
        ]


def test_a_record_of_a_fleet_is_drawn(fleet: Fleet, tmp_path: Path) -> None:
    addresses = _members(fleet)
    with recording(tmp_path / "record", addresses, seconds=1) as prometheus:
        until(lambda: len(prometheus.now("up == 1")) == len(addresses), "all are scraped")
        answer = fleet.upload(("chợ-nổi.txt", f"Chợ nổi {tmp_path.name}. {VIETNAMESE}".encode()), "drawn")
        assert fleet.ended(answer["document_id"])["state"] == "READY"
        _scraped_twice(prometheus, time.time())
    assert draw([str(tmp_path / "record"), str(tmp_path / "drawn")]) == 0
    shown = {board.name: ElementTree.parse(tmp_path / "drawn" / f"{board.name}.svg") for board in BOARDS}
    texts = {one.text for one in shown["overview"].iter(f"{SVG}text")}
    assert {
        "Upload to searchable, seconds",
        "median",
        "Documents chunked, and searchable, a second",
        "txt",
    } <= texts
    assert all(list(one.iter(f"{SVG}polyline")) for one in shown.values())


def test_a_panel_of_what_is_not_there_is_noticed(prometheus: Prometheus) -> None:
    missing = Selector("fleet_queue_depth", (("queue", "=", '"nobody"'),))
    assert not _is_there(prometheus, missing)
    assert not _has(prometheus, missing, "colour")
    assert not _drawn(prometheus.now("max(up) * NaN"))
    assert not _drawn([])
    assert _drawn(prometheus.now("max(up)"))
    with pytest.raises(PrometheusError, match="parse error"):
        prometheus.formatted("sum by (queue) (fleet_queue_depth")
    assert prometheus.now(f"fleet_queue_depth{{{SCOPE}}}".replace("$namespace", "nobody")) == []
