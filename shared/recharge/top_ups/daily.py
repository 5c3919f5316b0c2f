"""Daily limits of top-ups, by organization and by API key: amount and number in a UTC day."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING
from uuid import UUID

from shared.errors import RateLimitError
from shared.money import minor_unit_exponent, plain
from shared.organizations.model import Organization
from shared.recharge.model import TopUps
from shared.recharge.rules import ChargeAmount
from shared.recharge.top_ups import store as top_up_store

if TYPE_CHECKING:
    from shared.config import Settings
    from shared.db.pool import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class DailyLimit:
    """The limits of a day: an amount in whole units of currency, and a number; 0: no limit."""

    amount: Decimal = Decimal(0)
    count: int = 0

    def refusal(self, spent: Sequence[TopUps], price: Decimal) -> str | None:
        """Return why one more top-up exceeds the limit; None: it does not."""
        if self.count and sum(part.count for part in spent) >= self.count:
            return f"At most {self.count} top-ups a day"
        amount = sum((units(part.amount_minor, part.currency) for part in spent), price)
        if self.amount and amount > self.amount:
            return f"At most {plain(self.amount)} units of currency in top-ups a day"
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class DailyLimits:
    """Both limits of an installation."""

    organization: DailyLimit = DailyLimit()
    key: DailyLimit = DailyLimit()

    @classmethod
    def of(cls, settings: Settings) -> DailyLimits:
        """Read them from the settings."""
        return cls(
            organization=DailyLimit(
                amount=settings.top_ups_per_day_amount, count=settings.top_ups_per_day_count
            ),
            key=DailyLimit(
                amount=settings.top_ups_per_day_amount_by_key,
                count=settings.top_ups_per_day_count_by_key,
            ),
        )


def units(amount_minor: int, currency: str) -> Decimal:
    """Return an amount in whole units of its currency."""
    return Decimal(amount_minor).scaleb(-minor_unit_exponent(currency))


async def check(
    connection: Connection,
    limits: DailyLimits,
    organization: Organization,
    price: ChargeAmount,
    *,
    key_id: UUID | None,
    now: datetime,
) -> None:
    """Raise RateLimitError if a top-up would exceed a limit of this day.

    Failed and canceled top-ups do not count. The caller holds the account's lock and writes the
    attempt in the same transaction; the key is locked here, so that concurrent top-ups of one key
    see each other, also those of different organizations.
    """
    day = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    cost = units(price.amount_minor, organization.currency)
    spent = [await top_up_store.top_ups_of_organization(connection, organization, day)]
    refused = limits.organization.refusal(spent, cost)
    subject = "organization"
    if refused is None and key_id is not None and limits.key != DailyLimit():
        await top_up_store.lock_key(connection, key_id)
        of_key = await top_up_store.top_ups_of_key(connection, key_id, organization.id, day)
        refused = limits.key.refusal(of_key, cost)
        subject = "API key"
    if refused is not None:
        wait = int((day + timedelta(days=1) - now).total_seconds()) + 1
        raise RateLimitError(
            f"{refused} for this {subject}; the next day begins in {wait} s (UTC).",
            retry_after_seconds=wait,
        )
