"""The credits of a paid invoice, with their sign and expiry. Pure.

`prepaid_credits` is read from the first of these: the metadata of the invoice (a
total), of its subscription (the credits of a full period), or of each line's price (the credits of
each unit). Amounts are exact fractions until they are rounded down at the end, so that an invoice
never grants more than it charges for.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

from shared.durations import Duration
from shared.errors import EventError, InvalidAmountError, MalformedEventError
from shared.ledger.rules import AMOUNT_MAX
from shared.money import CREDIT_DECIMALS_MAX
from shared.payments import invoice_lines
from shared.payments.invoice_lines import PricedLine
from shared.payments.invoice_objects import Invoice
from shared.payments.model import InvoiceFacts, InvoiceQuestion, SaleTerms
from shared.payments.objects import CREDITS_METADATA, EXPIRES_METADATA
from shared.payments.sales import expiry, organization_in

PERIOD_END = "period_end"
_DECIMAL = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?")
_UNITS = 10**CREDIT_DECIMALS_MAX


class InvalidExpiryError(EventError):
    """`prepaid_expires` has no valid value."""


@dataclass(frozen=True, slots=True)
class Portion:
    """Credits with one expiry; None: never. Negative credits are taken back."""

    credits: Decimal
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Share:
    """The part of a portion that one PaymentIntent paid for; None: not by a PaymentIntent."""

    credits: Decimal
    expires_at: datetime | None
    payment_intent_id: str | None


def names(invoice: Invoice) -> list[str]:
    """Return the organizations that the metadata of an invoice and its subscription name.

    Raises MalformedEventError.
    """
    named = (organization_in(invoice.metadata), organization_in(invoice.details.metadata))
    return list(dict.fromkeys(name for name in named if name is not None))


def question(invoice: Invoice, account: str) -> InvoiceQuestion | None:
    """Return the question for lines or prices that the event lacks; None if it lacks none."""
    if _has_credits(invoice.metadata):
        return None
    listed = invoice.lines
    if listed is None or listed.has_more:
        return InvoiceQuestion(account, invoice.id, lines=True)
    if _brings_nothing(invoice):
        return None
    lines = invoice_lines.of_event(listed.data)
    if _has_credits(invoice.details.metadata):
        prices = invoice_lines.prices_of_periods(lines)
    else:
        prices = {line.price_id for line in lines if line.counts and line.price is None}
    missing = tuple(sorted(name for name in prices if name is not None))
    return InvoiceQuestion(account, invoice.id, prices=missing) if missing else None


def portions(
    invoice: Invoice, facts: InvoiceFacts, terms: SaleTerms, *, paid_at: datetime, now: datetime
) -> tuple[Portion, ...]:
    """Return the portions to grant, one negative portion to take back, or none.

    An invoice that charges nothing grants nothing, whatever its lines contain; one that a credit
    note reduced before its payment grants the part that it charges. Raises InvalidAmountError or
    InvalidExpiryError if metadata is invalid or a share of a period cannot be determined.
    """
    if _brings_nothing(invoice):
        return ()
    expires = _Expiry(invoice, paid_at, expiry(terms, now))
    lines = _lines(invoice, facts)
    amounts = _amounts(invoice, lines, expires)
    net = sum(amounts.values(), Fraction(0))
    if abs(net) > Fraction(AMOUNT_MAX):
        raise InvalidAmountError(f"{invoice.id} brings more than {AMOUNT_MAX:f} credits.")
    if net < 0:
        return (Portion(_rounded(net)),)
    if invoice.total_minor <= 0:
        return ()
    charged = invoice.charged
    rounded = [Portion(_rounded(amount * charged), at) for at, amount in _netted(amounts)]
    return tuple(portion for portion in rounded if portion.credits > 0)


def shares(
    sold: Sequence[Portion], payments: Sequence[tuple[str, int]], total_minor: int
) -> list[Share]:
    """Divide the portions of an invoice among its payments, in proportion to their amounts.

    Credits paid from the customer's balance or out of band, and the rest of rounding, are in shares
    without a payment; if the payments cover the total, that rest is in the last payment's share.
    """
    paid = sum(minor for _, minor in payments)
    whole = max(total_minor, paid)
    divided: list[Share] = []
    for portion in sold:
        left = portion.credits
        for place, (name, minor) in enumerate(payments, start=1):
            covers = place == len(payments) and paid >= total_minor
            part = left if covers else _rounded(Fraction(portion.credits) * minor / whole)
            divided.append(Share(part, portion.expires_at, name))
            left -= part
        divided.append(Share(left, portion.expires_at, None))
    return [share for share in divided if share.credits > 0]


def net_minor(invoice: Invoice, amount_minor: int) -> int | None:
    """Return a payment of an invoice without its share of the tax, rounded down.

    None if the invoice does not say how much of its total is tax.
    """
    total, excluding = invoice.total, invoice.total_excluding_tax
    if total is None or excluding is None or not 0 < excluding <= total:
        return None
    return max(amount_minor * excluding // total, 1)


def _brings_nothing(invoice: Invoice) -> bool:
    """Whether it neither charges nor refunds anything, so that its lines do not matter."""
    if invoice.total_minor > 0:
        return False
    lines = invoice.lines
    if _has_credits(invoice.metadata):
        return True
    return lines is not None and not lines.has_more and all(x.amount >= 0 for x in lines.data)


def _lines(invoice: Invoice, facts: InvoiceFacts) -> list[PricedLine]:
    if facts.lines is not None:
        return invoice_lines.priced(facts.lines, facts.prices)
    listed = invoice.lines
    if listed is not None and listed.has_more and not _has_credits(invoice.metadata):
        raise MalformedEventError(
            f"Stripe does not know {invoice.id}, which has more lines than its event."
        )
    return invoice_lines.priced(listed.data if listed else (), facts.prices)


Amounts = Mapping[datetime | None, Fraction]


def _amounts(invoice: Invoice, lines: Sequence[PricedLine], expires: _Expiry) -> Amounts:
    """Return the exact credits by their expiry, with their sign."""
    if _has_credits(invoice.metadata):
        return {expires.of_all(lines): Fraction(_credits(invoice.metadata))}
    if _has_credits(invoice.details.metadata):
        each = _credits(invoice.details.metadata)
        periods = invoice_lines.periods(invoice.id, lines, used_until=invoice.period_end)
        return {expires.of_all(lines): Fraction(each) * periods} if periods else {}
    amounts: dict[datetime | None, Fraction] = defaultdict(Fraction)
    for line in lines:
        if line.counts and line.price is not None and _has_credits(line.price.metadata):
            units = invoice_lines.units(invoice.id, line)
            amounts[expires.of_line(line)] += Fraction(_credits(line.price.metadata)) * units
    return amounts


def _netted(amounts: Amounts) -> list[tuple[datetime | None, Fraction]]:
    """Subtract the negative amounts from the positive ones, the latest expiry first.

    The sum is not negative.
    """
    due = -sum((amount for amount in amounts.values() if amount < 0), Fraction(0))
    never = datetime.max.replace(tzinfo=UTC)
    net: list[tuple[datetime | None, Fraction]] = []
    for at in sorted(amounts, key=lambda at: at or never, reverse=True):
        if amounts[at] > 0:
            taken = min(due, amounts[at])
            due -= taken
            net.append((at, amounts[at] - taken))
    return net[::-1]


@dataclass(frozen=True, slots=True)
class _Expiry:
    """The expiry of an invoice's credits, from its metadata or its prices."""

    invoice: Invoice
    paid_at: datetime
    otherwise: datetime | None

    def of_line(self, line: PricedLine) -> datetime | None:
        """Return when the credits of a line expire: by its price, else by the invoice."""
        said = _expires(line.price.metadata if line.price else None) or self._of_invoice()
        return self._moment(said, [line])

    def of_all(self, lines: Sequence[PricedLine]) -> datetime | None:
        """Return when the credits of the whole invoice expire."""
        return self._moment(self._of_invoice(), lines)

    def _of_invoice(self) -> object:
        return _expires(self.invoice.metadata) or _expires(self.invoice.details.metadata)

    def _moment(self, said: object, lines: Sequence[PricedLine]) -> datetime | None:
        if said is None:
            return self.otherwise
        if said == PERIOD_END:
            ends = [line.period.end for line in lines if line.period is not None]
            if not ends:
                raise InvalidExpiryError(
                    f"{EXPIRES_METADATA} of {self.invoice.id} is {PERIOD_END}, "
                    "and its lines have no period."
                )
            return datetime.fromtimestamp(max(ends), UTC)
        try:
            return Duration.parse(str(said)).after(self.paid_at)
        except (ValueError, OverflowError) as error:
            raise InvalidExpiryError(
                f"{EXPIRES_METADATA}: write {PERIOD_END} or a duration such as P30D: {error}."
            ) from None


def _has_credits(metadata: Mapping[str, Any] | None) -> bool:
    return (metadata or {}).get(CREDITS_METADATA) is not None


def _expires(metadata: Mapping[str, Any] | None) -> object:
    return (metadata or {}).get(EXPIRES_METADATA)


def _credits(metadata: Mapping[str, Any] | None) -> Decimal:
    value = (metadata or {}).get(CREDITS_METADATA)
    match = _DECIMAL.fullmatch(value) if isinstance(value, str) else None
    if match is None or Decimal(str(value)) == 0:
        raise InvalidAmountError(
            f"{CREDITS_METADATA}: write credits like 250 or 12.5, not {str(value)[:100]!r}."
        )
    return Decimal(str(value))


def _rounded(exact: Fraction) -> Decimal:
    """Round down to the ledger's decimals."""
    return Decimal(math.floor(exact * _UNITS)).scaleb(-CREDIT_DECIMALS_MAX)
