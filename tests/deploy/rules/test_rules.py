"""Every alert of the chart fires when it should and not otherwise, and says what to do."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from embedfleet.api.uploads.admission import RETRY_SECONDS
from embedfleet.contracts.errors import DOCUMENT_CODES
from tests.deploy.chart import CHART, ROOT, Values, named, render, values_of
from tests.deploy.helm import HelmError
from tests.deploy.rules.promtool import needs_promtool, run

FILE = CHART / "files/rules.yaml"
CASES = sorted((Path(__file__).parent / "cases").glob("*.yaml"))
# What the fleet doesn't make itself: KEDA 2.17's operator, and kube-state-metrics 2.
OTHERS = {
    "keda_scaled_object_errors_total": {"namespace", "scaledObject"},
    "keda_scaler_detail_errors_total": {"namespace", "scaledObject"},
    "kube_horizontalpodautoscaler_status_current_replicas": {"namespace", "horizontalpodautoscaler"},
    "kube_horizontalpodautoscaler_spec_max_replicas": {"namespace", "horizontalpodautoscaler"},
    "kube_horizontalpodautoscaler_spec_min_replicas": {"namespace", "horizontalpodautoscaler"},
}


def _rules(kind: str) -> dict[str, dict[str, Any]]:
    """Return the rules of a kind, `alert` or `record`, by name."""
    groups = yaml.safe_load(FILE.read_text("utf-8"))["groups"]
    return {rule[kind]: rule for group in groups for rule in group["rules"] if kind in rule}


ALERTS = _rules("alert")


def _expectations() -> Iterator[tuple[str, str, list[Any]]]:
    """Yield of each case the name of its group, the alert that it asks about, and what it expects."""
    for file in CASES:
        for group in yaml.safe_load(file.read_text("utf-8"))["tests"]:
            for case in group.get("alert_rule_test", []):
                yield group["name"], case["alertname"], case["exp_alerts"]


@needs_promtool
def test_promtool_takes_the_rules() -> None:
    assert f"{len(ALERTS) + len(_rules('record'))} rules found" in run("check", "rules", str(FILE))


@needs_promtool
def test_promtool_takes_the_rules_that_the_chart_writes(tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text(json.dumps(_written({"nameOverride": "archive"})), "utf-8")
    assert "SUCCESS" in run("check", "rules", str(file))


def test_no_setting_of_one_fleet_is_in_rules_that_judge_all() -> None:
    mark = {"settings": {"FLEET_EMBEDDINGS_HIGH_WATER": "2000001", "FLEET_FSCK_SECONDS": "60"}}
    assert _written(mark) == _written({})


def test_rates_have_two_samples_however_rarely_is_scraped() -> None:
    windows = [
        int(number) * {"m": 60, "h": 3600, "d": 86400}[unit]
        for rule in [*ALERTS.values(), *_rules("record").values()]
        for number, unit in re.findall(r"\[(\d+)([mhd])\]", rule["expr"])
    ]
    schema = json.loads((CHART / "values.schema.json").read_text("utf-8"))
    most = schema["properties"]["monitoring"]["properties"]["intervalSeconds"]["maximum"]
    assert min(windows) >= 4 * most
    render(values_of("gpu") | {"monitoring": {"intervalSeconds": most}})
    with pytest.raises(HelmError, match="intervalSeconds"):
        render(values_of("gpu") | {"monitoring": {"intervalSeconds": most + 1}})


def test_failures_are_all_those_that_are_no_property_of_the_file() -> None:
    (left_out,) = set(re.findall(r'code!~"([^"]+)"', ALERTS["FleetTasksFail"]["expr"]))
    ours = {code for code in DOCUMENT_CODES if code.startswith("sandbox_")}
    # How the janitor ends a task is FleetPoison's.
    assert set(left_out.split("|")) == DOCUMENT_CODES.keys() - ours - {"poison"}


def test_every_refusal_for_want_of_room_is_one_alerts() -> None:
    reasons = [
        reason
        for alert in ("FleetDiskFull", "FleetUploadsRefused")
        for listed in re.findall(r'reason=~?"([^"]+)"', ALERTS[alert]["expr"])
        for reason in listed.split("|")
    ]
    assert sorted(reasons) == sorted(RETRY_SECONDS.keys() - {"too_many_documents"})


def _written(values: Values, release: str = "fleet") -> dict[str, Any]:
    """Return the groups as the chart writes them."""
    made = render(values_of("gpu") | values, release)
    name = values.get("nameOverride") or f"{release}-embedfleet"
    return dict(named(made, "PrometheusRule", name)["spec"])


@needs_promtool
@pytest.mark.parametrize("file", CASES, ids=lambda file: file.stem)
def test_alerts_fire_when_they_should_and_not_otherwise(file: Path) -> None:
    assert "SUCCESS" in run("test", "rules", str(file))


@pytest.mark.parametrize("alert", ALERTS)
def test_each_alert_has_a_case_that_fires_and_another_that_does_not(alert: str) -> None:
    groups: dict[str, list[list[Any]]] = {}
    for name, asked, expected in _expectations():
        if asked == alert and name.startswith(alert):
            groups.setdefault(name, []).append(expected)
    firing = {name for name, expected in groups.items() if any(expected)}
    assert firing, "no case fires"
    assert groups.keys() - firing, "no case in which it never fires"
    assert all(f"{alert} fires" in name for name in firing)
    assert all(f"{alert} doesn't" in name for name in groups.keys() - firing)


@pytest.mark.parametrize("alert", ALERTS)
def test_each_alert_says_how_urgent_it_is_and_where_to_read_on(alert: str) -> None:
    rule = ALERTS[alert]
    assert re.fullmatch(r"Fleet[A-Z][A-Za-z]+", alert)
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    page, anchor = rule["annotations"]["runbook_url"].split("#")
    assert anchor == alert.lower()
    assert f"\n## {alert}\n" in (ROOT / page).read_text("utf-8")


@pytest.mark.parametrize("alert", ALERTS)
def test_texts_name_no_label_that_the_alert_does_not_have(alert: str) -> None:
    rule = ALERTS[alert]
    named_in_texts = set(re.findall(r"\$labels\.(\w+)", json.dumps(rule["annotations"])))
    kept = {label.strip() for by in re.findall(r"\bby \(([^)]*)\)", rule["expr"]) for label in by.split(",")}
    assert named_in_texts <= kept


def test_gauges_of_the_fleet_are_never_summed_and_counters_always() -> None:
    for rule in [*ALERTS.values(), *_rules("record").values()]:
        for function, metric in re.findall(
            r"(\w+) by \([^)]*\)\s*\((?:\w+\()?((?:fleet|keda|kube)_\w+)", rule["expr"]
        ):
            counts = metric.endswith(("_total", "_count", "_bucket"))
            assert (function == "sum") == counts, metric


def test_metrics_of_others_have_the_names_and_labels_that_others_give_them() -> None:
    for rule in ALERTS.values():
        for metric in re.findall(r"\b(?:keda|kube)_\w+", rule["expr"]):
            kept = re.findall(r"\bby \(([^)]*)\)", rule["expr"])
            assert {label.strip() for by in kept for label in by.split(",")} <= OTHERS[metric]


def test_recorded_ratios_are_used_and_those_that_are_used_are_recorded() -> None:
    used = {name for rule in ALERTS.values() for name in re.findall(r"\bnamespace:\S+", rule["expr"])}
    assert used == _rules("record").keys()


def test_a_second_fleet_does_not_hide_that_this_one_is_silent() -> None:
    (group,) = [one for one in _written({})["groups"] if one["name"] == "embedfleet"]
    (rule,) = [one for one in group["rules"] if one.get("alert") == "FleetQueueUnknown"]
    assert rule["expr"] == 'absent(fleet_queue_depth{namespace="demo"})'


@pytest.mark.parametrize("release", ["fleet", "archive"])
def test_the_chart_writes_its_own_objects_names_into_the_rules(release: str) -> None:
    objects = render(values_of("gpu"), release)
    scaled = [item["metadata"]["name"] for item in objects if item["kind"] == "ScaledObject"]
    rules = {
        rule["alert"]: rule["expr"]
        for group in _written({}, release)["groups"]
        for rule in group["rules"]
        if "alert" in rule
    }
    (objects_of,) = set(re.findall(r'scaledObject=~"([^"]+)"', rules["FleetScalerErrors"]))
    (scalers_of,) = set(re.findall(r'horizontalpodautoscaler=~"([^"]+)"', rules["FleetMaxReplicas"]))
    for name in scaled:
        assert re.fullmatch(objects_of, name)
        # KEDA's HPA, or with `autoscaling.engine: hpa` the chart's own.
        assert re.fullmatch(scalers_of, f"keda-hpa-{name}")
        assert re.fullmatch(scalers_of, name)
    assert not re.fullmatch(objects_of, "other-embedfleet-documents")
