"""A lane for each organization that is posted apart: there is one while something waits in it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from shared.ledger.batches import LANES_BEFORE_PRUNING, Lanes
from shared.ledger.model import Posting, SystemAccount, TransactionType


async def answer(postings: Sequence[Posting]) -> Any:
    await asyncio.sleep(0)
    return postings


def posting(number: int) -> Posting:
    return Posting(
        organization_id=UUID(int=number),
        id=UUID(int=number),
        type=TransactionType.USAGE,
        counterparty=SystemAccount.REVENUE,
        key=str(number),
    )


async def test_lanes_of_many_organizations_are_forgotten_once_nothing_waits_in_them() -> None:
    lanes = Lanes(answer, at_once_max=3)
    numbers = range(20 * LANES_BEFORE_PRUNING)
    for number in numbers:
        await lanes.submit(posting(number))
    assert len(lanes._lanes) <= LANES_BEFORE_PRUNING  # noqa: SLF001
    await asyncio.gather(*(lanes.submit(posting(number)) for number in numbers))
    assert not any(UUID(int=number) in lanes for number in numbers)
