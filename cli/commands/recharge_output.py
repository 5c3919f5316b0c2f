"""The output of `prepaid recharge`: JSON documents, and lines of text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cli.output import cell, table

if TYPE_CHECKING:
    import asyncpg

COLUMNS = ("slug", "state", "reason", "threshold", "monthCredits", "monthlyCap", "attempt")
ATTEMPT_COLUMNS = ("createdAt", "state", "trigger", "amount", "currency", "reason", "detail")
# What ends each suspension, for the output.
ENDS = {
    "declines": "another card, or prepaid recharge resume",
    "cap": "the next month, a higher cap, or prepaid recharge resume",
    "dispute": "prepaid recharge resume, once you trust this customer again",
    "fraud_warning": "prepaid recharge resume, once you have looked at the payment",
    "no_card": "a card on file",
    "authentication_expired": "another card, or prepaid recharge resume",
    "inquiry": "the inquiry's end, or prepaid recharge resume",
    "refunded": "the customer's next purchase, or prepaid recharge resume",
    "charge_refused": "a fix of what Stripe refused, then prepaid recharge resume",
    "customer_deleted": "a new Stripe customer with a card, then prepaid recharge resume",
    "operator": "prepaid recharge resume",
}


def recharge_document(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the JSON document of an organization's auto-recharge."""
    return {
        "organizationId": str(row["organization_id"]),
        "slug": row["slug"],
        "state": row["state"],
        "reason": row["reason"],
        "detail": row["detail"],
        "endsWith": ENDS.get(row["reason"] or row["held_reason"]),
        "heldReason": row["held_reason"],
        "heldDetail": row["held_detail"],
        "suspendedUntil": row["suspended_until"],
        "balance": row["balance"],
        "currency": row["currency"],
        "threshold": row["threshold"],
        "amount": row["amount"],
        "target": row["target"],
        "schedule": row["schedule"],
        "scheduleDay": row["schedule_day"],
        "scheduleAmount": row["schedule_amount"],
        "nextRunAt": row["next_run_at"],
        "monthlyCap": row["monthly_cap"],
        "monthlyCountCap": row["monthly_count_cap"],
        "monthCredits": row["month_credits"],
        "monthCount": row["month_count"],
        "pauseSecondsMin": row["pause_seconds_min"],
        "declinesInRow": row["declines_in_row"],
        "notBefore": row["not_before"],
        "consentedBy": row["consented_by"],
        "consentedAt": row["consented_at"],
        "attempt": row["live_state"],
        "attemptId": str(row["live_id"]) if row["live_id"] else None,
    }


def attempt_document(row: asyncpg.Record) -> dict[str, Any]:
    """Return the JSON document of an attempt."""
    return {
        "id": str(row["id"]),
        "state": row["state"],
        "trigger": row["trigger"],
        "amount": row["amount"],
        "amountMinor": row["amount_minor"],
        "currency": row["currency"],
        "paymentIntentId": row["payment_intent_id"],
        "reason": row["reason"],
        "detail": row["detail"],
        "declineCode": row["decline_code"],
        "networkAdvice": row["network_advice"],
        "tries": row["tries"],
        "blockedBy": row["blocked_by"],
        "dueAt": row["due_at"],
        "createdAt": row["created_at"],
        "chargedAt": row["charged_at"],
        "settledAt": row["settled_at"],
    }


def state_line(document: dict[str, Any]) -> str:
    """Return a line with the state, its reason and what ends it."""
    line = f"{document['slug']}: {document['state']}"
    if document["reason"]:
        line += f" ({document['reason']}: {document['detail']}). Ends with {document['endsWith']}."
    elif document["heldReason"]:
        reason = f"{document['heldReason']}: {document['heldDetail']}"
        line += f"; suspended when it is turned on ({reason}). Ends with {document['endsWith']}."
    return line


def show_lines(document: dict[str, Any]) -> str:
    """Return the lines of `prepaid recharge show`."""
    hidden = {
        "attempts",
        "slug",
        "state",
        "reason",
        "detail",
        "endsWith",
        "heldReason",
        "heldDetail",
    }
    facts = [f"  {name}: {cell(value)}" for name, value in document.items() if name not in hidden]
    attempts = table(
        ATTEMPT_COLUMNS,
        [[row[c] for c in ATTEMPT_COLUMNS] for row in document["attempts"]],
        empty="no attempts yet",
    )
    return "\n".join([state_line(document), *facts, "", attempts])
