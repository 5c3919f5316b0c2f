"""R3: top-ups have daily limits, by organization and by key, also for two requests at once."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from shared.recharge.model import TopUps
from shared.recharge.top_ups.daily import DailyLimit
from tests.fixtures.api import ApiClient, serve_api
from tests.fixtures.product import Answer, until
from tests.fixtures.recharging import Shop

if TYPE_CHECKING:
    import aiohttp

    from shared.db.pool import Pool

PATH = "/v1/billing/acme/top-up"


async def top_up(client: ApiClient, amount: float) -> Answer:
    return await client.post(PATH, {"amount": amount})


async def test_r3_two_top_ups_of_9999_at_once_are_one(paying_client: ApiClient, shop: Shop) -> None:
    """R3: a key charged 9,999 twice within 0.2 s. The default limit is one largest purchase."""
    await shop.save_card()
    key = await paying_client.make_key("purchases", shop.owner)
    both = await asyncio.gather(top_up(key, 9_999), top_up(key, 9_999))
    assert sorted(answer.status for answer in both) in ([200, 409], [200, 429])
    later = await top_up(key, 9_999)
    assert (later.status, later.json["type"]) == (429, "rate_limit_error"), later.json
    assert "10000 units" in later.json["detail"]
    assert 0 < int(later.headers["Retry-After"]) <= 86_400
    assert (await top_up(key, 1)).status == 200
    assert sorted(await shop.captures()) == [100, 999_900]


async def test_what_failed_does_not_count_and_a_new_day_begins_at_zero(
    paying_client: ApiClient, shop: Shop
) -> None:
    await shop.save_card("pm_card_chargeCustomerFail")
    assert (await top_up(paying_client, 9_000)).status == 402
    await shop.save_card()
    failed = (await shop.attempt())["payment_method_id"]
    detach = "UPDATE payment_methods SET detached_at = now(), is_default = FALSE WHERE id = $1"
    await shop.pool.execute(detach, failed)
    assert (await top_up(paying_client, 9_000)).status == 200
    assert (await top_up(paying_client, 9_000)).status == 429
    await shop.pool.execute(
        "UPDATE recharge_attempts SET created_at = created_at - interval '1 day'"
    )
    assert (await top_up(paying_client, 9_000)).status == 200


async def test_a_key_has_a_limit_over_all_organizations(
    paying_client: ApiClient, shop: Shop, pool: Pool, client: aiohttp.ClientSession
) -> None:
    await shop.save_card()
    settings = replace(paying_client.api.settings, top_ups_per_day_count_by_key=2)
    async with serve_api(settings, pool, client) as bare:
        key, other = await bare.make_key("purchases"), await bare.make_key("purchases")
        assert (await top_up(key, 5)).status == 200
        # A charge of another organization by the same key.
        await pool.execute(
            "UPDATE recharge_attempts SET organization_id = $1, lease_token = NULL",
            await another(bare, pool),
        )
        assert (await top_up(key, 5)).status == 200
        refused = await top_up(key, 5)
        assert (refused.status, "API key" in refused.json["detail"]) == (429, True)
        assert (await top_up(other, 5)).status == 200


async def another(bare: ApiClient, pool: Pool) -> object:
    admin = await bare.make_key()
    await admin.post("/v1/organizations", {"slug": "other", "name": "Other"})
    return await pool.fetchval("SELECT id FROM organizations WHERE slug = 'other'")


async def somebody_waits(pool: Pool) -> bool:
    return bool(await pool.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"))


async def test_the_top_up_of_two_organizations_by_one_key_wait_for_each_other(
    paying_client: ApiClient, shop: Shop, pool: Pool, client: aiohttp.ClientSession
) -> None:
    """The second one is decided after the first has committed, and sees it."""
    await shop.save_card()
    settings = replace(paying_client.api.settings, top_ups_per_day_count_by_key=1)
    async with serve_api(settings, pool, client) as bare:
        key = await bare.make_key("purchases")
        key_id = await pool.fetchval("SELECT id FROM api_keys ORDER BY id DESC LIMIT 1")
        owner = await another(bare, pool)
        async with pool.acquire() as connection:
            transaction = connection.transaction()
            await transaction.start()
            await connection.execute("SELECT FROM api_keys WHERE id = $1 FOR NO KEY UPDATE", key_id)
            await connection.execute(
                "INSERT INTO recharge_attempts (organization_id, id, state, trigger, amount,"
                " amount_minor, currency, customer_id, payment_method_id, created_at, charged_at,"
                " key_id) VALUES ($1, gen_random_uuid(), 'charging', 'top_up', 1, 100, 'usd',"
                " 'cus_x', 'pm_x', now(), now(), $2)",
                owner, key_id,
            )  # fmt: skip
            asked = asyncio.create_task(top_up(key, 5))
            await until(lambda: somebody_waits(pool))
            await transaction.commit()
        assert (await asked).status == 429
    assert await shop.captures() == []


@pytest.mark.parametrize(
    ("spent", "price", "refused"),
    [
        ([], 100, False), ([], 101, True), ([("usd", 1, 5_000)], 50, False),
        ([("usd", 1, 5_001)], 50, True), ([("jpy", 1, 50), ("usd", 1, 5_000)], 0, False),
        ([("jpy", 1, 51), ("usd", 1, 5_000)], 0, True), ([("usd", 3, 3)], 1, True),
    ],
)  # fmt: skip
def test_a_limit_adds_up_units_of_each_currency(
    spent: list[tuple[str, int, int]], price: int, refused: bool
) -> None:
    limit = DailyLimit(amount=Decimal(100), count=3)
    found = limit.refusal([TopUps(*part) for part in spent], Decimal(price))
    assert (found is not None) is refused
    assert DailyLimit().refusal([TopUps(*part) for part in spent], Decimal(price)) is None
