"""What a Checkout Session comes to: discounts, taxes, shipping.

https://docs.stripe.com/api/checkout/sessions/object#checkout_session_object-total_details
"""

from sandbox.stripe import currencies, discounts, errors, tax_rates, totals
from sandbox.stripe.call import Call
from sandbox.stripe.store import Json


def apply(call: Call, session: Json, *, tax_percent: str | None = None) -> None:
    """Compute the session's amounts and those of its line items again; the caller saves it.

    `tax_percent` is what automatic tax finds once the address is known; without it automatic tax
    waits for the address, as Stripe does.
    """
    hidden = call.store.hidden(session["id"])
    items: list[Json] = hidden["line_items"]
    lines = [
        totals.Line(
            amount=item["amount_subtotal"],
            rates=_rates(call, session, item["price"], rates, tax_percent),
        )
        for item, rates in zip(items, hidden["tax_rates"], strict=True)
    ]
    totals.compute(lines, discounts.coupons_of(call, hidden["discounts"]))
    for item, line in zip(items, lines, strict=True):
        item |= {
            "amount_discount": line.discount,
            "amount_tax": line.tax,
            "amount_total": line.total,
        }
    call.store.hide(session["id"], line_items=items, used_rates=[line.rates for line in lines])
    shipping = _shipping(call, session, tax_percent)
    session |= {
        "amount_subtotal": sum(line.amount for line in lines),
        "amount_total": sum(line.total for line in [*lines, *shipping]),
        "shipping_cost": _shipping_cost(session, shipping),
        "total_details": {
            "amount_discount": sum(line.discount for line in lines),
            "amount_shipping": sum(line.amount for line in shipping),
            "amount_tax": sum(line.tax for line in [*lines, *shipping]),
        },
    }
    if session["automatic_tax"]["enabled"]:
        found = tax_percent is not None
        session["automatic_tax"]["status"] = "complete" if found else "requires_location_inputs"


def check_minimum(session: Json) -> None:
    """Refuse a total that no card can pay; a session that costs nothing is fine."""
    currency, total = session["currency"], session["amount_total"]
    minimum = currencies.MINIMUM.get(currency, currencies.MINIMUM_DEFAULT)
    if 0 < total < minimum:
        least = currencies.shown(minimum, currency)
        raise errors.invalid(
            f"The Checkout Session's total amount due must add up to at least {least} {currency}",
            code="amount_too_small",
        )


def _rates(
    call: Call, session: Json, price: Json, rates: list[Json], tax_percent: str | None
) -> list[Json]:
    if not session["automatic_tax"]["enabled"]:
        return rates
    return [] if tax_percent is None else [tax_rates.automatic(call, price, tax_percent)]


def _shipping(call: Call, session: Json, tax_percent: str | None) -> list[totals.Line]:
    """Return the shipping as a line, or nothing; manual tax rates do not count for it."""
    chosen = (session["shipping_cost"] or {}).get("shipping_rate")
    if chosen is None:
        return []
    rate = call.load("shipping_rate", chosen)
    line = totals.Line(
        amount=rate["fixed_amount"]["amount"],
        rates=_rates(call, session, rate, [], tax_percent),
        discountable=False,
    )
    totals.compute([line], [])
    return [line]


def _shipping_cost(session: Json, shipping: list[totals.Line]) -> Json | None:
    if not shipping:
        return None
    (line,) = shipping
    return {
        "amount_subtotal": line.amount,
        "amount_tax": line.tax,
        "amount_total": line.total,
        "shipping_rate": session["shipping_cost"]["shipping_rate"],
    }
