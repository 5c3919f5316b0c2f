"""The finance close of a month: deferred revenue in money, and the credits behind it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec

ZERO = Decimal(0)


class Part(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A part of a close, in camelCase. Decimals are exact."""


class DeferredRevenue(Part, frozen=True, kw_only=True):
    """Money received for credits that are not used yet, in units of the currency.

    opening + added - recognised - refunded - breakage - adjusted = closing. `recognised` is the
    cost of the credits that usage burned, `breakage` that of expired credits, `adjusted` that of
    credits taken by adjustments and voids. `refunded` is net of won disputes.
    """

    opening: Decimal = ZERO
    added: Decimal = ZERO
    recognised: Decimal = ZERO
    refunded: Decimal = ZERO
    breakage: Decimal = ZERO
    adjusted: Decimal = ZERO
    closing: Decimal = ZERO

    @property
    def is_balanced(self) -> bool:
        """Whether the lines lead from opening to closing."""
        taken = self.recognised + self.refunded + self.breakage + self.adjusted
        return self.opening + self.added - taken == self.closing


class Credits(Part, frozen=True, kw_only=True):
    """The credits of grants: opening + added + returned - the other lines = closing.

    `returned`: by disputes that were won.
    """

    opening: Decimal = ZERO
    added: Decimal = ZERO
    returned: Decimal = ZERO
    used: Decimal = ZERO
    refunded: Decimal = ZERO
    expired: Decimal = ZERO
    adjusted: Decimal = ZERO
    voided: Decimal = ZERO
    closing: Decimal = ZERO

    @property
    def is_balanced(self) -> bool:
        """Whether the lines lead from opening to closing."""
        taken = self.used + self.refunded + self.expired + self.adjusted + self.voided
        return self.opening + self.added + self.returned - taken == self.closing


class CurrencyClose(Part, frozen=True, kw_only=True):
    """The close of the organizations and payments in one currency.

    `paid` are the credits of Stripe payments, whose money is `deferred_revenue`; `promotional` are
    all others. Debt is usage that no credit has covered yet: it is recognised when one does.
    """

    currency: str
    deferred_revenue: DeferredRevenue = DeferredRevenue()
    paid: Credits = Credits()
    promotional: Credits = Credits()
    debt_opening: Decimal = ZERO
    debt_closing: Decimal = ZERO


class FinanceClose(Part, frozen=True, kw_only=True):
    """The close of a month over all organizations.

    `accounts`: what the month added to each account of the trial balance, in credits; the sum is
    zero. `ledger_hash` is the SHA-256 of the heads of all ledgers at the month's end,
    `previous_hash` that of the close of the latest earlier month that was closed.
    """

    month: str
    closed_at: datetime
    organizations: int
    transactions: int
    ledger_hash: str
    previous_month: str | None
    previous_hash: str | None
    currencies: list[CurrencyClose]
    accounts: dict[str, Decimal]
    organizations_opening: Decimal
    organizations_closing: Decimal


@dataclass(frozen=True, slots=True)
class StoredClose:
    """A close as it was stored: its document and the hash of it."""

    close: FinanceClose
    sha256: bytes


@dataclass(frozen=True, slots=True)
class Head:
    """The ledger of an organization in a month: its rows after `before_seq` until `last_seq`."""

    organization_id: UUID
    currency: str
    before_seq: int
    last_seq: int
    opening: Decimal
    closing: Decimal
    debt_opening: Decimal
    debt_closing: Decimal
    last_hash: bytes | None


@dataclass(frozen=True, slots=True)
class Movements:
    """Sums of some organizations. `money` is in the currency's smallest unit; None: promotional."""

    currency: str
    credits: Mapping[str, Decimal]
    money_minor: Mapping[str, int] | None


_ENCODER = msgspec.json.Encoder(decimal_format="number", order="deterministic")
_DECODER = msgspec.json.Decoder(FinanceClose)


def encode(close: FinanceClose) -> str:
    """Return a close as the JSON text that is stored and hashed."""
    return _ENCODER.encode(close).decode()


def decode(document: str) -> FinanceClose:
    """Return the close of a stored text, with every digit."""
    return _DECODER.decode(document)


def as_document(close: FinanceClose) -> dict[str, Any]:
    """Return a close as plain values, with Decimals."""
    document: dict[str, Any] = msgspec.to_builtins(close, builtin_types=(Decimal, datetime))
    return document
