"""A customer who is here buys credits with the card on file: one charge, carried at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

from shared.errors import ConflictError, NoPaymentMethodError
from shared.organizations.model import Organization
from shared.recharge import store
from shared.recharge.charger import Charger
from shared.recharge.recovery import new_link
from shared.recharge.rules import Go

if TYPE_CHECKING:
    import asyncpg


@dataclass(frozen=True, slots=True)
class ToppedUp:
    """The attempt as it stands, and the address of the page where its customer goes on, if any."""

    attempt: asyncpg.Record
    url: str | None


async def top_up(
    charger: Charger,
    organization: Organization,
    price: Go,
    *,
    attempt_id: UUID,
) -> ToppedUp:
    """Charge the card on file this price, and return how far that came.

    An attempt like those of auto-recharge, with the same guarantees: it is written down before
    Stripe hears of it, captures at most once, and is carried on by a worker where this process
    dies. The same `attempt_id` again charges nothing: the attempt is returned as it stands. Raises
    NoPaymentMethodError, or ConflictError while another attempt lives.
    """
    link, token = new_link(), uuid4()
    async with charger.pool.acquire() as connection, connection.transaction():
        await store.lock_account(connection, organization.id)
        known = await store.find_attempt(connection, organization.id, attempt_id)
        begun = known or await store.begin_top_up(
            connection,
            organization.id,
            attempt_id,
            price,
            currency=organization.currency,
            now=charger.now(),
            token=token,
            lease=charger.lease,
        )
        if begun is None and not await store.has_method(connection, organization.id):
            raise NoPaymentMethodError
    if begun is None:
        raise ConflictError("A charge of this organization is under way; wait until it has ended.")
    if known is not None:
        return ToppedUp(known, None)
    await charger.with_customer(link).carry(store.attempt(begun), token)
    async with charger.pool.acquire() as connection:
        found = await store.find_attempt(connection, organization.id, attempt_id)
    assert found is not None  # noqa: S101 - it was written above, and none is ever deleted
    waits = found["state"] == "requires_action"
    return ToppedUp(found, f"{charger.public_url}/pay/{link}" if waits else None)
