"""What `prepaid doctor` says of the servers, the files, the endpoint at Stripe and the work."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from cli.checks import files, postgres, redis
from cli.checks.model import Caution, DoctorError
from shared.events.rules import HANDLED_TYPES
from shared.heartbeats import store as heartbeats
from shared.heartbeats.model import Beat
from shared.payments.webhook_endpoints import StripeEndpoint, problems
from tests.fixtures.commands import Command
from tests.fixtures.ledger import grant, post, tampering
from tests.fixtures.product import settings
from worker.invariant_checker import InvariantChecker

if TYPE_CHECKING:
    import stripe

    from sandbox.stripe.process import SimulatorProcess
    from shared.db.pool import Connection, Pool
    from shared.organizations.model import Organization
    from tests.fixtures.recharging import Shop

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOST = "https://credits.example.com"
URL = f"{HOST}/v1/webhooks/stripe"


async def doctor(prepaid: Command, stand_in: SimulatorProcess, **env: str) -> dict[str, Any]:
    """Return the checks by their names."""
    finished = await prepaid("doctor", "--json", STRIPE_API_BASE=stand_in.url, **env)
    checks = finished.json["checks"]
    assert finished.code == (0 if all(check["ok"] for check in checks) else 1)
    assert all(set(check) == {"name", "ok", "level", "detail", "fix"} for check in checks)
    return {check["name"]: check for check in checks}


async def test_doctor_finds_nothing_where_all_is_well(
    pool: Pool,
    connection: Connection,
    prepaid: Command,
    stand_in: SimulatorProcess,
    stripe_api: stripe.StripeClient,
) -> None:
    made = await stripe_api.v1.webhook_endpoints.create_async({"url": URL, "enabled_events": ["*"]})
    await heartbeats.beat(connection, uuid4(), [Beat("sweeper")])
    await InvariantChecker(pool).check()
    checks = await doctor(prepaid, stand_in, PREPAID_PUBLIC_URL=HOST)
    await stripe_api.v1.webhook_endpoints.delete_async(made.id)
    wrong = {name: check["detail"] for name, check in checks.items() if check["level"] != "ok"}
    assert set(wrong) <= {"postgres"}  # the suite's server runs without fsync


async def test_doctor_names_a_row_that_violates_an_invariant_and_what_to_do(
    pool: Pool, organization: Organization, prepaid: Command, stand_in: SimulatorProcess
) -> None:
    await post(pool, grant(organization, 5))
    async with tampering(pool) as connection:
        await connection.execute("UPDATE accounts SET held = held + 1")
    await InvariantChecker(pool).check()
    check = (await doctor(prepaid, stand_in))["invariants"]
    assert check["level"] == "problem"
    assert check["detail"].startswith("balances does not hold since ")
    assert f"organizationId {organization.id}" in check["detail"]
    assert check["fix"].startswith("Run prepaid ledger verify")
    assert check["fix"].endswith("docs/runbook.md#somebody-changed-a-row")


async def test_an_endpoint_that_lacks_types_is_found_and_the_command_that_doctor_names_mends_it(
    prepaid: Command, stand_in: SimulatorProcess, stripe_api: stripe.StripeClient, pool: Pool
) -> None:
    base = {"STRIPE_API_BASE": stand_in.url, "PREPAID_PUBLIC_URL": HOST}
    check = (await doctor(prepaid, stand_in, PREPAID_PUBLIC_URL=HOST))["webhook"]
    assert (check["level"], check["ok"]) == ("warning", True)  # `stripe listen` may deliver
    assert check["fix"] == f"prepaid stripe endpoint create --url {URL}"

    made = (await prepaid("stripe", "endpoint", "create", "--json", **base)).json
    assert made["secret"].startswith("whsec_")
    assert (made["url"], made["missingEvents"]) == (URL, [])
    assert set(made["enabledEvents"]) == HANDLED_TYPES
    assert (await doctor(prepaid, stand_in, PREPAID_PUBLIC_URL=HOST))["webhook"]["level"] == "ok"

    await stripe_api.v1.webhook_endpoints.update_async(
        made["id"], {"enabled_events": ["invoice.paid"], "disabled": True}
    )
    check = (await doctor(prepaid, stand_in, PREPAID_PUBLIC_URL=HOST))["webhook"]
    assert f"{made['id']} is disabled" in check["detail"]
    assert "payment_intent.succeeded" in check["detail"]
    assert check["fix"] == f"prepaid stripe endpoint update {made['id']}"

    await prepaid(*check["fix"].split()[1:], **base)
    assert (await doctor(prepaid, stand_in, PREPAID_PUBLIC_URL=HOST))["webhook"]["level"] == "ok"
    shown = await prepaid("stripe", "endpoint", "show", "--json", **base)
    assert [e["missingEvents"] for e in shown.json["endpoints"] if e["id"] == made["id"]] == [[]]
    assert made["secret"] not in shown.stdout + shown.stderr
    audited = await pool.fetch("SELECT action, details::text FROM audit_log ORDER BY at, id")
    assert [row["action"] for row in audited] == [
        "stripe.endpoint.create",
        "stripe.endpoint.update",
    ]
    assert made["secret"] not in str(audited)
    await stripe_api.v1.webhook_endpoints.delete_async(made["id"])


async def test_a_key_that_may_not_set_endpoints_is_told_which_permission_it_lacks(
    shop: Shop, prepaid: Command, stand_in: SimulatorProcess
) -> None:
    key = "rk_test_of_no_endpoint_0123"
    await shop.sim("restricted_keys", key=key, permissions=["rak_event_read"])
    env = {"STRIPE_API_BASE": stand_in.url, "STRIPE_API_KEY": key}
    for arguments in (["create", "--url", URL], ["update", "we_1"], ["show"]):
        finished = await prepaid("stripe", "endpoint", *arguments, **env)
        assert finished.code == 1
        assert "Webhook Endpoints: " in finished.stderr
    check = (await doctor(prepaid, stand_in, STRIPE_API_KEY=key))["webhook"]
    assert check["detail"] == "not checked: the restricted key lacks Webhook Endpoints: Read"


async def test_an_endpoint_that_stripe_does_not_know_is_refused(
    prepaid: Command, stand_in: SimulatorProcess
) -> None:
    finished = await prepaid(
        "stripe", "endpoint", "update", "we_none", STRIPE_API_BASE=stand_in.url
    )
    assert finished.code == 1
    assert "Stripe has no such endpoint" in finished.stderr


def endpoint(**changes: Any) -> StripeEndpoint:
    good: dict[str, Any] = {
        "id": "we_1",
        "url": URL,
        "status": "enabled",
        "api_version": None,
        "enabled_events": ["*"],
    }
    return StripeEndpoint(**good | changes)


@pytest.mark.parametrize(
    ("found", "detail"),
    [
        ([endpoint()], None),
        ([endpoint(api_version="2026-08-26.dahlia")], None),
        ([endpoint(api_version="2020-08-27")], "API version 2020-08-27"),
        ([endpoint(status="disabled")], "disabled"),
        ([endpoint(enabled_events=["b"])], "does not receive a"),
        ([endpoint(url=URL + "/")], "no webhook endpoint"),
        ([endpoint(url="https://old.example.com/v1/webhooks/stripe")], "no webhook endpoint"),
        ([], "no webhook endpoint"),
    ],
)
def test_what_is_wrong_with_an_endpoint_is_named(
    found: list[StripeEndpoint], detail: str | None
) -> None:
    named = [problem.detail for problem in problems(found, HOST, {"a", "b"})]
    assert (named == []) if detail is None else any(detail in text for text in named)


def test_without_a_public_url_an_endpoint_is_known_by_its_path() -> None:
    assert (
        problems([endpoint(url="https://any.example.com/v1/webhooks/stripe")], "http://x", {}) == []
    )


async def test_a_file_of_secrets_that_others_can_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PREPAID_HOME", raising=False)
    assert await files.check_files(settings()) == "no file here holds secrets"
    dotenv = tmp_path / ".env"
    dotenv.write_text("STRIPE_API_KEY=x", encoding="utf-8")
    dotenv.chmod(0o640)
    with pytest.raises(DoctorError) as refused:
        await files.check_files(settings())
    assert refused.value.fix == "chmod 600 .env"
    dotenv.chmod(0o600)
    assert await files.check_files(settings()) == "only their owner can read .env"


@pytest.mark.parametrize(
    ("seconds", "ahead"), [(-9, -9), (-0.5, -0.5), (0, 0), (0.5, 0), (1, 0), (8, 7)]
)
def test_a_clock_differs_only_beyond_both_readings(seconds: float, ahead: float) -> None:
    there = NOON + timedelta(seconds=seconds)
    assert postgres.clock_difference(there, NOON, NOON + timedelta(seconds=1)) == ahead


def test_a_pooler_that_shares_connections_is_a_warning_and_lost_statements_are_a_problem() -> None:
    assert "no pooler" in str(postgres.pooler_finding(shared=False, prepared=True))
    shared = postgres.pooler_finding(shared=True, prepared=True)
    assert isinstance(shared, Caution)
    assert "LISTEN" in shared.detail
    with pytest.raises(DoctorError, match="prepared statements"):
        postgres.pooler_finding(shared=True, prepared=False)


@pytest.mark.parametrize(
    ("url", "safe"),
    [
        ("redis://127.0.0.1:6379/0", True),
        ("unix:///run/redis.sock", True),
        ("redis://redis:6379/0", False),
        ("redis://:secret@redis:6379/0", True),
        ("rediss://redis:6379/0?password=secret", True),
    ],
)
def test_a_redis_on_another_machine_needs_a_password(url: str, safe: bool) -> None:
    assert redis.has_password(url) is safe
