"""Lines of invoices: an invoice shows the first ten, the list has all of them.

https://docs.stripe.com/api/invoice-line-item
"""

from dataclasses import dataclass, field
from typing import Final

from sandbox.stripe import discounts, lists, objects, totals
from sandbox.stripe.call import Call
from sandbox.stripe.params import Params
from sandbox.stripe.store import Json

LINE: Final = "line_item"
LINES_MAX: Final = 1_000
SHOWN_MAX: Final = 10
LIST: Final = lists.CURSORS


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A line before it is on an invoice; `amount` is before discounts and exclusive taxes.

    A line that comes from no price, such as an invoice item with an amount alone, has no `price`.
    """

    amount: int
    description: str | None
    period: tuple[int, int]
    parent: Json
    price: Json | None = None
    quantity: int | None = 1
    rates: list[Json] = field(default_factory=list)
    discountable: bool = True
    metadata: dict[str, str] = field(default_factory=dict)


def add(call: Call, invoice: Json, draft: Draft) -> Json:
    """Store one line of an invoice; `sum_up` shows it there and computes the totals."""
    start, end = draft.period
    line = objects.new(
        LINE,
        {
            "id": call.ids.new("il"),
            "amount": draft.amount,
            "currency": invoice["currency"],
            "description": draft.description,
            "discountable": draft.discountable,
            "invoice": invoice["id"],
            "metadata": draft.metadata,
            "parent": draft.parent,
            "period": {"end": end, "start": start},
            "pricing": pricing(draft.price),
            "quantity": draft.quantity,
            "subscription": None,
            "subtotal": draft.amount,
        },
    )
    details = draft.parent[draft.parent["type"]]
    line["subscription"] = details.get("subscription")
    return call.store.add(line, {"rates": draft.rates})


def pricing(price: Json | None) -> Json | None:
    """Say which price a line or an invoice item is about."""
    if price is None:
        return None
    details = {"price": price["id"], "product": price["product"]}
    return {
        "price_details": details,
        "type": "price_details",
        "unit_amount_decimal": price["unit_amount_decimal"],
    }


def of(call: Call, invoice_id: str) -> list[Json]:
    """Read all lines of an invoice, in the order of the list."""
    return call.store.find(LINE, LINES_MAX, equal={"invoice": invoice_id})


def list_all(call: Call, params: Params, invoice_id: str) -> Json:
    """GET /v1/invoices/{id}/lines."""
    call.load("invoice", invoice_id)
    url = f"/v1/invoices/{invoice_id}/lines"
    return lists.page(call, params, LINE, url, equal={"invoice": invoice_id})


def shown(invoice_id: str, lines: list[Json]) -> Json:
    """Return the part of the lines that an invoice has in it."""
    url = f"/v1/invoices/{invoice_id}/lines"
    return objects.listed(lines[:SHOWN_MAX], url, has_more=len(lines) > SHOWN_MAX)


def sum_up(call: Call, invoice: Json) -> None:
    """Compute discounts, taxes and totals of a draft from its lines; the caller saves it."""
    lines = of(call, invoice["id"])
    invoice_discounts = invoice["discounts"]
    computed = [
        totals.Line(
            amount=line["amount"],
            rates=call.store.hidden(line["id"])["rates"],
            discountable=line["discountable"],
        )
        for line in lines
    ]
    totals.compute(computed, [])
    before_discount = sum(line.amount - line.inclusive_tax for line in computed)
    totals.compute(computed, discounts.coupons_of(call, invoice_discounts))
    for line, amounts in zip(lines, computed, strict=True):
        line["discount_amounts"] = _discount_amounts(invoice_discounts, amounts.discounts)
        line["discounts"] = [] if not amounts.discount else invoice_discounts
        line["taxes"] = [_tax(tax) for tax in amounts.taxes]
        call.store.save(line)
    total = sum(line.total for line in computed)
    invoice |= {
        "amount_due": max(0, total),
        "amount_remaining": max(0, total),
        "lines": shown(invoice["id"], lines),
        "subtotal": sum(line.amount for line in computed),
        "subtotal_excluding_tax": before_discount,
        "total": total,
        "total_discount_amounts": _discount_amounts(
            invoice_discounts,
            [sum(parts) for parts in zip(*(c.discounts for c in computed), strict=True)],
        ),
        "total_excluding_tax": total - sum(line.tax for line in computed),
        "total_taxes": _sum_taxes([tax for line in computed for tax in line.taxes]),
    }


def _discount_amounts(discount_ids: list[str], amounts: list[int]) -> list[Json]:
    return [
        {"amount": amount, "discount": discount}
        for discount, amount in zip(discount_ids, amounts, strict=False)
        if amount
    ]


def _tax(tax: totals.Tax) -> Json:
    return {
        "amount": tax.amount,
        "tax_behavior": "inclusive" if tax.rate["inclusive"] else "exclusive",
        "tax_rate_details": {"tax_rate": tax.rate["id"]},
        "taxability_reason": "standard_rated",
        "taxable_amount": tax.taxable,
        "type": "tax_rate_details",
    }


def _sum_taxes(taxes: list[totals.Tax]) -> list[Json]:
    by_rate: dict[str, totals.Tax] = {}
    for tax in taxes:
        before = by_rate.get(tax.rate["id"])
        by_rate[tax.rate["id"]] = totals.Tax(
            rate=tax.rate,
            amount=tax.amount + (before.amount if before else 0),
            taxable=tax.taxable + (before.taxable if before else 0),
        )
    return [_tax(tax) for tax in by_rate.values()]
