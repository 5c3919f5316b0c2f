"""A pure model of the statements that take back what refunds and disputes return."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from shared.ledger import keys
from tests.explorer.modelled import Result
from tests.explorer.recharge_tables import ORGANIZATION, Tables
from tests.explorer.stepping import Port, Row

ANSWER_TIME, REVERSED_PART = "time of an answer", "reversed part"


def lock_payment(port: Port[Tables], tables: Tables, args: tuple[Any, ...]) -> Result:
    """Model the lock of a payment before its level changes."""
    rows = tuple(
        Row(
            organization_id=ORGANIZATION,
            amount_minor=minor,
            currency="usd",
            credits=credits_,
            reversal_as_of=(
                None if ANSWER_TIME in port.removed else tables.reversed_of(args[0]).as_of
            ),
        )
        for name, minor, credits_ in tables.bound
        if name == args[0]
    )
    return tables, rows


def record_level(port: Port[Tables], tables: Tables, args: tuple[Any, ...]) -> Result:
    return tables.having_reversed(tables.reversed_of(args[0])._replace(as_of=args[1])), ()


def lock_credited_payment(port: Port[Tables], tables: Tables, args: tuple[Any, ...]) -> Result:
    """Model the ledger's lock of a payment, with the part of it that is taken back."""
    known = tables.reversed_of(args[0])
    rows = tuple(
        Row(
            organization_id=ORGANIZATION,
            credits=credits_,
            reversed=known.credits * (REVERSED_PART not in port.removed),
            reversals=known.rows,
            credited=any(key == f"{keys.PAYMENT}{name}" for key, _ in tables.ledger),
        )
        for name, _, credits_ in tables.bound
        if name == args[0]
    )
    return tables, rows


def record_reversal(port: Port[Tables], tables: Tables, args: tuple[Any, ...]) -> Result:
    known = tables.reversed_of(args[0])
    changed = known._replace(credits=args[1], rows=known.rows + 1)
    return tables.having_reversed(changed), ()


def save_disputes(port: Port[Tables], tables: Tables, args: tuple[Any, ...]) -> Result:
    rows = tuple(
        Row(id=name, opened=name not in tables.disputes, closed=False, was_inquiry=False)
        for name in args[2]
    )
    new = tuple(name for name in args[2] if name not in tables.disputes)
    return replace(tables, disputes=(*tables.disputes, *new)), rows
