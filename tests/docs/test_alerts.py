"""Alerting rules and dashboard: each query parses, and names what the processes export."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
from prometheus_client.metrics import MetricWrapperBase

from shared import metrics
from shared.inbox.model import EventState
from shared.invariants.catalog import BY_NAME
from shared.outbound.model import MessageState
from tests.fixtures.alert_rules import RULES

ROOT = Path(__file__).parents[2]
DASHBOARD: dict[str, Any] = json.loads(
    (ROOT / "deploy/grafana/prepaid.json").read_text(encoding="utf-8")
)
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
EXPRESSIONS = {
    **{rule["alert"]: rule["expr"] for rule in RULES},
    **{
        f"{panel['title']} {target['refId']}": target["expr"]
        for panel in PANELS
        for target in panel["targets"]
    },
}
STATES = {str(state) for kind in (EventState, MessageState) for state in kind}
# Labels that Prometheus adds to each series, and the one of a histogram's buckets.
FOREIGN_LABELS = {"instance", "job"}
# Sums of what every process exports alike would count it once a process.
OF_THE_DATABASE = {metric._name for metric in metrics.MEASURED} | {  # noqa: SLF001
    "prepaid_reconcile_drift",
    "prepaid_measurement_age_seconds",
}


def exposed() -> dict[str, set[str]]:
    """Return every series that a process exposes, with its labels."""
    found: dict[str, set[str]] = {}
    suffixes: dict[str, dict[str, set[str]]] = {
        "counter": {"_total": set()},
        "histogram": {"_bucket": {"le"}, "_count": set()},
    }
    for metric in vars(metrics).values():
        if isinstance(metric, MetricWrapperBase):
            for family in metric.describe():
                for suffix, labels in suffixes.get(family.type, {"": set()}).items():
                    own = set(metric._labelnames)  # noqa: SLF001 - there is no public way to tell
                    found[family.name + suffix] = own | labels
    return found


EXPOSED = exposed()


def nodes(node: Any) -> Iterator[Any]:
    """Yield each part of a parsed query, the whole first."""
    yield node
    for name in ("lhs", "rhs", "expr", "vector_selector"):
        child = getattr(node, name, None)
        if child is not None:
            yield from nodes(child)
    for argument in getattr(node, "args", None) or []:
        yield from nodes(argument)


def selectors(expression: str) -> list[Any]:
    return [
        node
        for node in nodes(promql_parser.parse(expression))
        if isinstance(node, promql_parser.VectorSelector)
    ]


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_a_query_names_metrics_and_labels_that_exist(name: str) -> None:
    expression = EXPRESSIONS[name]
    found = selectors(expression)
    assert found
    labels = set.intersection(*(EXPOSED[selector.name] for selector in found)) | FOREIGN_LABELS
    for selector in found:
        for matcher in selector.matchers.matchers:
            assert matcher.name in labels
            assert matcher.name != "state" or matcher.value in STATES
    for node in nodes(promql_parser.parse(expression)):
        modifier = getattr(node, "modifier", None)
        if isinstance(node, promql_parser.AggregateExpr) and modifier is not None:
            assert set(modifier.labels) <= labels


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_what_every_process_exports_alike_is_not_summed_over_processes(name: str) -> None:
    for node in nodes(promql_parser.parse(EXPRESSIONS[name])):
        if isinstance(node, promql_parser.AggregateExpr) and str(node.op) in {"sum", "count"}:
            summed = node.expr
            if isinstance(summed, promql_parser.VectorSelector):
                assert summed.name not in OF_THE_DATABASE


def test_the_check_sees_a_metric_and_a_label_that_do_not_exist() -> None:
    (selector,) = selectors('sum by (loop) (rate(prepaid_loop_failures_total{loop="x"}[5m])) > 0')
    assert (selector.name, selector.matchers.matchers[0].name) == (
        "prepaid_loop_failures_total",
        "loop",
    )
    assert "prepaid_loop_failures" not in EXPOSED
    with pytest.raises(ValueError, match="unclosed left parenthesis"):
        promql_parser.parse("sum by (loop (x)")


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_has_an_urgency_a_summary_and_a_section_of_the_runbook(
    rule: dict[str, Any],
) -> None:
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert rule["annotations"]["summary"]
    page, anchor = rule["annotations"]["runbook_url"].split("#")
    text = (ROOT / page).read_text(encoding="utf-8")
    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
    heading = next(h for h in headings if h.lower().replace(" ", "-").rstrip("?") == anchor)
    assert f"| `{rule['alert']}` | [{heading}](#{anchor}) |" in text


def test_each_invariant_has_one_alert() -> None:
    alerts: dict[str, list[str]] = {name: [] for name in BY_NAME}
    for rule in RULES:
        for selector in selectors(rule["expr"]):
            if selector.name == "prepaid_invariant_ok":
                (matcher,) = selector.matchers.matchers
                for name, fired_by in alerts.items():
                    listed = name in matcher.value.split("|")
                    if listed != ("!" in rule["expr"]):
                        fired_by.append(rule["alert"])
    assert {name: len(fired_by) for name, fired_by in alerts.items()} == dict.fromkeys(BY_NAME, 1)


@pytest.mark.parametrize("invariant", BY_NAME.values(), ids=lambda invariant: invariant.name)
def test_an_invariant_has_a_section_and_a_line_in_the_runbook(invariant: Any) -> None:
    text = (ROOT / "docs/runbook.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert invariant.anchor in {heading.lower().replace(" ", "-") for heading in headings}
    assert f"| `{invariant.name}` |" in text
    assert invariant.statement.endswith(".")
    assert invariant.remedy.endswith(".")


def test_the_dashboard_shows_every_metric_but_those_that_only_alerts_use() -> None:
    shown = {
        re.sub(r"_bucket$", "", selector.name)
        for panel in PANELS
        for target in panel["targets"]
        for selector in selectors(target["expr"])
    }
    families = {re.sub(r"_(bucket|count)$", "", name) for name in EXPOSED}
    assert families - shown == {
        "prepaid_measurement_failures_total",
        "prepaid_queue_jobs_refused_total",
    }


def test_panels_of_the_dashboard_do_not_overlap() -> None:
    cells = [
        (x, y)
        for panel in DASHBOARD["panels"]
        for place in [panel["gridPos"]]
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_absence_is_asked_only_of_what_every_process_exposes_without_a_label() -> None:
    """`absent(prepaid_inbox_backlog)` never fired: web exposes it too, with no worker there."""
    asked = {name for rule in RULES for name in re.findall(r"absent\((\w+)", rule["expr"])}
    assert asked == {"prepaid_workers"}
    assert EXPOSED["prepaid_workers"] == set()


def test_one_alert_fires_when_no_worker_runs_within_half_a_minute() -> None:
    """R13: a heartbeat is stale after 20 s, a measurement is 3 s old at most."""
    (rule,) = (rule for rule in RULES if rule["alert"] == "PrepaidNoWorker")
    assert rule["expr"] == "max(prepaid_workers) < 1"
    assert "for" not in rule
