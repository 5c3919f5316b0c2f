"""Disputes: answered with Stripe's test evidence they are won or lost.

https://docs.stripe.com/testing#evidence
"""

from typing import Final

from sandbox.stripe import charges, errors, events, lists
from sandbox.stripe.call import Call
from sandbox.stripe.params import Kind, Params, Shape, merge_metadata
from sandbox.stripe.store import Json

UPDATE: Final[Shape] = {
    "evidence": Kind.FREE,
    "expand": Kind.TEXTS,
    "metadata": Kind.METADATA,
    "submit": Kind.BOOLEAN,
}
LIST: Final[Shape] = {**lists.SHAPE, "charge": Kind.TEXT, "payment_intent": Kind.TEXT}
WINNING: Final = "winning_evidence"
LOSING: Final = "losing_evidence"


def retrieve(call: Call, _params: Params, dispute_id: str) -> Json:
    """GET /v1/disputes/{id}."""
    return call.load("dispute", dispute_id)


def update(call: Call, params: Params, dispute_id: str) -> Json:
    """POST /v1/disputes/{id}: `winning_evidence` wins it, `losing_evidence` loses it."""
    dispute = _open(call, dispute_id)
    evidence = params.get("evidence", {})
    dispute["evidence"] |= evidence
    dispute["evidence_details"] |= {"has_evidence": bool(evidence)}
    dispute["metadata"] = merge_metadata(dispute["metadata"], params.get("metadata"))
    if evidence and params.get("submit", True):
        dispute["evidence_details"]["submission_count"] += 1
        dispute["status"] = "under_review"
    call.store.save(dispute)
    events.emit(call, "charge.dispute.updated", dispute)
    decision = evidence.get("uncategorized_text")
    if dispute["status"] == "under_review" and decision in {WINNING, LOSING}:
        return _conclude(call, dispute, won=decision == WINNING)
    return dispute


def close(call: Call, _params: Params, dispute_id: str) -> Json:
    """POST /v1/disputes/{id}/close: give in."""
    return _conclude(call, _open(call, dispute_id), won=False)


def decide(call: Call, dispute_id: str, *, won: bool) -> Json:
    """Let the bank end a dispute; whoever wins has answered it before."""
    dispute = _open(call, dispute_id)
    if won and "needs_response" in dispute["status"]:
        previous = {"status": dispute["status"]}
        dispute["status"] = dispute["status"].replace("needs_response", "under_review")
        dispute["evidence_details"] |= {"has_evidence": True, "submission_count": 1}
        call.store.save(dispute)
        events.emit(call, "charge.dispute.updated", dispute, previous)
    return _conclude(call, dispute, won=won)


def list_all(call: Call, params: Params) -> Json:
    """GET /v1/disputes."""
    equal = lists.filters(params, "charge", "payment_intent")
    return lists.page(call, params, "dispute", "/v1/disputes", equal=equal)


def _open(call: Call, dispute_id: str) -> Json:
    dispute = retrieve(call, {}, dispute_id)
    if dispute["status"] in {"won", "lost", "warning_closed"}:
        raise errors.invalid(f"This dispute is already closed: it was {dispute['status']}.")
    return dispute


def _conclude(call: Call, dispute: Json, *, won: bool) -> Json:
    withdrawn = bool(dispute["balance_transactions"])
    if withdrawn:
        dispute["status"] = "won" if won else "lost"
    else:
        dispute["status"] = "warning_closed"
    if won and withdrawn:
        charge = call.load("charge", dispute["charge"])
        movement = charges.balance_transaction(
            call, "adjustment", dispute["id"], dispute["amount"], charge
        )
        dispute["balance_transactions"].append(movement)
    call.store.save(dispute)
    events.emit(call, "charge.dispute.closed", dispute)
    if won and withdrawn:
        events.emit(call, "charge.dispute.funds_reinstated", dispute)
    return dispute
