"""The invariants: one class for each rule that must always hold, with its query and its remedy.

The docstring of a class is what it states, for operators too.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from datetime import timedelta
from inspect import cleandoc
from typing import TYPE_CHECKING, Any, ClassVar
from uuid import UUID

from shared.db.queries import beside
from shared.inbox.model import Lane
from shared.ledger.verification import store as verification
from shared.recharge.states import DEADLINES

if TYPE_CHECKING:
    import asyncpg

    from shared.db.pool import Connection

QUERIES = beside(__file__)

LANES = list(Lane)

# Workers take what is due within seconds: after this time, none does.
DUE_MAX = timedelta(minutes=10)
# A receiver that times out delays its other messages, up to here.
MESSAGE_DUE_MAX = timedelta(hours=1)
# A state that waits for Stripe is looked at every hour.
DEADLINE_GRACE = timedelta(hours=2)
VERIFICATION_AGE_MAX = timedelta(days=2)

# Of an account, no more than its newest rows are summed, however long ago it was verified.
SUMMED_ROWS_MAX = 100_000

AccountCheck = Callable[
    ["Connection", Sequence[UUID], int], Coroutine[Any, Any, "list[asyncpg.Record]"]
]


async def zero_sum(
    connection: Connection,
    organization_ids: Sequence[UUID],
    limit: int,
    rows_max: int = SUMMED_ROWS_MAX,
) -> list[asyncpg.Record]:
    """Check balances against the sums of rows, of the newest `rows_max` of each account."""
    return await connection.fetch(QUERIES.zero_sum, organization_ids, limit, rows_max)


async def budget_counters(
    connection: Connection,
    organization_ids: Sequence[UUID],
    limit: int,
    rows_max: int = SUMMED_ROWS_MAX,
) -> list[asyncpg.Record]:
    """Check counters against rows and holds, where the window has at most `rows_max` rows."""
    return await connection.fetch(QUERIES.budget_counters, organization_ids, limit, rows_max)


class Invariant:
    """One rule that must always hold.

    `remedy` says what an operator does where it does not; `anchor` is the section of
    docs/runbook.md.
    """

    name: ClassVar[str]
    remedy: ClassVar[str]
    anchor: ClassVar[str]

    @property
    def statement(self) -> str:
        """What holds, in a sentence or two."""
        return " ".join(cleandoc(type(self).__doc__ or "").split())


class BoundedInvariant(Invariant):
    """An invariant whose violations an index finds, whatever the size of the installation."""

    query: ClassVar[str]
    arguments: ClassVar[tuple[Any, ...]]

    async def violations(self, connection: Connection, limit: int) -> list[asyncpg.Record]:
        """Return the rows that violate it, at most `limit`."""
        return await connection.fetch(self.query, *self.arguments, limit)


class AccountInvariant(Invariant):
    """An invariant of every account, which is checked a page of accounts at a time."""

    check: ClassVar[AccountCheck]

    async def violations(
        self, connection: Connection, organization_ids: Sequence[UUID], limit: int
    ) -> list[asyncpg.Record]:
        """Return the rows of these organizations that violate it, at most `limit`."""
        return await type(self).check(connection, organization_ids, limit)


class ZeroSum(AccountInvariant):
    """The balance of each account is the sum of its rows: with the system's, all sum to zero."""

    name = "zero_sum"
    remedy = "Run prepaid ledger verify --organization ID, and compare with a backup."
    anchor = "somebody-changed-a-row"
    check = zero_sum


class Balances(AccountInvariant):
    """Each account agrees with its last row, the rest of its grants, and its open holds."""

    name = "balances"
    remedy = "Run prepaid ledger verify --organization ID, and compare with a backup."
    anchor = "somebody-changed-a-row"
    check = verification.account_problems


class PaymentsCredited(AccountInvariant):
    """Each bound payment and invoice, and each recharge, is credited, once, with its credits."""

    name = "payments_credited"
    remedy = "Run prepaid ledger verify --organization ID, and compare the payment with Stripe."
    anchor = "somebody-changed-a-row"
    check = verification.payment_problems


