"""One Idempotency-Key of one organization is one request, whatever operation or key sends it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from api.endpoints import OPERATIONS
from api.framework.operation import Operation, Retry
from shared.errors import IdempotencyError
from tests.fixtures.api import ApiClient
from tests.fixtures.operation_requests import check_refused, send
from tests.fixtures.operation_tenants import World
from tests.fixtures.operations import Whose, whose

if TYPE_CHECKING:
    from tests.fixtures.operation_requests import Request


MIGRATION = Path(__file__).parents[2] / "migrations/sql/0011_keys_of_organizations.sql"


@dataclass(frozen=True)
class Write:
    """A write operation, and fields of its body that decide where its key is remembered."""

    operation: Operation
    body: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.operation.name + ("-keyed-by-header" if self.body else "")

    async def request(self, world: World) -> Request:
        return await world.request(self.operation, world.a, **self.body)


def writes(*, of_installation: bool) -> list[Write]:
    found = []
    for operation in OPERATIONS:
        mine = (whose(operation) is Whose.INSTALLATION) is of_installation
        if operation.retry is Retry.READ or not mine:
            continue
        found.append(Write(operation))
        if "transactionId" in operation.example:
            found.append(Write(operation, {"transactionId": None}))
    return found


OF_AN_ORGANIZATION = writes(of_installation=False)
OF_THE_INSTALLATION = writes(of_installation=True)


def test_every_write_is_in_the_table() -> None:
    assert {w.operation.name for w in (*OF_AN_ORGANIZATION, *OF_THE_INSTALLATION)} == {
        o.name for o in OPERATIONS if o.retry is not Retry.READ
    }
    assert len([w for w in OF_AN_ORGANIZATION if w.body]) == 3


@pytest.mark.parametrize("first", OF_AN_ORGANIZATION, ids=str)
async def test_a_key_of_one_write_is_refused_for_every_other(world: World, first: Write) -> None:
    """M14: whatever operation was first, no other is done under its key."""
    await refuses_every_other(world, first, OF_AN_ORGANIZATION)


@pytest.mark.parametrize("first", OF_THE_INSTALLATION, ids=str)
async def test_a_key_of_the_installation_is_refused_for_every_other(
    world: World, first: Write
) -> None:
    await refuses_every_other(world, first, OF_THE_INSTALLATION)


async def refuses_every_other(world: World, first: Write, every: list[Write]) -> None:
    others = [(other, await other.request(world)) for other in every if other != first]
    answer = await send(world.client, await first.request(world), idempotency_key="k")
    assert answer.status == first.operation.status, answer.json
    before = await world.everything()
    for other, request in others:
        refused = await send(world.client, request, idempotency_key="k")
        assert refused.status == 409, (str(other), refused.json)
        check_refused(refused, IdempotencyError)
    assert await world.everything() == before


@pytest.mark.parametrize("write", OF_AN_ORGANIZATION, ids=str)
async def test_a_key_of_all_organizations_and_one_of_this_share_their_idempotency_keys(
    world: World, write: Write
) -> None:
    """M14: the app may change its API key between two tries."""
    bound = await world.client.make_key(organization=world.a.organization)
    request = await write.request(world)
    first = await send(world.client, request, idempotency_key="k")
    again = await send(bound, request, idempotency_key="k")
    assert first.status == write.operation.status, first.json
    assert (again.status, again.json) == (first.status, first.json)
    assert again.headers["Idempotent-Replayed"] == "true"


async def test_an_organization_is_one_however_a_body_names_it(world: World) -> None:
    (checkout,) = (o for o in OPERATIONS if o.name == "createCheckout")
    bound = await world.client.make_key(organization=world.a.organization)
    request = await world.request(checkout, world.a)
    assert (await send(world.client, request, idempotency_key="k")).status == 200
    other = await world.request(checkout, world.a, organizationId=None)
    check_refused(await send(bound, other, idempotency_key="k"), IdempotencyError)


async def test_two_organizations_may_use_the_same_key(world: World) -> None:
    for tenant in (world.a, world.b):
        for operation in (o for o in OPERATIONS if o.name == "createCheckout"):
            request = await world.request(operation, tenant)
            assert (await send(world.client, request, idempotency_key="k")).status == 200


async def test_a_hold_and_a_debit_at_once_under_one_key_are_one(world: World) -> None:
    """M14, side by side: one is done, and the other is refused."""
    client, slug = world.client, world.a.slug
    before = (await client.get(f"/v1/billing/{slug}/credits")).json

    async def both(key: str) -> list[int]:
        answers = await asyncio.gather(
            client.post(f"/v1/billing/{slug}/holds", {"amount": 2}, idempotency_key=key),
            debit(client, slug, key),
        )
        return sorted(answer.status for answer in answers)

    assert await asyncio.gather(*(both(f"k{n}") for n in range(40))) == [[200, 409]] * 40
    after = (await client.get(f"/v1/billing/{slug}/credits")).json
    spendable = [
        found["creditsBalanceDecimillicents"] - found["reservedCreditsDecimillicents"]
        for found in (before, after)
    ]
    assert spendable[0] - spendable[1] == 40 * 20_000_000


async def debit(client: ApiClient, slug: str, key: str) -> Any:
    asked = {"organizationId": slug, "amount": -2}
    return await client.post("/api/credit-transactions", asked, idempotency_key=key)


async def test_a_refused_hold_leaves_its_key_to_a_debit(world: World) -> None:
    slug = world.a.slug
    path = f"/v1/billing/{slug}/holds"
    refused = await world.client.post(path, {"amount": 10**9}, idempotency_key="k")
    assert refused.status == 402
    assert (await debit(world.client, slug, "k")).status == 200


async def test_debits_in_one_batch_are_refused_one_by_one(world: World) -> None:
    """Debits that share a commit: those whose key is taken are refused, the others are posted."""
    client, slug = world.client, world.a.slug
    for number in range(0, 10, 2):
        path = f"/v1/billing/{slug}/holds"
        await client.post(path, {"amount": 2}, idempotency_key=f"k{number}")
    answers = await asyncio.gather(*(debit(client, slug, f"k{number}") for number in range(10)))
    assert [answer.status for answer in answers] == [409, 200] * 5
    assert [a.json["amount"] for a in answers if a.status == 200] == [-2] * 5


@pytest.mark.parametrize("operation", ["createCheckout", "topUp"])
async def test_a_charge_from_before_the_migration_is_found_by_its_key(
    world: World, operation: str
) -> None:
    (charge,) = (o for o in OPERATIONS if o.name == operation)
    request = await world.request(charge, world.a)
    first = await send(world.client, request, idempotency_key="k")
    await world.pool.execute(
        "UPDATE idempotent_requests SET tenant_id = '00000000-0000-0000-0000-000000000000'"
    )
    await world.pool.execute(MIGRATION.read_text(encoding="utf-8"))
    again = await send(world.client, request, idempotency_key="k")
    assert (again.status, again.json) == (first.status, first.json)
    assert again.headers["Idempotent-Replayed"] == "true"
