"""PaymentIntents that no recharge attempt has: canceled, and never without a finding."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from shared.payments.paced_client import paced_client
from shared.payments.payment_intents import GatewayAnswer, PaymentIntentGateway
from shared.reconciliation.model import FindingKind, Outcome, RunMode, RunState
from tests.integration.reconciliation.conftest import Books, Interrupted, orphan, status

if TYPE_CHECKING:
    from sandbox.stripe.process import SimulatorProcess
    from shared.organizations.model import Organization


class DyingGateway(PaymentIntentGateway):
    """Cancels a PaymentIntent at Stripe; the process dies before it has the answer."""

    async def cancel(self, intent_id: str, *, stripe_account: str = "") -> GatewayAnswer:
        await super().cancel(intent_id, stripe_account=stripe_account)
        raise Interrupted


async def test_a_payment_that_is_canceled_as_the_process_dies_has_a_finding(
    books: Books, organization: Organization
) -> None:
    payment = await orphan(books, organization.id, uuid4())
    reconciliation = books.reconciliation
    dying = replace(reconciliation.tools, intents=DyingGateway(books.client))
    begun = await books.begin(RunMode.REPAIR)
    with pytest.raises(Interrupted):
        await replace(reconciliation, tools=dying).run(begun)
    assert await status(books, payment) == "canceled"

    summary = await reconciliation.run(await books.stored(begun))
    (finding,) = await books.findings(summary)
    assert summary.run.state is RunState.FINISHED
    assert (finding.object_id, finding.outcome) == (payment, Outcome.FOUND)
    assert finding.detail.endswith("its cancellation was requested")
    await books.shop.deliver_new()
    assert (await books.run()).findings == {}


async def test_what_a_page_has_found_is_stored_where_the_key_may_not_read_the_rest(
    books: Books, organization: Organization, stand_in: SimulatorProcess
) -> None:
    key = "rk_test_without_checkout"
    names = ("event", "payment_intent", "charge", "invoice", "customer", "refund", "dispute")
    await books.shop.sim(
        "restricted_keys", key=key, permissions=[f"rak_{name}_read" for name in names]
    )
    payment = await orphan(books, organization.id, uuid4())
    await books.lose("*", "never_generated", times=9)
    await books.shop.charge()
    async with paced_client(key, stand_in.url, per_second=1_000) as client:
        summary = await replace(books, client=client).run()
    assert [problem.list for problem in summary.run.problems] == ["payment_intents"]
    found = {(finding.kind, finding.object_id) for finding in await books.findings(summary)}
    assert found == {(FindingKind.ORPHANED_PAYMENT_INTENT, payment)}
