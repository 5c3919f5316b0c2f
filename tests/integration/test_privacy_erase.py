"""prepaid privacy erase: what is erased, what stays, and what does not come back."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest_asyncio

from sandbox.signed_events import event
from shared.access import service as audit
from shared.erasure import service as erasure
from shared.ids import new_id
from shared.ledger.verification.service import verify
from shared.organizations import service as organizations
from tests.fixtures.commands import Command, assert_refused
from tests.fixtures.product import balance, event_row, event_states, payment, receive, transactions
from worker.drainer import Drainer

if TYPE_CHECKING:
    from shared.db.pool import Pool
    from shared.organizations.model import Organization

NAME, EMAIL, LAST4 = "Jo Doe", "jo@acme.example", "9871"
REASON = ("--reason", "a request under article 17")
CARD = {"brand": "visa", "last4": LAST4, "exp_month": 4, "exp_year": 2031, "fingerprint": "fp_jo"}
PERSONAL = (NAME, EMAIL, LAST4, "fp_jo", "Your card was declined, Jo.")


def method(event_id: str, method_id: str) -> bytes:
    return event(
        event_id,
        "payment_method.attached",
        {
            "id": method_id,
            "object": "payment_method",
            "type": "card",
            "card": CARD,
            "customer": "cus_jo",
            "billing_details": {"email": EMAIL, "name": NAME},
            "metadata": {},
        },
    )


def customer(event_id: str) -> bytes:
    made = {"id": "cus_jo", "object": "customer", "email": EMAIL, "name": NAME, "metadata": {}}
    return event(event_id, "customer.created", made)


ROWS = """
INSERT INTO webhook_endpoints (id, url, secret)
VALUES ('00000000-0000-0000-0000-000000000001', 'https://a.test/', 'whsec_' || repeat('A', 32));
INSERT INTO outbound_messages
    (id, endpoint_id, organization_id, type, payload, state, settled_at, last_status, reason)
SELECT gen_random_uuid(), '00000000-0000-0000-0000-000000000001', id, 'credits.low',
    '{"name": "Jo Doe"}', s, now(), 200, 'x'
FROM organizations, unnest(ARRAY['delivered', 'dead', 'discarded']) AS s;
INSERT INTO recharge_attempts
    (organization_id, id, state, reason, detail, decline_code, created_at, settled_at)
SELECT id, gen_random_uuid(), 'canceled', 'declined', 'Your card was declined, Jo.', 'lost', now(),
    now()
