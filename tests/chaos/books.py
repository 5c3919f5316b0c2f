"""The two sets of books that the audit compares: Stripe's, and the product's."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from decimal import ROUND_FLOOR, Decimal
from typing import Any

QUANTUM = Decimal("1e-9")
CREDITS = frozenset({"purchase", "recharge"})
CLOSED = frozenset({"won", "lost", "warning_closed"})  # of disputes
RETURNING = frozenset({"succeeded", "pending", "requires_action"})  # of refunds


@dataclass(frozen=True, slots=True)
class Payment:
    """A captured payment at Stripe. `credits` is what it buys before anything is returned."""

    id: str
    organization: str
    gross_minor: int
    credits: Decimal
    returned_minor: int = 0
    attempt: str | None = None
    purchase: str | None = None
    captures: int = 1  # succeeded charges
    invoice: str | None = None
    refunds: int = 0

    @property
    def level(self) -> Decimal:
        """The credits that are left of it: the returned share of the gross amount is taken back."""
        if self.returned_minor >= self.gross_minor:
            return Decimal(0)
        share = self.credits * self.returned_minor / self.gross_minor
        return self.credits - share.quantize(QUANTUM, ROUND_FLOOR)


@dataclass(frozen=True, slots=True)
class Dispute:
    """A dispute or an inquiry at Stripe."""

    id: str
    is_closed: bool
    payment: str = ""
    is_inquiry: bool = False  # and nothing more, so far
    takes: bool = False  # it is lost, or has withdrawn funds and is open


@dataclass(frozen=True, slots=True)
class Rule:
    """The auto-recharge of an organization, as it stands."""

    organization: str
    state: str
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A ledger row."""

    organization: str
    seq: int
    type: str
    amount: Decimal
    balance_after: Decimal
    key: str
    payment: str | None = None
    hold: str | None = None
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Account:
    """An account, as it stands."""

    organization: str
    balance: Decimal
    held: Decimal
    last_seq: int
    low_below: Decimal | None = None  # the threshold of its messages


@dataclass(frozen=True, slots=True)
class Grant:
    """Credits that a row has added, as they stand."""

    organization: str
    id: str
    seq: int
    spent: bool
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Hold:
    """A hold, as it stands."""

    organization: str
    id: str
    key: str
    status: str
    amount: Decimal
    captured: Decimal


@dataclass(frozen=True, slots=True)
class Attempt:
    """A recharge attempt or top-up, as it stands."""

    organization: str
    id: str
    state: str
    trigger: str
    payment: str | None


@dataclass(frozen=True, slots=True)
class Event:
    """A Stripe event, as it stands in the inbox."""

    id: str
    state: str
    reason: str | None = None
    received_at: datetime | None = None
    settled_at: datetime | None = None

    @property
    def seconds(self) -> float:
        """How long it took from its receipt to its final state."""
        if self.received_at is None or self.settled_at is None:
            return 0.0
        return (self.settled_at - self.received_at).total_seconds()


@dataclass(frozen=True, slots=True)
class Message:
    """A message to the customer's app, as it stands."""

    id: str
    type: str
    state: str
    organization: str = ""
    data: dict[str, Any] = field(default_factory=dict)
    cause: int | None = None  # the seq of the row that caused one about a balance


