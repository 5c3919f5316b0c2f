"""The rows of one organization's auto-recharge, as immutable values."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

from shared.recharge.model import FINAL_STATES, AttemptState
from tests.explorer.stepping import Remembered, Row

ORGANIZATION = UUID(int=0xA)
BEGINNING = datetime(2026, 3, 2, 12, tzinfo=UTC)
THRESHOLD, AMOUNT = Decimal(10), Decimal(20)
CUSTOMER = "cus_1"
FIRST_CARD, SECOND_CARD = "pm_1", "pm_2"
ATTEMPTS_MAX = 2


@dataclass(frozen=True, kw_only=True)
class Attempt(Remembered):
    """A row of `recharge_attempts`. `lease` is the process whose token it has.

    `lease_over`: another process may lease it. `amount` is None until it is decided.
    """

    __hash__ = Remembered.__hash__

    number: int
    created_at: datetime
    trigger: str = "threshold"
    state: AttemptState = AttemptState.ARMED
    amount: Decimal | None = None
    amount_minor: int | None = None
    charged_at: datetime | None = None
    method: str | None = None
    create_key: int = 1
    intent: str | None = None
    link_expires_at: datetime | None = None
    reason: str | None = None
    decline_code: str | None = None
    blocked_by: str | None = None
    lease: str | None = None
    lease_over: bool = False
    tries: int = 0

    @property
    def id(self) -> UUID:
        return UUID(int=self.number)

    @property
    def is_live(self) -> bool:
        return self.state not in FINAL_STATES

    @property
    def can_be_leased(self) -> bool:
        """Whether a process may lease it. It may be due at any time: no wait is exact."""
        return self.is_live and (self.lease is None or self.lease_over)

    def row(self, **more: object) -> Row:
        """Return it as a result of its table."""
        return Row(
            organization_id=ORGANIZATION,
            id=self.id,
            trigger=self.trigger,
            state=self.state,
            created_at=self.created_at,
            amount=self.amount,
            amount_minor=self.amount_minor,
            currency="usd",
            customer_id=CUSTOMER,
            payment_method_id=self.method,
            payment_method_type="card",
            charged_at=self.charged_at,
            stripe_account="",
            create_key=self.create_key,
            payment_intent_id=self.intent,
            link_expires_at=self.link_expires_at,
            reason=self.reason,
            decline_code=self.decline_code,
            network_advice=None,
            blocked_by=self.blocked_by,
            tries=self.tries,
            needed=None,
            **more,
        )


class Reversed(NamedTuple):
    """What refunds and disputes took back of a payment, in how many rows, by which answer."""

    payment: str
    credits: Decimal = Decimal(0)
    rows: int = 0
    as_of: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Tables(Remembered):
    """What PostgreSQL has of one organization.

    `arms_below`: `accounts.recharge_below` is set. `ledger` has a key and an amount for each
    posting, `bound` the payments, `reversed` what was taken back of them, `disputes` their ids.
    `at_bound`: a third attempt would begin.
    `flaws` are writes that no invariant of the rows would show.
    """

    __hash__ = Remembered.__hash__

    attempts: tuple[Attempt, ...] = ()
    rule_state: str = "active"
    rule_reason: str | None = None
    suspended_until: datetime | None = None
    declines: int = 0
    not_before: datetime | None = None
    balance: Decimal = Decimal(5)
    waits: bool = False
    arms_below: bool = True
    method: str | None = FIRST_CARD
    cap: Decimal | None = None
    customer: str | None = CUSTOMER
    bound: tuple[tuple[str, int, Decimal], ...] = ()
    ledger: tuple[tuple[str, Decimal], ...] = ()
    reversed: tuple[Reversed, ...] = ()
    disputes: tuple[str, ...] = ()
    at_bound: bool = False
    flaws: tuple[str, ...] = ()

    @property
    def live(self) -> Attempt | None:
        """The live attempt: the last one, if it is live."""
        return self.attempts[-1] if self.attempts and self.attempts[-1].is_live else None

    def having(self, attempt: Attempt) -> Tables:
        """Return the rows with a changed attempt."""
        changed = tuple(attempt if a.number == attempt.number else a for a in self.attempts)
        return replace(self, attempts=changed)

    def reversed_of(self, payment: str) -> Reversed:
        """Return what was taken back of a payment; nothing, at first."""
        return next((one for one in self.reversed if one.payment == payment), Reversed(payment))

    def having_reversed(self, changed: Reversed) -> Tables:
        """Return the rows with a changed reversal."""
        others = tuple(one for one in self.reversed if one.payment != changed.payment)
        return replace(self, reversed=(*others, changed))

    def with_flaw(self, flaw: str) -> Tables:
        return self if flaw in self.flaws else replace(self, flaws=(*self.flaws, flaw))

    def armed(self, now: datetime) -> Tables:
        """Return the rows after an insert of an armed attempt, unless one is live."""
        if self.live is not None:
            return self
        if len(self.attempts) == ATTEMPTS_MAX:
            return replace(self, at_bound=True)
        attempt = Attempt(number=len(self.attempts) + 1, created_at=now)
        return replace(self, attempts=(*self.attempts, attempt))

    def arms(self, now: datetime) -> bool:
        """Whether a low balance arms an attempt: the condition of `arm_low`."""
        return (
            self.rule_state == "active"
            and self.arms_below
            and self.balance < THRESHOLD
            and not self.waits
            and (self.not_before is None or self.not_before <= now)
        )

    def used(self, credits_: Decimal, now: datetime) -> Tables:
        """Return the rows after usage: the debit arms in its own transaction."""
        after = replace(self, balance=self.balance - credits_, waits=False)
        return after.armed(now) if after.arms_below and after.balance < THRESHOLD else after
