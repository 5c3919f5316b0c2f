"""Organizations and API keys on PostgreSQL."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

import asyncpg
import pytest

from shared.access import service as access
from shared.errors import AlreadyExistsError, ConfigError, NotFoundError, ValidationError
from shared.ids import new_id, transaction_public_id
from shared.organizations import service, store
from shared.organizations.startup import check_settings
from tests.fixtures.product import create_organization

if TYPE_CHECKING:
    from shared.db.pool import Connection, Pool
    from shared.organizations.model import Organization


async def test_a_new_organization_has_an_empty_account(connection: Connection) -> None:
    made = await service.create(connection, slug="acme", name="Acme, Inc. ä")
    assert (made.slug, made.name, made.currency) == ("acme", "Acme, Inc. ä", "usd")
    row = await store.show(connection, made.id, "")
    assert row is not None
    assert (row["balance"], row["held"]) == (0, 0)


async def test_the_caller_may_choose_the_id(connection: Connection) -> None:
    chosen = new_id()
    made = await service.create(connection, slug="a", name="A", organization_id=chosen)
    assert made.id == chosen


async def test_a_currency_for_which_the_rate_is_too_fine_is_refused(connection: Connection) -> None:
    rate = Decimal("0.0000001")
    await service.create(connection, slug="a", name="A", credits_per_unit=rate)
    with pytest.raises(ValidationError, match=r"currency: .*too fine.*0\.001 KWD"):
        await service.create(connection, slug="b", name="B", currency="kwd", credits_per_unit=rate)


async def test_a_rate_that_is_too_fine_for_an_organization_stops_the_start(pool: Pool) -> None:
    rate = Decimal("0.0000001")
    async with pool.acquire() as connection:
        await service.create(connection, slug="a", name="A", currency="usd")
        await check_settings(pool, rate)
        await service.create(connection, slug="b", name="B", currency="kwd")
        await check_settings(pool, rate * 10)
    with pytest.raises(ConfigError, match=r"PREPAID_CREDITS_PER_UNIT: .*0\.001 KWD"):
        await check_settings(pool, rate)


@pytest.mark.parametrize("same", ["slug", "id"])
async def test_a_slug_or_id_in_use_is_refused_and_the_transaction_goes_on(
    connection: Connection, organization: Organization, same: str
) -> None:
    slug = organization.slug if same == "slug" else "another"
    taken = organization.id if same == "id" else None
    async with connection.transaction():
        with pytest.raises(
            AlreadyExistsError, match=organization.slug if same == "slug" else "another"
        ):
            await service.create(connection, slug=slug, name="X", organization_id=taken)
        await service.create(connection, slug="third", name="Third")
    assert await connection.fetchval("SELECT count(*) FROM organizations") == 2
    assert await connection.fetchval("SELECT count(*) FROM accounts") == 2


async def test_of_creations_of_a_slug_at_once_one_succeeds(pool: Pool) -> None:
    made = await asyncio.gather(
        *(create_organization(pool, "acme") for _ in range(6)), return_exceptions=True
    )
    refused = [outcome for outcome in made if isinstance(outcome, BaseException)]
    assert len(refused) == 5
    assert all(isinstance(error, AlreadyExistsError) for error in refused)


@pytest.mark.parametrize("reference", ["slug", "uuid", "hex", "braces"])
async def test_an_organization_is_found_by_slug_or_id(
    connection: Connection, organization: Organization, reference: str
) -> None:
    text = {
        "slug": organization.slug,
        "uuid": str(organization.id),
        "hex": organization.id.hex,
        "braces": f"{{{organization.id}}}",
    }[reference]
    assert (await service.find(connection, text)).id == organization.id


@pytest.mark.parametrize("reference", ["", "nobody", "ACME", str(UUID(int=1)), "%", "acme "])
async def test_what_is_not_there_is_not_found(
    connection: Connection, organization: Organization, reference: str
) -> None:
    with pytest.raises(NotFoundError):
        await service.find(connection, reference)


async def test_pages_of_organizations_go_oldest_first_without_gaps(
    connection: Connection, pool: Pool
) -> None:
    made = [await create_organization(pool, f"org-{n}") for n in range(5)]
    seen: list[UUID] = []
    while page := await store.list_page(connection, after=seen[-1] if seen else None, limit=2):
        seen += [row["id"] for row in page]
    assert seen == sorted(organization.id for organization in made)


@pytest.mark.parametrize(
    "fields",
    [
        {"slug": "Acme"},
        {"slug": "a" * 101},
        {"slug": str(UUID(int=1))},
        {"slug": UUID(int=1).hex},
        {"currency": "USD"},
        {"name": ""},
        {"name": "n" * 201},
    ],
)
async def test_the_database_itself_refuses_a_row_that_no_code_may_write(
    connection: Connection, fields: dict[str, Any]
) -> None:
    row = {"slug": "acme", "name": "Acme", "currency": "usd"} | fields
    with pytest.raises(asyncpg.CheckViolationError):
        await connection.execute(
            "INSERT INTO organizations (id, slug, name, currency) VALUES ($1, $2, $3, $4)",
            new_id(),
            row["slug"],
            row["name"],
            row["currency"],
        )


async def test_a_key_is_stored_as_its_digest_alone(
    connection: Connection, organization: Organization
) -> None:
    made = await access.create_key(
        connection, name="app", scope="write", organization_id=organization.id
    )
    assert made["key"].startswith("ppk_")
    assert made["organizationId"] == str(organization.id)
    row = await connection.fetchrow("SELECT * FROM api_keys")
    assert row is not None
    assert row["key_sha256"] == access.digest(made["key"])
    assert row["key_hint"] == made["key"][-4:]
    assert made["key"] not in str(dict(row))


async def test_every_key_is_another(connection: Connection) -> None:
    made = [
        await access.create_key(connection, name=f"app {n}", scope="read", organization_id=None)
        for n in range(5)
    ]
    assert len({key["key"] for key in made}) == 5
    assert len(await access.list_keys(connection)) == 5


@pytest.mark.parametrize("scope", ["", "root", "READ", "read,root", "read,", ","])
async def test_a_scope_that_does_not_exist_is_refused(connection: Connection, scope: str) -> None:
    with pytest.raises(ValidationError, match="scope"):
        await access.create_key(connection, name="app", scope=scope, organization_id=None)


@pytest.mark.parametrize("name", ["", "n" * 101])
async def test_a_key_without_a_proper_name_is_refused_with_a_sentence(
    connection: Connection, name: str
) -> None:
    with pytest.raises(ValidationError, match="name"):
        await access.create_key(connection, name=name, scope="read", organization_id=None)


async def test_a_key_is_revoked_once(connection: Connection) -> None:
    made = await access.create_key(connection, name="app", scope="admin", organization_id=None)
    await access.revoke_key(connection, UUID(made["id"]))
    (row,) = await access.list_keys(connection)
    assert row["revoked_at"] is not None
    with pytest.raises(NotFoundError):
        await access.revoke_key(connection, UUID(made["id"]))


async def test_a_key_that_does_not_exist_cannot_be_revoked(connection: Connection) -> None:
    with pytest.raises(NotFoundError):
        await access.revoke_key(connection, UUID(int=1))


def test_a_public_transaction_id_is_no_slug() -> None:
    assert "_" in transaction_public_id(new_id())
