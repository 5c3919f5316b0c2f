"""Types of the ledger: a posting requests a transfer, a result reports its outcome."""

from __future__ import annotations

import enum
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec


class TransactionType(enum.StrEnum):
    """Every kind of transfer. The names are stored and shown to clients."""

    __hash__ = str.__hash__  # that of enums is a Python function

    PURCHASE = "purchase"
    RECHARGE = "recharge"
    GRANT = "grant"
    BONUS = "bonus"
    USAGE = "usage"
    ADJUSTMENT = "adjustment"
    REFUND = "refund"
    DISPUTE = "dispute"
    DISPUTE_REVERSAL = "dispute_reversal"
    EXPIRATION = "expiration"
    VOID = "void"
    HOLD_CAPTURE = "hold_capture"


class SystemAccount(enum.StrEnum):
    """The other side of a transfer. It has no balance row, so only the customer's row is hot."""

    STRIPE = "stripe"
    PROMOTIONS = "promotions"
    REVENUE = "revenue"
    BREAKAGE = "breakage"
    ADJUSTMENTS = "adjustments"


class PostingStatus(enum.StrEnum):
    """The outcome of a posting. Only `posted` changed the ledger."""

    __hash__ = str.__hash__

    POSTED = "posted"
    REPLAYED = "replayed"
    CONFLICT = "conflict"
    INSUFFICIENT = "insufficient"
    BUDGET_EXCEEDED = "budget_exceeded"
    INVALID = "invalid"
    UNKNOWN_ORGANIZATION = "unknown_organization"
    CLOSED = "closed"
    UNKNOWN_GRANT = "unknown_grant"
    NOTHING_LEFT = "nothing_left"
    UNKNOWN_HOLD = "unknown_hold"
    HOLD_CLOSED = "hold_closed"
    EXCEEDS_HOLD = "exceeds_hold"


class Deferral(enum.Enum):
    """Why a shared batch left a posting out: undecided, to be posted separately."""

    BUSY = "busy"  # another transaction locks the organization's account
    HEAVY = "heavy"  # the organization would delay the others of the batch


class Posting(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A request for a transfer.

    `amount` is in credits, at most 9 decimals: positive for a credit, negative for a debit,
    None for a void (it takes whatever is left of the grant). `key` makes it
    idempotent within its organization; `digest` (of `rules.request_digest`) identifies the request:
    the same key with another digest is a conflict. By default it is made from the posting's fields.

    A credit opens a grant with `priority` (0 to 100, lower burns first), `promotional` and
    `expires_at`. A capture names its `hold_id`, a void its `grant_id`, a refund or dispute the
    `payment_intent_id` whose grants it takes from first. Voiding a purchased grant does not exempt
    it: a refund of the payment still takes its credits. `may_overdraw`: the usage has happened
    already, post it whatever the balance (for a capture: it may exceed its hold, if covered).
    Of a capture, `partial` leaves its hold open, and `past_limit` posts the excess whatever the
    balance.
    `key_id` and `request_id`: the API key and the request behind the posting, if any. `pricing`:
    how the amount of priced usage arose, to be stored with its row.
    """

    organization_id: UUID
    id: UUID
    type: TransactionType
    counterparty: SystemAccount
    key: str
    amount: Decimal | None = None
    digest: str | None = None
    effective_at: datetime | None = None
    description: str | None = None
    category: str | None = None
    quantity: Decimal | None = None
    user_id: str | None = None
    grant_id: UUID | None = None
    hold_id: UUID | None = None
    payment_intent_id: str | None = None
    metadata: dict[str, Any] | None = None
    priority: int | None = None
    promotional: bool | None = None
    expires_at: datetime | None = None
    may_overdraw: bool = False
    partial: bool = False
    past_limit: bool = False
    key_id: UUID | None = None
    request_id: str | None = None
    pricing: dict[str, Any] | None = None
    repeated: bool = False  # set by the store


class Shortfall(msgspec.Struct, frozen=True, kw_only=True):
    """The amounts of a refused debit or hold, in credits.

    `available` is what a debit could take: balance, less held, plus the overdraft limit, not below
    zero. `recharge_seconds`: a recharge is in progress; its next check is due in so many seconds.
    """

    required: Decimal
    available: Decimal
    balance: Decimal
    held: Decimal
    recharge_seconds: int | None = None


class BudgetShortfall(msgspec.Struct, frozen=True, kw_only=True):
    """The numbers of a budget that refuses a debit or hold, in credits.

    `used` and `held` are those of the subject in the current window, before the refused request.
    `resets_at` is the end of the window, None for one that never ends.
    """

    budget_id: UUID
    subject_kind: str
    subject: str
    window_kind: str
    limit: Decimal
    used: Decimal
    held: Decimal
    required: Decimal
    resets_at: datetime | None

    @property
    def available(self) -> Decimal:
        """What a debit may take until the window ends."""
        return max(self.limit - self.used - self.held, Decimal(0))


class PostedTransaction(msgspec.Struct, frozen=True, kw_only=True):
    """The row of a posting: written now (`posted`), or by the same request before (`replayed`)."""

    organization_id: UUID
    status: PostingStatus
    id: UUID
    seq: int
    amount: Decimal
    balance_after: Decimal
    created_at: datetime


class RefusedPosting(msgspec.Struct, frozen=True, kw_only=True):
    """A posting or hold that changed nothing; `status` is the reason."""

    organization_id: UUID
    status: PostingStatus


class InvalidPosting(RefusedPosting, frozen=True, kw_only=True):
    """`error` is a sentence (`field: what is wrong`)."""

    status: PostingStatus = PostingStatus.INVALID
    error: str


class InsufficientCredits(RefusedPosting, frozen=True, kw_only=True):
    """The available credits do not cover the debit or hold."""

    status: PostingStatus = PostingStatus.INSUFFICIENT
    shortfall: Shortfall


class BudgetExceeded(RefusedPosting, frozen=True, kw_only=True):
    """A budget refuses the debit or hold, whatever the balance."""

    status: PostingStatus = PostingStatus.BUDGET_EXCEEDED
    shortfall: BudgetShortfall


class KeyConflict(RefusedPosting, frozen=True, kw_only=True):
    """The key belongs to another request: of the row `id`, or (None) of a hold or other write."""

    status: PostingStatus = PostingStatus.CONFLICT
    id: UUID | None
    seq: int | None
    amount: Decimal
    balance_after: Decimal | None


PostingResult = PostedTransaction | RefusedPosting


class Balance(msgspec.Struct, frozen=True, kw_only=True):
    """The balance of an organization, the part on hold, and its overdraft limit."""

    balance: Decimal
    held: Decimal
    overdraft_limit: Decimal
    last_seq: int

    @property
    def available(self) -> Decimal:
        """The credits that a debit may take now."""
        return max(self.balance - self.held + self.overdraft_limit, Decimal(0))


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a debit, and the grant that paid for it. Without a grant: unpaid debt."""

    amount: Decimal
    grant_id: UUID | None
    grant_type: str | None
    payment_intent_id: str | None
    charge_id: str | None
    receipt_url: str | None


class Use(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a grant, and the debit that it paid for."""

    amount: Decimal
    transaction_id: UUID
    seq: int
    type: str
    created_at: datetime
