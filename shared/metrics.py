"""The Prometheus metrics. Their names and labels are part of the public interface."""

from __future__ import annotations

import math

from prometheus_client import Counter, Gauge, Histogram

_LATENCY_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60)

WEBHOOK_EVENTS = Counter(
    "prepaid_webhook_events",
    "Deliveries to the webhook endpoint, by result.",
    ["result"],
)
WEBHOOK_ACK_SECONDS = Histogram(
    "prepaid_webhook_ack_seconds",
    "Time from a delivery's first byte to the response.",
    buckets=_LATENCY_SECONDS,
)
INBOX_BACKLOG = Gauge("prepaid_inbox_backlog", "Events that are not settled, by state.", ["state"])
INBOX_OLDEST_SECONDS = Gauge(
    "prepaid_inbox_oldest_seconds", "Age of the oldest event that is due and not settled."
)
EVENT_TO_LEDGER_SECONDS = Histogram(
    "prepaid_event_to_ledger_seconds",
    "Time from an event's receipt to the commit of its effect.",
    buckets=_LATENCY_SECONDS,
)
LEDGER_POSTINGS = Counter(
    "prepaid_ledger_postings",
    "Ledger postings, by transaction type and result.",
    ["type", "result"],
)
RETENTION_CLEARED = Counter(
    "prepaid_retention_cleared",
    "Rows whose contents were cleared after their retention, by kind.",
    ["kind"],
)
RETENTION_OLDEST_SECONDS = Gauge(
    "prepaid_retention_oldest_seconds",
    "Age of the oldest row that a retention has still to clear, by kind.",
    ["kind"],
)
RECONCILE_DRIFT = Gauge(
    "prepaid_reconcile_drift",
    "Differences to Stripe that the last reconciliation found and did not repair, by kind.",
    ["kind"],
)
RECONCILE_AGE_SECONDS = Gauge(
    "prepaid_reconcile_age_seconds",
    "Time since the start of the last reconciliation that finished; infinite where none has.",
)
INVARIANT_OK = Gauge(
    "prepaid_invariant_ok",
    "1 where the last check of an invariant found no problem, else 0.",
    ["name"],
)
OUTBOUND_MESSAGES = Counter(
    "prepaid_outbound_messages",
    "Attempts to send messages to the customer's app, by type and result.",
    ["type", "result"],
)
OUTBOUND_BACKLOG = Gauge(
    "prepaid_outbound_backlog", "Messages that are not delivered, by state.", ["state"]
)
RECHARGE_ATTEMPTS = Counter(
    "prepaid_recharge_attempts", "Recharge attempts, by outcome.", ["outcome"]
)
RECHARGE_ATTEMPTS_BLOCKED = Gauge(
    "prepaid_recharge_attempts_blocked",
    "Recharge attempts that wait because Stripe refuses this installation's key.",
)
STRIPE_REQUESTS = Counter(
    "prepaid_stripe_requests",
    "Requests to Stripe about charges, by response status.",
    ["method", "status"],
)
QUEUE_JOBS_REFUSED = Counter(
    "prepaid_queue_jobs_refused", "Jobs in Redis that are no wakeup of ours, by reason.", ["reason"]
)
HTTP_CONNECTIONS = Gauge("prepaid_http_connections", "Connections that this process serves.")
EVENT_LOOP_LAG_SECONDS = Gauge(
    "prepaid_event_loop_lag_seconds",
    "Longest delay of a timer in this process within the last minute.",
)
LOOP_FAILURES = Counter(
    "prepaid_loop_failures", "Iterations of a worker's loops that failed unexpectedly.", ["loop"]
)
WORKERS = Gauge("prepaid_workers", "Worker processes whose heartbeat is fresh.")
WORKER_HEARTBEAT_AGE_SECONDS = Gauge(
    "prepaid_worker_heartbeat_age_seconds",
    "Time since the last heartbeat of a loop, in any worker.",
    ["loop"],
)
WORKER_LOOPS_FAILING = Gauge(
    "prepaid_worker_loops_failing", "Worker loops whose last iteration failed unexpectedly."
)
MEASUREMENT_AGE_SECONDS = Gauge(
    "prepaid_measurement_age_seconds", "Time since the database gauges were last measured."
)
MEASUREMENT_FAILURES = Counter(
    "prepaid_measurement_failures", "Measurements of the database that failed or took too long."
)

# Measured in the database before each scrape.
MEASURED = (
    INBOX_BACKLOG,
    INBOX_OLDEST_SECONDS,
    INVARIANT_OK,
    OUTBOUND_BACKLOG,
    RECHARGE_ATTEMPTS_BLOCKED,
    WORKERS,
    WORKER_HEARTBEAT_AGE_SECONDS,
    WORKER_LOOPS_FAILING,
)


def clear_measured() -> None:
    """Stop exporting outdated values: labelled series are removed, other gauges become NaN."""
    for gauge in MEASURED:
        if gauge._labelnames:  # noqa: SLF001 - the library has no public way to tell
            gauge.clear()
        else:
            gauge.set(math.nan)
