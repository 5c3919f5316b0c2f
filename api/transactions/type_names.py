"""What a transfer's type is called on each surface: the one table of it."""

from __future__ import annotations

from dataclasses import dataclass

from shared.ledger.model import SystemAccount, TransactionType

T = TransactionType


@dataclass(frozen=True, slots=True)
class Names:
    """The names of one type. The ledger's own is the name on surfaces A and D."""

    b: str
    c: str


NAMES = {
    T.PURCHASE: Names("purchase", "purchase"),
    T.RECHARGE: Names("auto_refill", "recharge"),
    T.GRANT: Names("signup_allocation", "initial_grant"),
    T.BONUS: Names("signup_allocation", "bonus"),
    T.USAGE: Names("usage", "charge"),
    T.ADJUSTMENT: Names("admin_adjustment", "adjustment"),
    T.REFUND: Names("refund", "refund"),
    T.DISPUTE: Names("refund", "dispute"),
    T.DISPUTE_REVERSAL: Names("admin_adjustment", "dispute_reversal"),
    T.EXPIRATION: Names("admin_adjustment", "expiration"),
    T.VOID: Names("admin_adjustment", "void"),
    T.HOLD_CAPTURE: Names("usage", "charge"),
}

# Surface B tells usage apart by what was used: a category of one of these names is its own type.
USAGE_CATEGORIES = frozenset({"inference", "span_ingestion", "storage", "web_search"})
USAGE_TYPES = frozenset({T.USAGE, T.HOLD_CAPTURE})

# What a client may post, and the account on the other side.
POSTABLE = {
    T.GRANT: SystemAccount.PROMOTIONS,
    T.BONUS: SystemAccount.PROMOTIONS,
    T.USAGE: SystemAccount.REVENUE,
    T.ADJUSTMENT: SystemAccount.ADJUSTMENTS,
}

# What is given and not bought: it burns before what was paid for, where their priorities are equal.
PROMOTIONAL = frozenset({T.GRANT, T.BONUS})


def org_credit_type(kind: str, category: str | None) -> str:
    """Return what surface B calls a row."""
    if kind in USAGE_TYPES and category in USAGE_CATEGORIES:
        return category
    return NAMES[T(kind)].b


def entry_type(kind: str) -> str:
    """Return what surface C calls a row."""
    return NAMES[T(kind)].c
