"""`prepaid doctor` on Stripe keys: one that Stripe refuses, and restricted ones."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from shared.payments.client import stripe_client
from shared.payments.permissions import (
    COMMAND_PERMISSIONS,
    PERMISSIONS,
    UNKNOWN_CUSTOMER,
    Access,
    Permission,
    lacking,
)
from tests.fixtures.commands import Command
from tests.fixtures.recharging import Shop

if TYPE_CHECKING:
    from sandbox.stripe.process import SimulatorProcess

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/operations.md"
KEY = "rk_test_of_the_doctor_0123"


async def lacks(shop: Shop, stand_in: SimulatorProcess, permissions: list[str]) -> list[Permission]:
    await shop.sim("restricted_keys", key=KEY, permissions=permissions)
    async with stripe_client(KEY, stand_in.url) as client:
        return await lacking(client)


@pytest.mark.parametrize("left_out", PERMISSIONS, ids=lambda permission: permission.id)
async def test_a_permission_that_a_restricted_key_lacks_is_found(
    shop: Shop, stand_in: SimulatorProcess, left_out: Permission
) -> None:
    permissions = [p.id for p in PERMISSIONS if p is not left_out]
    assert await lacks(shop, stand_in, permissions) == [left_out]


async def test_write_includes_read_and_read_is_not_write(
    shop: Shop, stand_in: SimulatorProcess
) -> None:
    writes = [p.id.removesuffix("_read").removesuffix("_write") + "_write" for p in PERMISSIONS]
    assert await lacks(shop, stand_in, writes) == []
    reads = [p.id.removesuffix("_read").removesuffix("_write") + "_read" for p in PERMISSIONS]
    found = await lacks(shop, stand_in, reads)
    assert found == [p for p in PERMISSIONS if p.access is Access.WRITE]


async def test_looking_for_permissions_changes_nothing_at_stripe(
    shop: Shop, stand_in: SimulatorProcess
) -> None:
    async with shop.session.get("/_sim/requests") as answer:
        before = len((await answer.json())["data"])
    assert await lacks(shop, stand_in, [p.id for p in PERMISSIONS]) == []
    async with shop.session.get("/_sim/requests") as answer:
        made = (await answer.json())["data"][before:]
    assert len(made) == sum(len(p.probes) for p in PERMISSIONS)
    assert [r for r in made if r["method"] != "GET" and r["status"] < 400] == []


async def test_doctor_names_the_permissions_that_the_key_lacks(
    shop: Shop, stand_in: SimulatorProcess, prepaid_process: Command
) -> None:
    await shop.sim("restricted_keys", key=KEY, permissions=["rak_event_read"])
    finished = await prepaid_process(
        "doctor", "--json", STRIPE_API_KEY=KEY, STRIPE_API_BASE=stand_in.url
    )
    assert finished.code == 1
    checks = {check["name"]: check for check in finished.json["checks"]}
    assert checks["stripe"]["ok"] is True
    assert checks["permissions"]["ok"] is False
    assert "Customers: Write, Disputes: Read, Invoices: Read" in checks["permissions"]["detail"]
    assert "Events" not in checks["permissions"]["detail"]


async def test_doctor_says_that_stripe_refuses_the_key(
    stand_in: SimulatorProcess, prepaid_process: Command
) -> None:
    finished = await prepaid_process(
        "doctor",
        "--json",
        STRIPE_API_KEY="sk_test_not-one-of-this-account",
        STRIPE_API_BASE=stand_in.url,
    )
    assert finished.code == 1
    checks = {check["name"]: check for check in finished.json["checks"]}
    assert checks["stripe"]["ok"] is False
    assert "Stripe refuses STRIPE_API_KEY" in checks["stripe"]["detail"]


async def test_doctor_says_why_recharge_attempts_wait(
    shop: Shop, stand_in: SimulatorProcess, prepaid_process: Command
) -> None:
    """M3."""
    create = {"method": "POST", "path": "/v1/payment_intents"}
    await shop.sim("faults", **create, fault="forbidden_403", times=100)
    await shop.open()
    await shop.work()
    stripe = {"STRIPE_API_KEY": "sk_test_of_the_doctor_0123", "STRIPE_API_BASE": stand_in.url}
    finished = await prepaid_process("doctor", "--json", **stripe)
    assert finished.code == 1
    (check,) = [c for c in finished.json["checks"] if c["name"] == "recharges"]
    assert check["ok"] is False
    assert "1 attempt waiting" in check["detail"]
    assert "403 payment_intents.create" in check["detail"]


def test_the_page_lists_the_same_permissions() -> None:
    section = PAGE.read_text(encoding="utf-8").split("## Permissions of the Stripe key")[1]
    rows = [
        tuple(cell.strip().strip("`") for cell in line.strip("|").split("|"))
        for line in section.split("\n## ")[0].splitlines()
        if line.startswith("|")
    ][2:]
    assert [row[:3] for row in rows] == [(p.name, p.access, p.id) for p in PERMISSIONS]


REQUEST = re.compile(
    r"(?:\bv1\.|\")([a-z_]+(?:\.[a-z_]+)?)\.(create|retrieve|list|expire|confirm|cancel)(?:\b|_async)"
)


def test_every_request_of_the_code_has_its_permission() -> None:
    sources = list((ROOT / "shared/payments").glob("*.py"))  # nobody else imports stripe
    asked = {
        (name.replace(".", "/"), act not in {"retrieve", "list"})
        for source in sources
        for name, act in REQUEST.findall(source.read_text(encoding="utf-8"))
    }
    probed = {
        (
            probe.path.removeprefix("/v1/").removesuffix(f"/{UNKNOWN_CUSTOMER}"),
            p.access is Access.WRITE,
        )
        for p in (*PERMISSIONS, *COMMAND_PERMISSIONS)
        for probe in p.probes
    }
    assert ("checkout/sessions", True) in asked
    assert {
        (path, write) for path, write in asked if {(path, True), (path, write)} & probed
    } == asked
