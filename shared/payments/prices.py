"""The price of credits, and the limits of one charge at Stripe. Pure."""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal

from shared.errors import FieldError, ValidationError
from shared.money import THREE_DECIMAL_CURRENCIES, format_money, minor_unit_exponent, plain

# Stripe's minimum charge amounts, in minor units.
# Source: https://docs.stripe.com/currencies#minimum-and-maximum-charge-amounts
MINOR_MIN = {
    "usd": 50, "aed": 200, "aud": 50, "bgn": 100, "brl": 50, "cad": 50, "chf": 50, "czk": 1500,
    "dkk": 250, "eur": 50, "gbp": 30, "hkd": 400, "huf": 17500, "inr": 50, "jpy": 50, "mxn": 1000,
    "myr": 200, "nok": 300, "nzd": 50, "pln": 200, "ron": 200, "sek": 300, "sgd": 50, "thb": 1000,
}  # fmt: skip
MINOR_MIN_DEFAULT = 50
MINOR_MAX = 99_999_999

# Amounts in these end in zeros: of three decimals the last is 0; ISK and UGX have none any more.
# Source: https://docs.stripe.com/currencies#special-cases
MINOR_STEP = dict.fromkeys(THREE_DECIMAL_CURRENCIES, 10) | {"isk": 100, "ugx": 100}


def minor_step(currency: str) -> int:
    """Return the step of which Stripe's amounts in this currency are multiples."""
    return MINOR_STEP.get(currency, 1)


def minor_min(currency: str) -> int:
    """Return Stripe's minimum charge amount in this currency."""
    least = MINOR_MIN.get(currency, MINOR_MIN_DEFAULT)
    return least + -least % minor_step(currency)


def minor_max(currency: str, units_max: Decimal) -> int:
    """Return the maximum of one charge: the lower of the operator's `units_max` and Stripe's."""
    operators = int(units_max.scaleb(minor_unit_exponent(currency)))
    most = min(operators, MINOR_MAX)
    return most - most % minor_step(currency)


def least_minor(credits_: Decimal, currency: str, credits_per_unit: Decimal) -> int:
    """Return the least amount that Stripe can charge and that buys these credits."""
    steps = exact_minor(credits_, currency, credits_per_unit) / minor_step(currency)
    return int(steps.to_integral_value(ROUND_CEILING)) * minor_step(currency)


def exact_minor(credits_: Decimal, currency: str, credits_per_unit: Decimal) -> Decimal:
    """Return the price of credits in the currency's smallest unit, possibly a fraction."""
    return credits_ / credits_per_unit * Decimal(10) ** minor_unit_exponent(currency)


def charge_refusal(credits_: Decimal, currency: str, credits_per_unit: Decimal) -> str | None:
    """Return why Stripe cannot charge for exactly these credits at once; None: it can."""
    if credits_ <= 0:
        return "must be positive"
    minor = exact_minor(credits_, currency, credits_per_unit)
    if minor > MINOR_MAX:  # first: numbers with hundreds of digits cannot be divided
        return "is above the most that Stripe charges at once"
    if minor != minor.to_integral_value():
        return f"is not a whole number of the smallest unit of {currency}"
    if minor % minor_step(currency):
        step = Decimal(minor_step(currency)).scaleb(-minor_unit_exponent(currency))
        return f"is not a multiple of {plain(step)} {currency.upper()}, as Stripe asks"
    return least_refusal(credits_, currency, credits_per_unit)


def least_refusal(credits_: Decimal, currency: str, credits_per_unit: Decimal) -> str | None:
    """Return the refusal of a charge below Stripe's minimum; None: it is not."""
    below = exact_minor(credits_, currency, credits_per_unit) < minor_min(currency)
    return f"charges less than Stripe takes in {currency}" if below else None


def most_refusal(
    credits_: Decimal, currency: str, credits_per_unit: Decimal, units_max: Decimal
) -> str | None:
    """Return the refusal of a charge above the maximum; None: it is not."""
    most = minor_max(currency, units_max)
    above = least_minor(credits_, currency, credits_per_unit) > most
    return (
        f"costs more than {format_money(most, currency)}, the most of one charge" if above else None
    )


def purchase_price(
    credits_: Decimal,
    currency: str,
    credits_per_unit: Decimal,
    *,
    units_min: Decimal,
    units_max: Decimal,
) -> int:
    """Return the price of a purchase in minor units: the server's price, never the buyer's.

    `units_min` and `units_max` are the operator's limits in whole units of the currency. Raises
    ValidationError if the amount is outside of them or of Stripe's own limits.
    """
    error = charge_refusal(credits_, currency, credits_per_unit)
    units = credits_ / credits_per_unit
    if error is None and not units_min <= units <= units_max:
        error = f"must cost from {plain(units_min)} to {plain(units_max)} {currency.upper()}"
    if error is not None:
        where: FieldError = {"loc": ["body", "amount"], "msg": error, "type": "value_error"}
        raise ValidationError(f"amount: {error}", errors=[where])
    return int(exact_minor(credits_, currency, credits_per_unit))
