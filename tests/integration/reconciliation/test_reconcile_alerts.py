"""The alerts about differences to Stripe: silent after a repair, and they name the kind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.measurements import measurements
from shared.reconciliation.model import RunMode
from tests.fixtures.alert_rules import Prometheus
from tests.integration.reconciliation.conftest import FOR_US, Books

if TYPE_CHECKING:
    from shared.db.pool import Pool


async def scraped(pool: Pool) -> Prometheus:
    for measure in measurements(pool):
        await measure()
    prometheus = Prometheus()
    prometheus.scrape()
    return prometheus


async def test_the_alerts_for_drift_and_for_no_reconciliation_fire_until_a_repair_has_ended(
    books: Books,
) -> None:
    prometheus = await scraped(books.pool)
    assert prometheus.fires("PrepaidDrift") == []
    assert prometheus.fires("PrepaidNotReconciled"), "none has ended yet"
    await books.lose("*", "never_generated", times=99)
    await books.shop.charge(**FOR_US)
    await books.run()
    prometheus = await scraped(books.pool)
    assert {"kind": "charged_not_credited"} in prometheus.fires("PrepaidDrift")
    assert prometheus.fires("PrepaidNotReconciled") == []
    await books.run(RunMode.REPAIR)
    assert (await scraped(books.pool)).fires("PrepaidDrift") == []
    await books.pool.execute(
        "UPDATE reconciliation_runs SET started_at = started_at - interval '49 hours',"
        " finished_at = finished_at - interval '49 hours'"
    )
    assert (await scraped(books.pool)).fires("PrepaidNotReconciled")
