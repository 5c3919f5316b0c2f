"""An installation and Stripe, some of whose events are lost."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest_asyncio

from shared.config import Settings
from shared.ids import new_id
from shared.payments.paced_client import paced_client
from shared.reconciliation import service, store
from shared.reconciliation.context import tools
from shared.reconciliation.model import Finding, Run, RunMode, RunRequest, RunSummary
from shared.reconciliation.run import Reconciliation
from tests.fixtures import product
from tests.fixtures.storefront import Storefront

if TYPE_CHECKING:
    import stripe

    from sandbox.stripe.process import SimulatorProcess
    from shared.db.pool import Pool
    from shared.organizations.model import Organization

FOR_US: dict[str, Any] = {"metadata": {"organization_id": "acme"}}
HOUR = 3600


class Interrupted(BaseException):
    """Ends a run as a crash does: nothing more is saved."""


@dataclass
class Books:
    """Sells credits, loses events, and reconciles what was created since the test began."""

    shop: Storefront
    client: stripe.StripeClient
    settings: Settings
    since: datetime

    @property
    def pool(self) -> Pool:
        return self.shop.pool

    async def lose(self, event: str, fault: str = "dropped", times: int = 1) -> None:
        """Let Stripe's next events of a type not arrive, or not exist at all."""
        await self.shop.sim("faults", event=event, fault=fault, times=times)

    async def run(self, mode: RunMode = RunMode.REPORT, **changes: Any) -> RunSummary:
        """Reconcile, and return the run."""
        return await self.reconciliation.run(await self.begin(mode, **changes))

    async def run_and_meanwhile(
        self, work: Callable[[], Awaitable[None]], mode: RunMode = RunMode.REPORT
    ) -> RunSummary:
        """Reconcile, and do something when the lists of Stripe have been compared."""
        stopped = await self.stop_at(await self.begin(mode), "disputes")
        await work()
        return await self.reconciliation.run(stopped)

    async def stop_at(self, run: Run, reached: str) -> Run:
        """Reconcile until a page of a list is saved, and die; return the run as it is stored."""
        interrupted = Interrupted()

        def at(name: str, _run: Run) -> None:
            if name == reached:
                raise interrupted

        with contextlib.suppress(Interrupted):
            await replace(self.reconciliation, on_progress=at).run(run)
        return await self.stored(run)

    async def stored(self, run: Run) -> Run:
        """Return a run as another process finds it."""
        async with self.pool.acquire() as connection:
            found = await store.find_run(connection, run.id)
        assert found is not None
        return found

    async def begin(self, mode: RunMode = RunMode.REPORT, **changes: Any) -> Run:
        request = RunRequest(mode=mode, since=self.since, requested_by="test", **changes)
        async with self.pool.acquire() as connection:
            begun = await store.create_run(
                connection, new_id(), request, executor="command", due_at=datetime.now(UTC)
            )
        assert begun is not None
        return begun

    async def begin_a_new_period(self) -> None:
        """Compare only what is created from now on."""
        now = (await self.shop.sim("clock/advance", seconds=HOUR))["now"]
        self.since = datetime.fromtimestamp(int(now), UTC)

    @property
    def reconciliation(self) -> Reconciliation:
        return Reconciliation(tools(self.pool, self.client, self.settings))

    async def findings(self, summary: RunSummary) -> list[Finding]:
        async with self.pool.acquire() as connection:
            return await service.findings(connection, summary.run.id)

    async def found(self, mode: RunMode = RunMode.REPORT) -> set[tuple[str, str]]:
        """Reconcile; return kind and object of each finding."""
        return {(f.kind, f.object_id) for f in await self.findings(await self.run(mode))}

    async def balance(self) -> Decimal:
        return await product.balance(self.pool)


async def orphan(books: Books, organization_id: object, attempt_id: object) -> str:
    """Create a PaymentIntent as a recharge attempt does, unconfirmed."""
    params: Any = {
        "amount": 2000,
        "currency": "usd",
        "metadata": {
            "organization_id": str(organization_id),
            "recharge_attempt_id": str(attempt_id),
        },
    }
    return (await books.shop.client.v1.payment_intents.create_async(params)).id


async def status(books: Books, payment: str) -> str:
    return (await books.shop.client.v1.payment_intents.retrieve_async(payment)).status


@pytest_asyncio.fixture
async def books(
    storefront: Storefront, stand_in: SimulatorProcess, organization: Organization
) -> AsyncIterator[Books]:
    # The simulator is shared by the tests of a module: each has a period of its own.
    await (await storefront.http.delete("/_sim/faults")).release()
    async with paced_client("sk_test_123", stand_in.url, per_second=1_000) as client:
        found = Books(storefront, client, product.settings(), datetime.now(UTC))
        await found.begin_a_new_period()
        yield found
