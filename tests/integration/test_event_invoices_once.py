"""A paid invoice is credited once: by any release, and to one organization."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from shared.events.service import Applier
from shared.ids import new_id
from shared.ledger import service as ledger
from shared.ledger.model import Posting, PostingStatus, SystemAccount, TransactionType
from shared.ledger.verification import store as verification
from shared.payments.model import SaleTerms
from shared.replay.service import Replayer
from tests.fixtures.product import (
    balance,
    balances,
    create_organization,
    event_states,
)
from tests.integration.invoices import ACME, KEY, apply, invoice, line
from worker.drainer import Drainer

if TYPE_CHECKING:
    from shared.db.pool import Pool
    from shared.organizations.model import Organization
    from shared.payments.lookup import StripeLookup
    from tests.fixtures.stripe_answers import StripeAnswers


async def test_what_an_older_release_posted_is_not_posted_again(
    pool: Pool, organization: Organization, asking: Drainer, stripe_answers: StripeAnswers
) -> None:
    # It counted each line in full, whatever its share.
    posting = Posting(
        organization_id=organization.id,
        id=new_id(),
        type=TransactionType.PURCHASE,
        amount=Decimal(500),
        counterparty=SystemAccount.STRIPE,
        key=KEY,
        description="Subscription",
    )
    async with pool.acquire() as connection:
        await ledger.post(connection, [posting])
    price = stripe_answers.price(credits_="250")
    assert await apply(pool, asking, invoice("paid", line(price, 500, proration=True))) == [
        "applied"
    ]
    assert await balance(pool) == 500
    assert stripe_answers.asked == []


async def test_an_older_release_finds_what_this_one_posted(
    pool: Pool, organization: Organization, asking: Drainer, stripe_answers: StripeAnswers
) -> None:
    stripe_answers.pay_invoice()
    says = {**ACME, "prepaid_credits": "250", "prepaid_expires": "P30D"}
    await apply(pool, asking, invoice(metadata=says))
    posting = Posting(
        organization_id=organization.id,
        id=new_id(),
        type=TransactionType.PURCHASE,
        amount=Decimal(250),
        counterparty=SystemAccount.STRIPE,
        key=KEY,
        description="Subscription",
    )
    async with pool.acquire() as connection:
        (result,) = await ledger.post(connection, [posting])
    assert result.status is PostingStatus.REPLAYED


@pytest.mark.parametrize("minor", [500, -500])
async def test_an_invoice_stays_with_its_organization_when_its_customer_moves_to_another(
    pool: Pool,
    organization: Organization,
    asking: Drainer,
    lookup: StripeLookup,
    stripe_answers: StripeAnswers,
    minor: int,
) -> None:
    """It was paid from the balance or out of band: no payment says whom it was credited to."""
    await create_organization(pool, "globex")
    await pool.execute("UPDATE organizations SET stripe_customer_id = 'cus_1' WHERE slug = 'acme'")
    price = stripe_answers.price(credits_="250")
    lines = [line(price, minor, proration=True)]
    fields: dict[str, Any] = {"metadata": {}, "amount_paid": 0, "total": minor}
    await apply(pool, asking, invoice("paid", *lines, **fields))
    before = await balances(pool)
    assert before == {"acme": minor // 4, "globex": 0}
    await pool.execute("UPDATE organizations SET stripe_customer_id = NULL")
    await pool.execute(
        "UPDATE organizations SET stripe_customer_id = 'cus_1' WHERE slug = 'globex'"
    )
    replayer = Replayer(pool, Applier(pool, SaleTerms(Decimal(1)), lookup=lookup), uuid4)
    await replayer.replay(list(await event_states(pool)), actor="test", reason=None)
    again = invoice("paid", *lines, **fields)
    assert await apply(pool, asking, again) == ["applied", "applied"]
    assert await balances(pool) == before
    ids = [row["id"] for row in await pool.fetch("SELECT id FROM organizations")]
    async with pool.acquire() as connection:
        assert await verification.payment_problems(connection, ids, 10) == []
    await pool.execute(
        "UPDATE stripe_invoices SET organization_id ="
        " (SELECT id FROM organizations WHERE slug = 'globex')"
    )
    async with pool.acquire() as connection:
        (problem,) = await verification.payment_problems(connection, ids, 10)
    assert problem["problem"] == "no row of its organization credits an invoice: in_1"
