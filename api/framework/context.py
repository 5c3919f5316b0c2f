"""What the handlers of the API work with, put together once."""

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
from shared.payments.client import Stripe

if TYPE_CHECKING:
    from shared.db.pool import Connection
    from shared.payments.payment_intents import PaymentIntentGateway
    from shared.recharge.flow import Charger


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """The parts of the API. Time and ids are passed in.

    `stripe` opens pages of Stripe's. `receipts` and `pay_gateway` ask it on behalf of read keys and
    pay links: in a lane of their own, which charges do not wait for.
    """

    settings: Settings
    pool: SharedPool
    ledger: Ledger
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
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    make_id: Callable[[], UUID] = new_id

    @asynccontextmanager
    async def searching(self) -> AsyncIterator[Connection]:
        """Give a connection for a read that may look through a whole ledger, when it is its turn.

        A few such reads run at once, one of each organization, so that the other connections are
        left for debits and webhooks. The rest wait in turn, until their deadlines.
        """
        async with self.searches.turn(), self.pool.acquire() as connection:
            yield connection
