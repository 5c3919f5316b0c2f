"""The alerting rules: each can fire, and the page names no other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped] # its stubs are not among the dependencies
from prometheus_client.metrics import MetricWrapperBase

from shared import metrics
from shared.inbox.model import EventState
from shared.outbound.model import MessageState

ROOT = Path(__file__).parents[2]
RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((ROOT / "docs/alerts.yml").read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
]
SELECTOR = re.compile(r"\b(prepaid_\w+)(?:\{([^}]*)\})?")
LABEL = re.compile(r"(\w+)(=~|!~|!=|=)\"([^\"]*)\"")
STATES = {str(state) for kind in (EventState, MessageState) for state in kind}


def exposed() -> dict[str, tuple[str, ...]]:
    """Return every series that a process exposes, with its labels."""
    found = {}
    for metric in vars(metrics).values():
        if isinstance(metric, MetricWrapperBase):
            for family in metric.describe():
                suffix = "_total" if family.type == "counter" else ""
                found[family.name + suffix] = tuple(metric._labelnames)  # noqa: SLF001
    return found


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_names_metrics_and_labels_that_exist(rule: dict[str, Any]) -> None:
    selectors = SELECTOR.findall(rule["expr"])
    assert selectors
    for name, labels in selectors:
        assert name in exposed()
        for label, _, value in LABEL.findall(labels):
            assert label in exposed()[name]
            assert label != "state" or value in STATES
    grouped = re.findall(r"by \((\w+)\)", rule["expr"])
    assert all(label in exposed()[selectors[0][0]] for label in grouped)
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert rule["annotations"]["summary"]


def test_absence_is_asked_only_of_what_every_process_exposes_without_a_label() -> None:
    """`absent(prepaid_inbox_backlog)` never fired: web exposes it too, with no worker there."""
    asked = {name for rule in RULES for name in re.findall(r"absent\((\w+)", rule["expr"])}
    assert asked == {"prepaid_workers"}
    assert exposed()["prepaid_workers"] == ()


def test_one_alert_fires_when_no_worker_runs_within_half_a_minute() -> None:
    """R13: a heartbeat is stale after 20 s, a measurement is 3 s old at most."""
    (rule,) = (rule for rule in RULES if rule["alert"] == "PrepaidNoWorker")
    assert rule["expr"] == "max(prepaid_workers) < 1"
    assert "for" not in rule