class BudgetCounters(AccountInvariant):
    """Each counter of a budget agrees with the usage of its window, and with the open holds."""

    name = "budget_counters"
    remedy = "Remove the budget and create it again: it is counted from the ledger."
    anchor = "an-invariant-is-broken"
    check = budget_counters


class Ledger(BoundedInvariant):
    """The hash chain is intact: the daily verification ends, and finds no problem."""

    name = "ledger"
    remedy = "Read the problems; after the fix, run prepaid ledger verify to the end."
    anchor = "somebody-changed-a-row"
    query = QUERIES.ledger
    arguments = (VERIFICATION_AGE_MAX,)


class BacklogAge(BoundedInvariant):
    """A worker tries each event of Stripe within ten minutes, unless its type is paused."""

    name = "backlog_age"
    remedy = "Start prepaid worker, or more of them; prepaid doctor says which loop fails."
    anchor = "the-backlog-grows"
    query = QUERIES.events_due
    arguments = (LANES, False, DUE_MAX)


class EventsOnTime(BoundedInvariant):
    """An event that is retried, or whose worker died, is taken again when it is due.

    Events of a paused type wait on purpose.
    """

    name = "events_on_time"
    remedy = "Restart the workers; prepaid doctor says which loop fails."
    anchor = "the-backlog-grows"
    query = QUERIES.events_due
    arguments = (LANES, True, DUE_MAX)


class AttemptsOnTime(BoundedInvariant):
    """No recharge attempt is in a state for longer than its deadline."""

    name = "attempts_on_time"
    remedy = "Restart the workers; prepaid recharge show ORGANIZATION says what it waits for."
    anchor = "something-is-past-its-deadline"
    query = QUERIES.attempts_on_time
    arguments = (
        DUE_MAX,
        DEADLINE_GRACE,
        [str(state) for state in DEADLINES],
        [deadline.lasts for deadline in DEADLINES.values()],
        [deadline.lasts_for_top_up for deadline in DEADLINES.values()],
    )


class MessagesOnTime(BoundedInvariant):
    """A message to your app is tried within an hour after it is due."""

    name = "messages_on_time"
    remedy = "Restart the workers; a receiver that answers slowly delays its other messages."
    anchor = "something-is-past-its-deadline"
    query = QUERIES.messages_on_time
    arguments = (MESSAGE_DUE_MAX,)


class ExpirationsOnTime(BoundedInvariant):
    """Grants and holds expire within ten minutes of their time."""

    name = "expirations_on_time"
    remedy = "Restart the workers; the log line expirer.failed names an organization that fails."
    anchor = "something-is-past-its-deadline"
    query = QUERIES.expirations_on_time
    arguments = (DUE_MAX,)


class PurchasesOnTime(BoundedInvariant):
    """An open purchase expires within ten minutes of its time."""

    name = "purchases_on_time"
    remedy = "Restart the workers; prepaid doctor says which loop fails."
    anchor = "something-is-past-its-deadline"
    query = QUERIES.purchases_on_time
    arguments = (DUE_MAX,)


class SuspensionsOnTime(BoundedInvariant):
    """A suspension that ends by itself ends within ten minutes of its time."""

    name = "suspensions_on_time"
    remedy = "Restart the workers, or run prepaid recharge resume ORGANIZATION."
    anchor = "something-is-past-its-deadline"
    query = QUERIES.suspensions_on_time
    arguments = (DUE_MAX,)


INVARIANTS: tuple[BoundedInvariant | AccountInvariant, ...] = (
    ZeroSum(),
    Balances(),
    PaymentsCredited(),
    BudgetCounters(),
    Ledger(),
    BacklogAge(),
    EventsOnTime(),
    AttemptsOnTime(),
    MessagesOnTime(),
    ExpirationsOnTime(),
    PurchasesOnTime(),
    SuspensionsOnTime(),
)
BY_NAME = {invariant.name: invariant for invariant in INVARIANTS}
