"""A pure model of the statements that bind and credit a payment, by their names."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from typing import Any
from uuid import UUID

from tests.explorer.modelled import Result, Statement, nothing
from tests.explorer.recharge_tables import ORGANIZATION, Tables
from tests.explorer.stepping import Port, Row

CREDIT_KEY = "credit key"


def bind_payments(port: Port[Tables], tables: Tables, args: tuple[Any, ...]) -> Result:
    known = {name for name, _, _ in tables.bound}
    new = [
        (one["payment_intent_id"], one["amount_minor"], Decimal(one["credits"]))
        for one in json.loads(args[0])
        if one["payment_intent_id"] not in known
    ]
    return replace(tables, bound=(*tables.bound, *new)), tuple(map(_binding, new))


def bound_payments(port: Port[Tables], tables: Tables, args: tuple[Any, ...]) -> Result:
    return tables, tuple(_binding(one) for one in tables.bound if one[0] in args[0])


def _binding(bound: tuple[str, int, Decimal]) -> Row:
    name, minor, credits_ = bound
    return Row(
        payment_intent_id=name,
        organization_id=ORGANIZATION,
        amount_minor=minor,
        currency="usd",
        credits=credits_,
        invoice_id=None,
    )


def claims(port: Port[Tables], tables: Tables, args: tuple[Any, ...]) -> Result:
    intent_id, attempt_id = args[0][0], args[3][0]
    bound = next((one for one in tables.bound if one[0] == intent_id), (None, None, None))
    offers = [
        attempt
        for attempt in tables.attempts
        if attempt.amount_minor is not None
        and (attempt.id == attempt_id or attempt.intent == intent_id)
    ]
    offer = offers[0] if offers else None
    row = Row(
        ordinal=1,
        bound_organization_id=ORGANIZATION if bound[0] else None,
        bound_minor=bound[1],
        bound_currency="usd",
        bound_credits=bound[2],
        bound_invoice_id=None,
        purchase_organization_id=None,
        attempt_organization_id=ORGANIZATION if offer else None,
        attempt_minor=offer.amount_minor if offer else None,
        attempt_currency="usd",
        attempt_credits=offer.amount if offer else None,
        attempt_trigger=offer.trigger if offer else None,
        organizations=(
            Row(
                id=str(ORGANIZATION), slug="org", currency="usd", customer=tables.customer,
                account="",
            ),
        ),
    )  # fmt: skip
    return tables, (row,)


def credit(
    port: Port[Tables], tables: Tables, args: tuple[Any, ...], reopen: Statement = nothing
) -> Result:
    """Bind and post; `reopen` models the reopening of events. A payment bound before: nothing."""
    bound, new = bind_payments(port, tables, args)
    if len(new) < len(json.loads(args[0])):
        return bound, ()
    posted, rows = post(port, bound, args[1:])
    reopened, _ = reopen(port, posted, args[2:])
    return reopened, rows


def post(port: Port[Tables], tables: Tables, args: tuple[Any, ...]) -> Result:
    rows = []
    for place, posting in enumerate(json.loads(args[0]), start=1):
        key, amount = posting["key"], Decimal(str(posting["amount"]))
        known = any(known == key for known, _ in tables.ledger)
        replayed = known and CREDIT_KEY not in port.removed
        if not replayed:
            tables = replace(
                tables,
                ledger=(*tables.ledger, (key, amount)),
                balance=tables.balance + amount,
            )
            if amount < 0:  # credits that are taken back arm nothing before the next usage
                tables = replace(tables, waits=True)
        rows.append(
            Row(
                place=place, status="replayed" if replayed else "posted",
                id=UUID(posting["id"]), seq=len(tables.ledger), amount=amount,
                balance_after=tables.balance, created_at=port.now(), held=Decimal(0),
                available=Decimal(0), budget=None,
            )
        )  # fmt: skip
    return tables, tuple(rows)
