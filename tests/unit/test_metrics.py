"""The list of metrics, the alerts and the dashboard agree with each other and with the code."""

import importlib.metadata
import json
import platform
import re
from collections import Counter as Counted
from pathlib import Path

import pytest
import yaml
from prometheus_client import Counter, Histogram

from mediabus.runtime import metrics
from mediabus.runtime.measured import Measured
from tests.support.metrics_docs import documented
from tests.support.prometheus import (
    DASHBOARD,
    SELECTOR,
    TESTS,
    Alert,
    alerts,
    dashboard_expressions,
    panels,
)

ROOT = Path(__file__).parents[2]
OPERATIONS = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
SUFFIX = re.compile(r"_(bucket|sum|count)$")


def in_code() -> dict[str, tuple[str, frozenset[str]]]:
    """Return type and labels of each metric of the code."""
    found = {}
    for metric in vars(metrics).values():
        match metric:
            case Measured():
                found[metric.name] = ("gauge", frozenset(metric.labels))
            case Counter():
                name = f"{metric._name}_total"
                found[name] = ("counter", frozenset(metric._labelnames))
            case Histogram():
                found[metric._name] = ("histogram", frozenset(metric._labelnames))
            case _:
                pass
    return found


def test_every_metric_is_documented_with_its_type_and_labels() -> None:
    rows = {name: (row.type, row.labels) for name, row in documented().items()}
    assert len(rows) > 30
    assert rows == in_code()
    assert all(row.unit for row in documented().values())


def test_a_metric_with_a_label_for_a_setting_is_forgotten_with_it() -> None:
    for label, listed in metrics.NAMED.items():
        names = {one.name if isinstance(one, Measured) else f"{one._name}_total" for one in listed}
        assert names == {name for name, (_, labels) in in_code().items() if label in labels}


def test_gauge_is_absent_until_measured() -> None:
    gauge = Measured("mediabus_test_gauge", "For this test", ["client", "phase"])
    assert samples(gauge) == {}
    gauge.set(0, "a", "paused")
    gauge.set(2, "b", "paused")
    assert samples(gauge) == {("a", "paused"): 0, ("b", "paused"): 2}
    gauge.remove_by_labels({"client": "b"})
    gauge.remove("c", "paused")
    assert samples(gauge) == {("a", "paused"): 0}
    with pytest.raises(ValueError, match="has the labels"):
        gauge.set(1, "a")


def samples(gauge: Measured) -> dict[tuple[str, ...], float]:
    [family] = gauge.collect()
    return {tuple(sample.labels.values()): sample.value for sample in family.samples}


def test_series_of_a_name_are_forgotten_and_others_stay() -> None:
    for client in ("leaves", "stays"):
        metrics.STATUS_WRITTEN.labels(client).inc()
        metrics.DOWNLOADS.set(1, client, "paused")
    metrics.forget("client", "leaves")
    assert metrics.DOWNLOADS.get("leaves", "paused") is None
    assert metrics.DOWNLOADS.get("stays", "paused") == 1
    [family] = metrics.STATUS_WRITTEN.collect()
    written = {sample.labels["client"] for sample in family.samples}
    assert "stays" in written
    assert "leaves" not in written
    metrics.forget("client", "stays")


def test_build_info_has_the_versions() -> None:
    version = importlib.metadata.version("mediabus")
    assert metrics.BUILD_INFO.get(version, platform.python_version()) == 1


# --- alerts and dashboard ---------------------------------------------------------------------


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert.name)
def test_alert_has_a_severity_and_a_runbook(alert: Alert) -> None:
    assert re.fullmatch(r"\d+[mh]", alert.held)
    assert alert.severity in {"critical", "warning"}
    assert alert.annotations["summary"].endswith(".")
    page, _, anchor = alert.annotations["runbook_url"].partition("#")
    assert page == "docs/operations.md"
    headings = re.findall(r"^#+ (.*)$", OPERATIONS, re.MULTILINE)
    assert anchor in {heading.lower().replace(" ", "-") for heading in headings}


def test_every_runbook_belongs_to_an_alert() -> None:
    section = OPERATIONS.partition("\n## Alerts\n")[2].partition("\n## ")[0]
    headings = re.findall(r"^#### (.*)$", section, re.MULTILINE)
    assert headings == [alert.name for alert in alerts()]
    assert len(set(headings)) == len(headings)


def test_every_alert_is_tested_before_while_and_after_it_fires() -> None:
    tests = yaml.safe_load(TESTS.read_text(encoding="utf-8"))["tests"]
    shown: dict[str, list[bool]] = {}
    for test in tests:
        for one in test["alert_rule_test"]:
            shown.setdefault(one["alertname"], []).append(bool(one.get("exp_alerts")))
    assert shown == {alert.name: [False, True, False] for alert in alerts()}


def test_alerts_and_dashboard_use_metrics_that_exist() -> None:
    used = Counted[str]()
    for expression in (*dashboard_expressions(), *(alert.expr for alert in alerts())):
        names = [found[1] for found in SELECTOR.finditer(expression)]
        assert names, expression
        used.update(SUFFIX.sub("", name) for name in names)
    outside = {"up", "process_cpu_seconds_total", "process_resident_memory_bytes"}
    assert used.keys() - outside - in_code().keys() == set()
    assert in_code().keys() - used.keys() == set()


def test_dashboard_is_one_that_grafana_imports() -> None:
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)
    assert [one["type"] for one in dashboard["templating"]["list"]] == ["datasource"]
    for panel in panels():
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        assert panel["datasource"]["uid"] == "${datasource}"
        refs = [target["refId"] for target in panel["targets"]]
        assert len(set(refs)) == len(refs) > 0
        assert all(target["legendFormat"] for target in panel["targets"])


def test_panels_do_not_overlap() -> None:
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    cells = Counted(
        (x, y)
        for panel in dashboard["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    )
    assert cells.most_common(1)[0][1] == 1
