"""The shared resources of the API's handlers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID

from api.framework.authenticator import Authenticator
from api.framework.limits import Limiter
from api.framework.organization_lookup import OrganizationLookup
from api.framework.receipts import Receipts
from api.framework.shares import FairShare, SharedPool
from shared.config import Settings
from shared.http.deadlines import Deadlines
from shared.ids import new_id
from shared.ledger.balances import Balances
from shared.ledger.batches import Ledger
from shared.ledger.request_batches import RequestBatches
from shared.payments.client import Stripe
from shared.pricing.service import Pricer

if TYPE_CHECKING:
    from shared.db.pool import Connection
    from shared.payments.payment_intents import PaymentIntentGateway
    from shared.recharge.flow import Charger


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """The resources of the API. Clock and id factory are injected.

    `stripe` opens Stripe's hosted pages. `receipts` and `pay_gateway` call Stripe for read keys and
    pay links, in a lane of their own, so that charges do not wait for them.
    """

    settings: Settings
    pool: SharedPool
    ledger: Ledger
    batches: RequestBatches
    balances: Balances
    stripe: Stripe
    receipts: Receipts
    charger: Charger
    pay_gateway: PaymentIntentGateway
    authenticator: Authenticator
    organizations: OrganizationLookup
    limiter: Limiter
    searches: FairShare
    requests: FairShare
    deadlines: Deadlines = field(default_factory=Deadlines)
    pricer: Pricer = field(default_factory=Pricer)
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    make_id: Callable[[], UUID] = new_id

    @asynccontextmanager
    async def searching(self) -> AsyncIterator[Connection]:
        """Yield a connection for a search that may read a whole ledger, in the tenant's turn.

        A few searches run at once, one for each organization, so that connections remain for
        debits and webhooks. The others wait in turn, until their deadlines.
        """
        async with self.searches.turn(), self.pool.acquire() as connection:
            yield connection
