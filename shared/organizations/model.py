"""An organization: the customer who owns credits."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import msgspec


class Organization(msgspec.Struct, frozen=True, kw_only=True):
    """A customer. `currency` is ISO 4217 in lower case; its payments must be in it.

    `number` counts organizations, for clients that identify them by number. `stripe_account` is the
    connected account that its Stripe customer belongs to; empty: the account of the Stripe key.
    """

    id: UUID
    number: int
    slug: str
    name: str
    currency: str
    email: str | None
    stripe_customer_id: str | None
    created_at: datetime
    updated_at: datetime
    stripe_account: str = ""