FROM organizations;
INSERT INTO idempotent_requests (tenant_id, key, digest, id, locked_until, status, answer)
SELECT id, 'k', '', gen_random_uuid(), now(), 200, 'Jo Doe'::bytea FROM organizations;
INSERT INTO console_links (token_sha256, actor, role, organization_id, created_at, expires_at)
SELECT 'x'::bytea, 'link:Jo Doe', 'view', id, now(), now() + interval '1 hour' FROM organizations;
"""


@pytest_asyncio.fixture
async def closed(
    pool: Pool, organization: Organization, drainer: Drainer, prepaid: Command
) -> Organization:
    """Return a closed organization with personal data in every table that an erasure changes."""
    async with pool.acquire() as connection, connection.transaction():
        await organizations.change(connection, organization, name=NAME, email=EMAIL)
        for entry in (
            {"name": NAME, "currency": "usd"},
            {"billingEmail": EMAIL},
            {"budgetSubject": NAME},
            {"n": 1},
        ):
            await audit.record(
                connection, actor="test", action="organizations.change",
                subject=str(organization.id), organization_id=organization.id, details=entry,
            )  # fmt: skip
    await pool.execute("UPDATE organizations SET stripe_customer_id = 'cus_jo'")
    details: dict[str, Any] = {
        "billing_details": {"email": EMAIL},
        "receipt_email": EMAIL,
        "customer": "cus_jo",
    }
    await receive(
        pool, customer("customer"), method("attached", "pm_1"), payment("1", **details),
        payment("dead", amount_received="ten", **details),
    )  # fmt: skip
    await drainer.drain()
    await pool.execute(ROWS)
    assert (await prepaid("orgs", "close", "acme", *REASON)).code == 0
    return organization


async def found(pool: Pool, *texts: str) -> dict[str, list[str]]:
    """Return the tables in which these texts occur."""
    occurrences: dict[str, list[str]] = {}
    names = await pool.fetch(
        "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1"
    )
    for (name,) in names:
        rows = f"SELECT t::text FROM {name} AS t"  # noqa: S608 - a name of the catalog
        everything = "".join(row[0] for row in await pool.fetch(rows))
        for text in texts:
            if text in everything:
                occurrences.setdefault(text, []).append(name)
    return occurrences


async def erase(prepaid: Command, url: str, *options: str) -> Any:
    done = await prepaid("privacy", "erase", "acme", *REASON, *options, "--json", DATABASE_URL=url)
    assert done.code == 0, done.stderr
    return done.json


async def test_an_erasure_leaves_no_personal_data_outside_what_it_names_and_the_ledger_verifies(
    prepaid: Command, pool: Pool, database_url: str, closed: Organization
) -> None:
    before = [dict(row) for row in await transactions(pool)]
    assert {*await found(pool, *PERSONAL)} == {*PERSONAL}
    document = await erase(prepaid, database_url)
    assert document["erased"] == {
        "organizations": 1, "budgets": 0, "auto_recharges": 0, "api_sessions": 0,
        "console_sessions": 0, "console_links": 1, "outbound_messages": 3, "recharge_attempts": 1,
        "payment_methods": 1, "idempotent_requests": 1, "budget_counters": 0, "stripe_events": 3,
        "audit_log": 3,
    }  # fmt: skip
    assert [(one["table"], one["rows"]) for one in document["left"]] == [("stripe_events", 1)]
    assert await found(pool, *PERSONAL) == {EMAIL: ["stripe_events"]}, "the dead event's alone"
    assert [dict(row) for row in await transactions(pool)] == before
    async with pool.acquire() as connection:
        assert (await verify(connection))["problems"] == []
    kept = json.loads((await event_row(pool, "evt_1"))["payload"])
    assert kept["data"]["object"] == {"id": "pi_1", "object": "payment_intent"}
    entries = await pool.fetch("SELECT action, reason FROM audit_log ORDER BY at, id")
    assert [tuple(row) for row in entries[-2:]] == [
        ("privacy.erase", REASON[1]),
        ("privacy.erased", REASON[1]),
    ]


async def test_a_second_erasure_changes_nothing_and_erases_what_was_discarded_meanwhile(
    prepaid: Command, pool: Pool, database_url: str, closed: Organization
) -> None:
    await erase(prepaid, database_url)
    entries = await pool.fetchval("SELECT count(*) FROM audit_log")
    assert (await erase(prepaid, database_url))["changed"] is False
    assert await pool.fetchval("SELECT count(*) FROM audit_log") == entries
    assert (await prepaid("events", "discard", "evt_dead", *REASON)).code == 0
    again = await erase(prepaid, database_url)
    assert (again["erased"]["stripe_events"], again["left"]) == (1, [])
    assert await found(pool, *PERSONAL) == {}


async def test_a_dry_run_counts_the_same_rows_and_changes_nothing(
    prepaid: Command, pool: Pool, database_url: str, closed: Organization
) -> None:
    before = await found(pool, *PERSONAL)
    counted = await erase(prepaid, database_url, "--dry-run")
    assert await found(pool, *PERSONAL) == before
    assert (await erase(prepaid, database_url))["erased"] == counted["erased"]


async def test_batches_smaller_than_the_rows_erase_all_of_them(
    pool: Pool, closed: Organization
) -> None:
    async with pool.acquire() as connection:
        done = await erasure.erase(connection, closed, actor="test", reason="r", rows_max=1)
    assert done.erased["outbound_messages"] == 3
    assert (done.erased["stripe_events"], done.erased["audit_log"]) == (3, 3)


async def test_events_after_an_erasure_bring_no_personal_data_back(
    prepaid: Command, pool: Pool, database_url: str, closed: Organization, drainer: Drainer
) -> None:
    assert (await prepaid("events", "discard", "evt_dead", *REASON)).code == 0
    await erase(prepaid, database_url)
    await receive(pool, method("again", "pm_1"), method("other", "pm_2"))
    await drainer.drain()
    states = await event_states(pool)
    assert (states["evt_again"], states["evt_other"]) == ("applied", "applied")
    assert await found(pool, *PERSONAL) == {}
    attached = await pool.fetchval("SELECT count(*) FROM payment_methods WHERE detached_at IS NULL")
    assert attached == 0


async def test_the_role_of_the_processes_erases_all_but_the_audit_log_and_says_so(
    prepaid: Command, pool: Pool, database_url: str, closed: Organization, request: Any
) -> None:
    done = (await prepaid("privacy", "erase", "acme", *REASON, "--json")).json
    if request.config.getoption("database_roles") == "superuser":
        assert done["erased"]["audit_log"] == 3
        return
    left = {one["table"]: one for one in done["left"]}
    assert (left["audit_log"]["rows"], "owner" in left["audit_log"]["reason"]) == (3, True)
    assert (await erase(prepaid, database_url))["erased"]["audit_log"] == 3


async def test_an_organization_is_closed_before_its_erasure_and_is_not_reopened_after_it(
    prepaid: Command, pool: Pool, database_url: str, organization: Organization
) -> None:
    refused = await prepaid("privacy", "erase", "acme", *REASON)
    assert_refused(refused, "not closed", "prepaid orgs close acme")
    await prepaid("orgs", "close", "acme", *REASON)
    await erase(prepaid, database_url)
    assert_refused(await prepaid("orgs", "reopen", "acme", *REASON), "was erased")
    edit = await prepaid("orgs", "edit", "acme", "--email", "jo@acme.example", *REASON)
    assert_refused(edit, "was erased")
    shown = (await prepaid("orgs", "show", "acme", "--json")).json
    assert (shown["name"], shown["email"]) == (f"erased {organization.id}", None)


async def test_another_organization_loses_nothing(
    prepaid: Command, pool: Pool, database_url: str, closed: Organization, drainer: Drainer
) -> None:
    other = new_id()
    async with pool.acquire() as connection, connection.transaction():
        made = await organizations.create(
            connection, slug="other", name="Other", email="o@other.example", organization_id=other
        )
    await receive(pool, payment("2", organization="other", receipt_email="o@other.example"))
    await drainer.drain()
    await erase(prepaid, database_url)
    assert (await event_row(pool, "evt_2"))["payload_forgotten_at"] is None
    async with pool.acquire() as connection:
        assert (await organizations.find(connection, str(made.id))).email == "o@other.example"
    assert await balance(pool, "other") == Decimal(10)
