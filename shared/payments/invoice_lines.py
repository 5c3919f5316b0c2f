"""Lines of an invoice: the units and the share of a period that each charges for. Pure."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

from shared.durations import Duration
from shared.errors import InvalidAmountError
from shared.payments.invoice_objects import InvoiceLine, Period
from shared.payments.objects import Price, Recurring, TransformQuantity

INTERVALS_MAX = 1000
DIGITS_MAX = 30
_LENGTHS = {"day": timedelta(days=1), "week": timedelta(weeks=1)}
_MONTHS = {"month": 1, "year": 12}


@dataclass(frozen=True, slots=True)
class PricedLine:
    """A line and its price; None: the line has none, or has only its `price_id`."""

    line: InvoiceLine
    price: Price | None

    @property
    def price_id(self) -> str | None:
        """The id of its price."""
        priced = self.line.priced
        return priced.id if isinstance(priced, Price) else priced

    @property
    def period(self) -> Period | None:
        """The period that the line covers."""
        return self.line.period

    @property
    def counts(self) -> bool:
        """Whether its amount is not zero, as it is for a trial or a full discount."""
        discounts = sum(each.amount for each in self.line.discount_amounts or ())
        return self.line.amount < 0 or self.line.amount > max(discounts, 0)

    @property
    def quantity(self) -> Fraction:
        """The number of units; 1 if the line has none."""
        exact = _exact(self.line.quantity_decimal)
        if exact is not None:
            return exact
        return Fraction(1 if self.line.quantity is None else self.line.quantity)


def of_event(lines: Iterable[InvoiceLine]) -> list[PricedLine]:
    """Return lines with the prices that the event contains."""
    return priced(lines, {})


def priced(lines: Iterable[InvoiceLine], prices: Mapping[str, Price]) -> list[PricedLine]:
    """Return lines with their prices, expanded in the line or else from `prices`."""
    line_prices = ((line, line.priced) for line in lines)
    return [
        PricedLine(line, prices.get(each) if isinstance(each, str) else each)
        for line, each in line_prices
    ]


def units(invoice_id: str, line: PricedLine) -> Fraction:
    """Return how many units of a full period a line charges for; negative: a credit.

    Raises InvalidAmountError if the share of a proration cannot be determined.
    """
    if not line.line.is_proration:
        return line.quantity if line.line.amount > 0 else -line.quantity
    return line.quantity * _share(invoice_id, [line])


def periods(
    invoice_id: str, lines: Sequence[PricedLine], *, used_until: int | None = None
) -> Fraction:
    """Return how many periods of its subscription an invoice charges for.

    A full period counts once, however many lines it has. A change of plan within a period charges
    the rest of the new plan and credits the rest of the old one: the two shares cancel. Usage in
    arrears, up to the invoice's `used_until`, is no period: the last invoice of a canceled
    subscription has only that.
    """
    if not lines:
        return Fraction(1)
    full = any(_is_full_period(line, used_until) for line in lines)
    changes = (_share(invoice_id, group) for group in _uneven(lines))
    return sum(changes, Fraction(int(full)))


def _is_full_period(line: PricedLine, used_until: int | None) -> bool:
    if line.line.is_proration or line.line.is_one_off:
        return False
    in_arrears = (
        used_until is not None and line.period is not None and line.period.end <= used_until
    )
    return line.counts and line.line.amount > 0 and not in_arrears


def prices_of_periods(lines: Sequence[PricedLine]) -> set[str | None]:
    """Return the ids of the prices that `periods` still needs."""
    return {line.price_id for group in _uneven(lines) for line in group if line.price is None}


def _uneven(lines: Sequence[PricedLine]) -> list[list[PricedLine]]:
    """Return the prorations of each period whose lines all have the same sign."""
    by_period: dict[Period | None, list[PricedLine]] = defaultdict(list)
    for line in lines:
        if line.line.is_proration and line.counts:
            by_period[line.period].append(line)
    return [
        group for group in by_period.values() if len({line.line.amount > 0 for line in group}) == 1
    ]


def _share(invoice_id: str, prorations: Sequence[PricedLine]) -> Fraction:
    """Return the share of a full period that prorations of one period and one sign charge for.

    It is their amount divided by the full price; for a price without an amount, such as a tiered
    one, it is the part of the price's interval that the period covers.
    """
    amount = sum(line.line.amount for line in prorations)
    full = [_full_price(line) for line in prorations]
    if all(full):
        return amount / sum((each for each in full if each), Fraction(0))
    for line in prorations:
        recurring = line.price.recurring if line.price else None
        if line.period is not None and recurring is not None:
            covered = _covered(line.period, recurring)
            if covered is not None:
                return covered if amount > 0 else -covered
    names = ", ".join(sorted({line.price_id or "no price" for line in prorations}))
    raise InvalidAmountError(
        f"{invoice_id} has a proration of {names}, and its share of a period cannot be determined: "
        "the price has no unit_amount, and there is no period with a recurring interval."
    )


def _full_price(line: PricedLine) -> Fraction | None:
    """Return the price of a full period of a line in minor units; None if unknown."""
    price, currency = line.price, line.line.currency
    if price is None or (currency and price.currency and currency != price.currency):
        return None
    exact = _exact(price.unit_amount_decimal)
    each = exact if price.unit_amount is None else Fraction(price.unit_amount)
    if not each:
        return None
    return each * _packages(line.quantity, price.transform_quantity) or None


def _exact(value: Decimal | None) -> Fraction | None:
    """Return a decimal as a fraction; None if it is larger than Stripe ever sends."""
    if value is None or not value.is_finite() or abs(value.adjusted()) > DIGITS_MAX:
        return None
    return Fraction(value) if len(value.as_tuple().digits) <= DIGITS_MAX else None


def _packages(quantity: Fraction, transform: TransformQuantity | None) -> Fraction:
    if transform is None:
        return quantity
    packages = quantity / transform.divide_by
    return Fraction(math.floor(packages) if transform.round == "down" else math.ceil(packages))


def _covered(period: Period, recurring: Recurring) -> Fraction | None:
    """Return the part of a price's interval that a proration covers; both end together."""
    end = datetime.fromtimestamp(period.end, UTC)
    start = _interval_start(end, recurring)
    if start is None or period.end < period.start:
        return None
    return Fraction(period.end - period.start) / Fraction((end - start).total_seconds())


def _interval_start(end: datetime, recurring: Recurring) -> datetime | None:
    length, months = _LENGTHS.get(recurring.interval), _MONTHS.get(recurring.interval)
    if not 1 <= recurring.interval_count <= INTERVALS_MAX:
        return None
    if length is not None:
        return end - length * recurring.interval_count
    if months is not None:
        return Duration(months=-months * recurring.interval_count).after(end)
    return None
