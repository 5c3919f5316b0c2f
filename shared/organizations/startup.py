"""Checks of the settings against the organizations, when a process starts."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import asyncpg
import structlog

from shared.db.pool import UNAVAILABLE
from shared.db.start import asked_at_start
from shared.organizations import service

if TYPE_CHECKING:
    from shared.db.pool import Pool

log = structlog.get_logger()


async def check_settings(pool: Pool, credits_per_unit: Decimal) -> None:
    """Raise ConfigError where the rate does not suit the currency of an organization.

    The check is skipped while PostgreSQL is unavailable, does not answer in time, or has no schema.
    Most rates suit every currency and need no connection.
    """
    if not service.too_fine_for(credits_per_unit):
        return
    try:
        await asked_at_start(_check_rate(pool, credits_per_unit))
    except (*UNAVAILABLE, asyncpg.PostgresError) as error:
        log.warning("settings.not_checked", error=repr(error))


async def _check_rate(pool: Pool, credits_per_unit: Decimal) -> None:
    async with pool.acquire() as connection:
        await service.check_rate(connection, credits_per_unit)
