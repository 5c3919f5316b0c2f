"""What a budget costs: a hot organization with one, against one without, by turns."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from bench import ledger
from bench.results import Ratio, rates
from bench.setting import create_organization
from shared.budgets import service
from shared.budgets.model import NewBudget, SubjectKind, WindowKind
from shared.db.pool import connect

if TYPE_CHECKING:
    from shared.db.pool import Connection


async def measure(environment: Mapping[str, str], _folder: Path) -> list[Ratio]:
    """Measure batches of 200 plain debits of one organization."""
    url = environment["DATABASE_URL"]
    without = UUID(await create_organization(url, "without"))
    limited = UUID(await create_organization(url, "limited"))
    lanes = [await connect(url, application_name="prepaid-bench") for _ in range(ledger.LANES)]
    try:
        await ledger.grant(lanes[0], [without, limited])
        await _limit(lanes[0], limited)
        measured = {
            owner: await ledger.rate(lanes, ledger.BATCH, partial(_post, owner))
            for owner in (without, limited)
        }
    finally:
        for lane in lanes:
            await lane.close()
    return [
        rates("hot organization with a budget / without", measured[limited], measured[without], 0.7)
    ]


async def _post(owner: UUID, connection: Connection) -> None:
    await ledger.post(connection, [owner] * ledger.BATCH)


async def _limit(connection: Connection, owner: UUID) -> None:
    """Limit the category of all usage, far above it."""
    budget = NewBudget(
        subject_kind=SubjectKind.CATEGORY,
        subject="tokens",
        window_kind=WindowKind.MONTH,
        limit=ledger.OWNED,
    )
    async with connection.transaction():
        await service.create(connection, owner, budget, actor="bench", now=datetime.now(UTC))
