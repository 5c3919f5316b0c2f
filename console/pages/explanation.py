"""The drawing of a ledger row: from a debit through its grants to Stripe's receipts and events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from urllib.parse import quote
from uuid import UUID

from console.framework import formatting
from shared.ledger.model import Source
from shared.money import format_money

BAR_WIDTH = 640
COLORS = 6
EVENTS_A_PATH_MAX = 5


@dataclass(frozen=True, slots=True)
class Step:
    """A box of the drawing. `note` says more in a few words; `href` leads to its page."""

    kind: str
    text: str
    href: str | None = None
    note: str = ""
    is_external: bool = False


@dataclass(frozen=True, slots=True)
class FundingPath:
    """A part of a debit, and what paid for it, back to Stripe. `color` is that of its segment."""

    amount: Decimal
    color: int
    steps: Sequence[Step]


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of the bar of a debit."""

    x: float
    width: float
    color: int
    label: str


def paths(
    sources: Sequence[Source],
    grants: Mapping[UUID, Mapping[str, Any]],
    events: Mapping[str, Sequence[Mapping[str, Any]]],
    *,
    is_bound: bool,
) -> list[FundingPath]:
    """Return a path for each source, in the order of burning.

    `is_bound`: without links to pages of the installation, which a bound session cannot open.
    """
    return [
        FundingPath(
            source.amount, place % COLORS, _steps(source, grants, events, is_bound=is_bound)
        )
        for place, source in enumerate(sources)
    ]


def segments(drawn: Sequence[FundingPath], total: Decimal) -> list[Segment]:
    """Return the bar of a debit: a segment for each path, as wide as its part."""
    bar: list[Segment] = []
    x = 0.0
    for path in drawn:
        width = float(path.amount / total) * BAR_WIDTH
        label = f"{formatting.amount(path.amount)} from {path.steps[0].text}"
        bar.append(Segment(round(x, 2), round(width, 2), path.color, label))
        x += width
    return bar


def _steps(
    source: Source,
    grants: Mapping[UUID, Mapping[str, Any]],
    events: Mapping[str, Sequence[Mapping[str, Any]]],
    *,
    is_bound: bool,
) -> list[Step]:
    grant = grants.get(source.grant_id) if source.grant_id is not None else None
    if grant is None and source.payment_intent_id is None:
        return [Step("Debt", "unpaid debt", note="No grant covers this part.")]
    if grant is None:
        return [
            Step("Grants", source.grant_type or "grants", note="several grants of one payment"),
            Step("PaymentIntent", source.payment_intent_id or ""),
            *_receipt(source.charge_id, source.receipt_url),
        ]
    return [_grant(grant), *payment_steps(grant, events, is_bound=is_bound)]


def _grant(grant: Mapping[str, Any]) -> Step:
    left, original = map(formatting.amount, (grant["remaining"], grant["original"]))
    return Step(
        "Grant",
        f"{grant['type']} #{grant['seq']}",
        href=f"/console/transactions/{grant['transaction_id']}",
        note=f"{left} of {original} left",
    )


def payment_steps(
    grant: Mapping[str, Any],
    events: Mapping[str, Sequence[Mapping[str, Any]]],
    *,
    is_bound: bool,
) -> list[Step]:
    """Return what brought a grant: purchase or attempt, PaymentIntent, receipt, events."""
    payment: str | None = grant["payment_intent_id"]
    if payment is None:
        word = "promotional" if grant["promotional"] else "no payment"
        return [Step("Payment", word, note="Stripe has no payment of this grant.")]
    steps: list[Step] = []
    if grant["attempt_id"] is not None:
        href = None if is_bound else f"/console/attempts/{grant['attempt_id']}"
        steps.append(Step("Recharge attempt", str(grant["attempt_id"]), href=href))
    elif grant["purchase_id"] is not None:
        session = grant["checkout_session_id"] or ""
        steps.append(Step("Purchase", str(grant["purchase_id"]), note=session))
    money = ""
    if grant["amount_minor"] is not None:
        money = format_money(grant["amount_minor"], grant["currency"])
    steps.append(Step("PaymentIntent", payment, note=money))
    steps += _receipt(grant["charge_id"], grant["receipt_url"])
    for event in events.get(payment, ())[:EVENTS_A_PATH_MAX]:
        href = None if is_bound else f"/console/events/{quote(event['id'], safe='')}"
        steps.append(
            Step("Event", event["id"], href=href, note=f"{event['type']}, {event['state']}")
        )
    return steps


def _receipt(charge_id: str | None, url: str | None) -> list[Step]:
    """Return the charge, with a link to its receipt where that is a web address."""
    if charge_id is None and url is None:
        return []
    is_link = url is not None and url.startswith("https://")
    return [
        Step(
            "Charge",
            charge_id or "receipt",
            href=url if is_link else None,
            note="receipt at Stripe" if is_link else "",
            is_external=True,
        )
    ]
