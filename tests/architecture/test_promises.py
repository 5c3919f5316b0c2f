"""Names that operators and client apps rely on, as the code spells them."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

import prometheus_client
import pytest

from shared import metrics
from shared.inbox.model import EventState
from shared.ledger.model import TransactionType
from shared.outbound.model import MessageState, MessageType

if TYPE_CHECKING:
    from shared.db.pool import Connection

# Each metric with the labels that are promised for it.
PROMISED_METRICS = {
    "prepaid_webhook_events_total": ("result",),
    "prepaid_webhook_ack_seconds": (),
    "prepaid_inbox_backlog": ("state",),
    "prepaid_inbox_oldest_seconds": (),
    "prepaid_event_to_ledger_seconds": (),
    "prepaid_ledger_postings_total": ("type", "result"),
    "prepaid_outbound_messages_total": ("type", "result"),
    "prepaid_outbound_backlog": ("state",),
    "prepaid_recharge_attempts_total": ("outcome",),
    "prepaid_recharge_attempts_blocked": (),
    "prepaid_stripe_requests_total": ("method", "status"),
    "prepaid_queue_jobs_refused_total": ("reason",),
    "prepaid_http_connections": (),
    "prepaid_event_loop_lag_seconds": (),
    "prepaid_loop_failures_total": ("loop",),
    "prepaid_workers": (),
    "prepaid_worker_heartbeat_age_seconds": ("loop",),
    "prepaid_worker_loops_failing": (),
    "prepaid_measurement_age_seconds": (),
    "prepaid_measurement_failures_total": (),
    "prepaid_reconcile_drift": ("kind",),
    "prepaid_reconcile_age_seconds": (),
    "prepaid_retention_cleared_total": ("kind",),
    "prepaid_retention_oldest_seconds": ("kind",),
    "prepaid_invariant_ok": ("name",),
}
PROMISED_TABLES = {
    "organizations": {"id", "slug"},
    "accounts": {"organization_id", "balance", "held"},
    "credit_transactions": {
        *("organization_id", "seq", "id", "type", "amount"),
        *("balance_after", "idempotency_key", "created_at"),
    },
    "stripe_events": {"id", "type", "state", "attempts"},
    "outbound_messages": {
        *("id", "endpoint_id", "organization_id", "type", "payload", "state", "attempts"),
        *("created_at", "settled_at", "last_status", "reason"),
    },
    "audit_log": {"id"},
    "api_keys": {"id"},
}


def own_metrics() -> dict[str, tuple[str, ...]]:
    """Return the metrics of shared/metrics.py under the names that they are scraped by."""
    found = {}
    for metric in vars(metrics).values():
        if isinstance(metric, prometheus_client.metrics.MetricWrapperBase):
            counter = isinstance(metric, prometheus_client.Counter)
            name = f"{metric._name}_total" if counter else metric._name  # noqa: SLF001
            found[name] = tuple(metric._labelnames)  # noqa: SLF001 - there is no other way to ask
    return found


def test_every_metric_is_one_that_was_promised_with_its_labels() -> None:
    found = own_metrics()
    assert found
    assert found == {name: PROMISED_METRICS.get(name) for name in found}


@pytest.mark.parametrize(
    ("words", "promised"),
    [
        (EventState, "received retrying applied ignored dead discarded quarantined"),
        (
            TransactionType,
            (
                "purchase recharge grant bonus usage adjustment refund dispute dispute_reversal"
                " expiration void hold_capture"
            ),
        ),
        (MessageState, "pending delivered dead discarded"),
        (
            MessageType,
            (
                "credits.low credits.recovered credits.depleted credits.expiring budget.reached"
                " purchase.completed"
                " recharge.succeeded recharge.failed recharge.requires_action recharge.suspended"
                " dispute.opened dispute.closed"
            ),
        ),
    ],
)
def test_the_words_that_are_stored_are_the_promised_ones(
    words: type[enum.StrEnum], promised: str
) -> None:
    assert sorted(words) == sorted(promised.split())


@pytest.mark.parametrize("table", PROMISED_TABLES)
async def test_a_table_that_operators_query_has_the_promised_columns(
    connection: Connection, table: str
) -> None:
    rows = await connection.fetch(
        "SELECT column_name FROM information_schema.columns WHERE table_name = $1", table
    )
    assert PROMISED_TABLES[table] <= {row["column_name"] for row in rows}


@pytest.mark.parametrize(
    ("table", "column", "words"),
    [
        ("stripe_events", "state", EventState),
        ("credit_transactions", "type", TransactionType),
        ("outbound_messages", "state", MessageState),
        ("outbound_messages", "type", MessageType),
        ("webhook_endpoints", "types", MessageType),
    ],
)
async def test_the_database_knows_the_same_words(
    connection: Connection, table: str, column: str, words: type[enum.StrEnum]
) -> None:
    constraint = f"{table}_{column}_known"
    definition = await connection.fetchval(
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = $1", constraint
    )
    assert set(definition.split("'")[1::2]) == set(words)
