"""The one table of transaction types: what each client shape calls them, and what may be posted."""

from __future__ import annotations

from dataclasses import dataclass

from shared.ledger.model import SystemAccount, TransactionType

T = TransactionType


@dataclass(frozen=True, slots=True)
class TypeNames:
    """What two client shapes call a type; `credit_transactions` and `transaction_list` rename none.

    `org_credits`: its `transaction_type`. `billing`: the `entryType` of its history.
    """

    org_credits: str
    billing: str


NAMES = {
    T.PURCHASE: TypeNames("purchase", "purchase"),
    T.RECHARGE: TypeNames("auto_refill", "recharge"),
    T.GRANT: TypeNames("signup_allocation", "initial_grant"),
    T.BONUS: TypeNames("signup_allocation", "bonus"),
    T.USAGE: TypeNames("usage", "charge"),
    T.ADJUSTMENT: TypeNames("admin_adjustment", "adjustment"),
    T.REFUND: TypeNames("refund", "refund"),
    T.DISPUTE: TypeNames("refund", "dispute"),
    T.DISPUTE_REVERSAL: TypeNames("admin_adjustment", "dispute_reversal"),
    T.EXPIRATION: TypeNames("admin_adjustment", "expiration"),
    T.VOID: TypeNames("admin_adjustment", "void"),
    T.HOLD_CAPTURE: TypeNames("usage", "charge"),
}

# org_credits distinguishes kinds of usage: the type of usage of these categories is its category.
USAGE_CATEGORIES = frozenset({"inference", "span_ingestion", "storage", "web_search"})
USAGE_TYPES = frozenset({T.USAGE, T.HOLD_CAPTURE})

# The types that a client may post, each with the account on the other side of the transfer.
POSTABLE = {
    T.GRANT: SystemAccount.PROMOTIONS,
    T.BONUS: SystemAccount.PROMOTIONS,
    T.USAGE: SystemAccount.REVENUE,
    T.ADJUSTMENT: SystemAccount.ADJUSTMENTS,
}

# Promotional credits burn before purchased ones of the same priority.
PROMOTIONAL = frozenset({T.GRANT, T.BONUS})


def org_credit_type(transaction_type: str, category: str | None) -> str:
    """Return the `transaction_type` of a ledger row in the shape `org_credits`."""
    if transaction_type in USAGE_TYPES and category in USAGE_CATEGORIES:
        return category
    return NAMES[T(transaction_type)].org_credits


def entry_type(transaction_type: str) -> str:
    """Return the `entryType` of a ledger row in the history of the shape `billing`."""
    return NAMES[T(transaction_type)].billing
