"""The close of random ledgers against a second calculation: in fractions, by explanations."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

from hypothesis import HealthCheck, given, settings

from shared.finance import service
from shared.finance.model import FinanceClose
from shared.ledger import store
from shared.money import minor_unit_exponent
from shared.months import Month
from tests.fixtures.profile import cases
from tests.fixtures.timeline import START, STEPS, Step, Timeline, a_new_line, play

LINES = {
    "usage": "used", "hold_capture": "used", "refund": "refunded", "dispute": "refunded",
    "adjustment": "adjusted", "expiration": "expired", "void": "voided",
}  # fmt: skip
LATER = datetime(2100, 1, 1, tzinfo=UTC)
# In the order in which a month takes from a payment.
TAKEN = ("used", "refunded", "expired", "adjusted", "voided")
Moved = dict[tuple[str | None, Month, str], Fraction]


@settings(
    max_examples=cases(quick=15, thorough=60),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(steps=STEPS)
def test_every_figure_is_that_of_a_second_calculation_and_ties_to_the_trial_balance(
    steps: Sequence[Step], database_url: str, runner: asyncio.Runner
) -> None:
    async def work() -> None:
        async with a_new_line(database_url) as line:
            await forget_the_others(line)
            before = await store.trial_balance(line.connection)
            await play(line, steps)
            after = await store.trial_balance(line.connection)
            closes = await close_all(line)
            check_money(closes, await moved_by(line), await payments_of(line))
            changes: dict[str, Decimal] = defaultdict(Decimal)
            for found in closes.values():
                for account, amount in found.accounts.items():
                    changes[account] += amount
            assert {name: amount for name, amount in changes.items() if amount} == {
                name: after[name] - before.get(name, 0)
                for name in after
                if after[name] != before.get(name, 0)
            }

    runner.run(work())


async def forget_the_others(line: Timeline) -> None:
    """Leave out the ledgers of earlier examples, and their closes."""
    await line.connection.execute(
        "UPDATE accounts SET last_seq = 0; ALTER TABLE finance_closes DISABLE TRIGGER USER;"
        "DELETE FROM finance_closes; ALTER TABLE finance_closes ENABLE TRIGGER USER"
    )


async def close_all(line: Timeline) -> dict[Month, FinanceClose]:
    """Close every month of a timeline."""
    closes: dict[Month, FinanceClose] = {}
    month = Month.of(START)
    while month.start <= line.now:
        stored = await service.close(line.connection, month, now=LATER, actor="tests")
        closes[month] = stored.close
        month = month.next
    return closes


async def moved_by(line: Timeline) -> Moved:
    """Return what each payment (None: promotional) gained and lost, from rows and explanations."""
    moved: Moved = defaultdict(Fraction)
    rows = await line.rows()
    grants = {row["grant_id"]: row for row in rows if row["amount"] > 0}
    for row in rows:
        month = Month.of(row["created_at"])
        if row["amount"] > 0:
            kind = "returned" if row["type"] == "dispute_reversal" else "added"
            moved[row["payment_intent_id"], month, kind] += Fraction(row["amount"])
            continue
        for source in await line.explained(row):
            if source.grant_id is None and source.payment_intent_id is None:
                continue  # debt
            covered = grants[source.grant_id]["created_at"] if source.grant_id else month.start
            when = max(month, Month.of(covered))
            moved[source.payment_intent_id, when, LINES[row["type"]]] += Fraction(source.amount)
    return moved


async def payments_of(line: Timeline) -> dict[str, Any]:
    rows = await line.connection.fetch(
        "SELECT * FROM stripe_payments WHERE organization_id = $1", line.owner.id
    )
    return {row["payment_intent_id"]: row for row in rows}


def check_money(closes: dict[Month, FinanceClose], moved: Moved, payments: dict[str, Any]) -> None:
    """Compare each month with sums of the payments, each rounded once a line."""
    gained: dict[str | None, Fraction] = defaultdict(Fraction)
    taken: dict[str | None, Fraction] = defaultdict(Fraction)
    for month, found in closes.items():
        mine: dict[tuple[str, str], int] = defaultdict(int)
        for name, payment in payments.items():

            def worth(part: Fraction, payment: Any = payment) -> int:
                exact = payment["net_minor"] * part / Fraction(payment["credits"])
                return int(exact + Fraction(1, 2))

            currency = payment["currency"]
            mine[currency, "opening"] += worth(gained[name]) - worth(taken[name])
            for line in ("added", "returned"):
                was = worth(gained[name])
                gained[name] += moved[name, month, line]
                mine[currency, line] += worth(gained[name]) - was
            for line in TAKEN:
                was = worth(taken[name])
                taken[name] += moved[name, month, line]
                mine[currency, line] += worth(taken[name]) - was
            mine[currency, "closing"] += worth(gained[name]) - worth(taken[name])
        for part in found.currencies:
            units = 10 ** minor_unit_exponent(part.currency)
            of = {line: mine[part.currency, line] for line in (*TAKEN, "returned")}
            said = part.deferred_revenue
            assert [
                said.opening * units, said.added * units, said.recognised * units,
                said.refunded * units, said.breakage * units, said.adjusted * units,
                said.closing * units,
            ] == [
                mine[part.currency, "opening"], mine[part.currency, "added"], of["used"],
                of["refunded"] - of["returned"], of["expired"], of["adjusted"] + of["voided"],
                mine[part.currency, "closing"],
            ]  # fmt: skip
        promotional = next(
            (part.promotional for part in found.currencies if part.currency == "usd"), None
        )
        for line in TAKEN:
            said_line = getattr(promotional, line) if promotional else 0
            assert Fraction(said_line) == moved[None, month, line]