@dataclass(frozen=True, slots=True)
class StripeBooks:
    """What Stripe captured, returned and refused; `refused` has the error codes by attempt."""

    payments: dict[str, Payment] = field(default_factory=dict)
    disputes: dict[str, Dispute] = field(default_factory=dict)
    refused: dict[str, set[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ProductBooks:
    """What the product has on record. `overdue` names what is past its deadline, and why."""

    rows: list[Row] = field(default_factory=list)
    accounts: list[Account] = field(default_factory=list)
    holds: list[Hold] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    events: dict[str, Event] = field(default_factory=dict)
    messages: list[Message] = field(default_factory=list)
    overdue: list[str] = field(default_factory=list)
    grants: list[Grant] = field(default_factory=list)
    rules: list[Rule] = field(default_factory=list)


async def read_stripe(client: Any) -> StripeBooks:
    """Read Stripe's books through its API, page by page."""
    v1 = client.v1
    disputes = [dispute async for dispute in _all(v1.disputes)]
    refunds = [refund async for refund in _all(v1.refunds) if refund["status"] in RETURNING]
    returned = _returned(refunds, disputes)
    refunded = Counter(str(refund["payment_intent"]) for refund in refunds)
    captures: Counter[str] = Counter()
    refused: dict[str, set[str]] = {}
    async for charge in _all(v1.charges):
        attempt = charge["metadata"].get("recharge_attempt_id")
        if charge["status"] == "succeeded":
            captures[str(charge["payment_intent"])] += 1
        elif attempt is not None:
            refused.setdefault(attempt, set()).add(str(charge["failure_code"]))
    sessions = {
        str(session["payment_intent"]): session
        async for session in _all(v1.checkout.sessions)
        if session["payment_intent"]
    }
    invoices = await _paid_invoices(v1)
    payments = {}
    async for intent in _all(v1.payment_intents):
        if intent["status"] != "succeeded":
            continue
        name, metadata = str(intent["id"]), {**intent["metadata"]}
        invoice = invoices.get(name)
        if invoice is not None:
            metadata = {**invoice["metadata"]}
        credits_ = (
            Decimal(metadata["prepaid_credits"])
            if invoice is not None
            else _net_minor(intent, sessions.get(name)) / Decimal(100)
        )
        payments[name] = Payment(
            name,
            metadata["organization_id"],
            intent["amount_received"],
            credits_,
            returned[name],
            metadata.get("recharge_attempt_id"),
            metadata.get("purchase_id"),
            captures[name],
            None if invoice is None else str(invoice["id"]),
            refunded[name],
        )
    return StripeBooks(payments, {str(each["id"]): _dispute(each) for each in disputes}, refused)


def _dispute(found: Any) -> Dispute:
    status = found["status"]
    is_inquiry = status.startswith("warning_")
    return Dispute(
        str(found["id"]),
        status in CLOSED,
        str(found["payment_intent"]),
        is_inquiry,
        takes=not is_inquiry and status != "won",
    )


def _net_minor(intent: Any, session: Any) -> int:
    """Return the price without tax: what a session's total says, else all that was captured."""
    if session is None:
        return int(intent["amount_received"])
    return int(session["amount_total"]) - int(session["total_details"]["amount_tax"])


def _returned(refunds: list[Any], disputes: list[Any]) -> Counter[str]:
    """Return what went back of each payment: refunds, and what disputes withdrew and still hold."""
    returned: Counter[str] = Counter()
    for refund in refunds:
        returned[str(refund["payment_intent"])] += refund["amount"]
    for dispute in disputes:
        moved = sum(movement["amount"] for movement in dispute["balance_transactions"])
        returned[str(dispute["payment_intent"])] -= moved
    return returned


async def _paid_invoices(v1: Any) -> dict[str, Any]:
    """Return paid invoices by the PaymentIntent that paid each."""
    invoices = {str(i["id"]): i async for i in _all(v1.invoices) if i["status"] == "paid"}
    found = {}
    async for payment in _all(v1.invoice_payments):
        invoice = invoices.get(str(payment["invoice"]))
        name = payment["payment"].get("payment_intent")
        if invoice is not None and name is not None and payment["status"] == "paid":
            found[str(name)] = invoice
    return found


async def _all(service: Any) -> Any:
    """Iterate over every object of a list."""
    page = await service.list_async({"limit": 100})
    async for found in page.auto_paging_iter():
        yield found.to_dict()


async def read_product(connection: Any) -> ProductBooks:
    """Read the product's books in one snapshot."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        rows = await connection.fetch(
            "SELECT organization_id::text AS organization, seq, type, amount, balance_after,"
            " idempotency_key AS key, payment_intent_id AS payment, hold_id::text AS hold,"
            " created_at AS at"
            " FROM credit_transactions ORDER BY organization_id, seq"
        )
        accounts = await connection.fetch(
            "SELECT organization_id::text AS organization, balance, held, last_seq, low_below"
            " FROM accounts"
        )
        holds = await connection.fetch(
            "SELECT organization_id::text AS organization, id::text AS id, idempotency_key AS key,"
            " status, amount, captured_amount AS captured FROM holds"
        )
        attempts = await connection.fetch(
            "SELECT organization_id::text AS organization, id::text AS id, state, trigger,"
            " payment_intent_id AS payment FROM recharge_attempts"
        )
        events = await connection.fetch(
            "SELECT id, state, reason, received_at, settled_at FROM stripe_events"
        )
        messages = await connection.fetch(MESSAGES)
        overdue = await connection.fetch(OVERDUE)
        grants = await connection.fetch(
            "SELECT organization_id::text AS organization, id::text AS id, seq, spent, expires_at"
            " FROM credit_grants"
        )
        rules = await connection.fetch(
            "SELECT organization_id::text AS organization, state, reason FROM auto_recharges"
        )
    return ProductBooks(
        [Row(**row) for row in rows],
        [Account(**row) for row in accounts],
        [Hold(**row) for row in holds],
        [Attempt(**row) for row in attempts],
        {row["id"]: Event(**row) for row in events},
        [Message(**{**row, "data": json.loads(row["data"])}) for row in messages],
        [f"{row['what']} is due since {row['due']:%H:%M:%S}" for row in overdue],
        [Grant(**row) for row in grants],
        [Rule(**row) for row in rules],
    )


# The id of a message about a balance is made from the row that caused it.
MESSAGES = """
SELECT
    replace(m.id::text, '-', '') AS id,
    m.type,
    m.state,
    m.organization_id::text AS organization,
    d.data::text,
    r.seq AS cause
FROM outbound_messages AS m
CROSS JOIN LATERAL (SELECT m.payload::jsonb -> 'data' AS data) AS d
LEFT JOIN credit_transactions AS r
    ON
        m.organization_id = r.organization_id
        AND m.type IN ('credits.low', 'credits.depleted', 'credits.recovered')
        AND m.id = md5(
            m.type || r.id || coalesce((d.data ->> 'threshold')::numeric(38, 9)::text, '')
        )::uuid
"""
# What should have moved by itself: the worker's loops look every second, for expirations every five
# and for purchases every minute.
OVERDUE = """
SELECT 'the event ' || id || ' (' || state || ')' AS what, available_at AS due
FROM stripe_events
WHERE state IN ('received', 'retrying') AND available_at < now() - interval '5 seconds'
UNION ALL
SELECT 'the attempt ' || id || ' (' || state || ')', due_at
FROM recharge_attempts
WHERE settled_at IS NULL AND due_at < now() - interval '5 seconds'
UNION ALL
SELECT 'an expiration of ' || organization_id, next_due_at
FROM accounts
WHERE next_due_at < now() - interval '15 seconds'
UNION ALL
SELECT 'the purchase ' || id, closes_at
FROM purchases
WHERE state = 'open' AND closes_at < now() - interval '90 seconds'
UNION ALL
SELECT 'the message ' || id, available_at
FROM outbound_messages
WHERE state = 'pending' AND available_at < now() - interval '5 seconds'
"""
# What a run waits for at its end, by kind: all of it ends by itself.
OPEN = """
SELECT
    (SELECT count(*) FROM stripe_events WHERE state IN ('received', 'retrying')) AS events,
    (
        SELECT count(*) FROM recharge_attempts
        WHERE
            blocked_by IS NULL
            AND (
                state IN ('charging', 'unknown')
                -- After a decline the next attempt waits for an hour.
                OR (state = 'armed' AND due_at < now() + interval '1 minute')
            )
    ) AS attempts,
    (SELECT count(*) FROM holds WHERE status = 'active') AS holds,
    (
        SELECT count(*) FROM credit_grants WHERE expires_at IS NOT NULL AND NOT spent
    ) AS grants_that_expire
"""
