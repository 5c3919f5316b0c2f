"""Amounts: exact decimals in credits, and their conversion from Stripe's minor units."""

from __future__ import annotations

import decimal
from decimal import Decimal

import msgspec

# The ledger's amounts have up to 38 digits. Python's own 28 would round sums of them, silently.
DIGITS = 80
decimal.DefaultContext.prec = DIGITS  # for threads that start from here on
decimal.getcontext().prec = DIGITS

CREDIT_DECIMALS_MAX = 9
CREDIT_QUANTUM = Decimal(1).scaleb(-CREDIT_DECIMALS_MAX)

# Stripe counts an amount in the currency's smallest unit. ISK and UGX have no smaller unit any
# more, but Stripe's API still takes them with two decimals; MGA counts as zero-decimal.
# Source: https://docs.stripe.com/currencies#zero-decimal and #special-cases
ZERO_DECIMAL_CURRENCIES = frozenset({
    "bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga",
    "pyg", "rwf", "vnd", "vuv", "xaf", "xof", "xpf",
})  # fmt: skip
THREE_DECIMAL_CURRENCIES = frozenset(["bhd", "jod", "kwd", "omr", "tnd"])


def minor_unit_exponent(currency: str) -> int:
    """Return how many decimals Stripe's integer amounts carry in this currency (ISO 4217)."""
    code = currency.lower()
    if code in ZERO_DECIMAL_CURRENCIES:
        return 0
    if code in THREE_DECIMAL_CURRENCIES:
        return 3
    return 2


def credits_from_minor_units(amount: int, currency: str, credits_per_unit: Decimal) -> Decimal:
    """Return the credits that a Stripe amount buys, exact to 9 decimals.

    `amount` is Stripe's integer in minor units; `credits_per_unit` is how many credits one whole
    currency unit buys. Raises ValueError where the product needs more than 9 decimals, since money
    is never rounded.
    """
    value = Decimal(amount).scaleb(-minor_unit_exponent(currency)) * credits_per_unit
    if value != value.quantize(CREDIT_QUANTUM):
        raise ValueError(f"{amount} {currency} is not a whole number of 1e-9 credits")
    return value


def rate_refusal(currency: str, credits_per_unit: Decimal) -> str | None:
    """Return why a rate does not suit a currency; None where every amount can be credited.

    Its smallest unit must buy a whole number of 1e-9 credits.
    """
    exponent = minor_unit_exponent(currency)
    step = CREDIT_QUANTUM.scaleb(exponent)
    if not credits_per_unit % step:
        return None
    smallest = f"{Decimal(1).scaleb(-exponent):f} {currency.upper()}"
    return (
        f"is too fine: credits have {CREDIT_DECIMALS_MAX} decimals, and {smallest} would buy a part"
        f" of the last. Set it to a multiple of {step:f}."
    )


def format_money(minor: int, currency: str) -> str:
    """Format a Stripe amount for people, such as 20.00 USD."""
    return f"{Decimal(minor).scaleb(-minor_unit_exponent(currency)):f} {currency.upper()}"


def plain(value: Decimal) -> str:
    """Format an amount for people: exact, without exponent or trailing zeros."""
    text = str(value)
    if "E" in text:
        text = f"{value:f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def json_number(value: Decimal) -> msgspec.Raw:
    """Return an amount as an exact JSON number without exponent."""
    return msgspec.Raw(plain(value).encode())
