"""prepaid grants and adjust: posted once by key, with a reason in the ledger and the audit log."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from tests.fixtures.commands import Command, assert_refused
from tests.fixtures.product import payment, receive

if TYPE_CHECKING:
    from shared.db.pool import Pool
    from worker.drainer import Drainer

pytestmark = pytest.mark.usefixtures("organization")
REASON = ("--reason", "goodwill for the outage")


async def test_credits_are_given_once_by_key_listed_and_voided(
    prepaid: Command, pool: Pool
) -> None:
    give = ("grants", "give", "acme", "25.5", *REASON, "--key", "goodwill-7", "--json")
    made = (await prepaid(*give)).json
    assert (made["amount"], made["remaining"], made["replayed"]) == (25.5, 25.5, False)
    assert (await prepaid(*give)).json == made | {"replayed": True}
    other = ("grants", "give", "acme", "26", *REASON, "--key", "goodwill-7")
    assert_refused(await prepaid(*other), "another request")
    listed = (await prepaid("grants", "list", "acme", "--open", "--json")).json["grants"]
    assert [grant["id"] for grant in listed] == [made["id"]]
    void = ("grants", "void", "acme", made["id"], *REASON, "--json")
    assert (await prepaid(*void)).json["endedBy"] == "void"
    assert (await prepaid(*void)).json["replayed"]
    entries = await pool.fetch("SELECT action, reason FROM audit_log ORDER BY at, id")
    assert [tuple(row) for row in entries] == [
        ("grants.create", REASON[1]),
        ("grants.void", REASON[1]),
    ]
    notes = await pool.fetch("SELECT DISTINCT description FROM credit_transactions")
    assert [row["description"] for row in notes] == [REASON[1]]


async def test_a_balance_is_adjusted_up_and_down(prepaid: Command) -> None:
    up = (await prepaid("adjust", "acme", "10", *REASON, "--json")).json
    assert (up["amount"], up["balanceAfter"]) == (10, 10)
    down = (await prepaid("adjust", "acme", *REASON, "--json", "--", "-2.5")).json
    assert (down["amount"], down["balanceAfter"]) == (-2.5, 7.5)


async def test_a_purchased_grant_is_not_voided(
    prepaid: Command, pool: Pool, drainer: Drainer
) -> None:
    await receive(pool, payment("1"))
    await drainer.drain()
    (grant,) = (await prepaid("grants", "list", "acme", "--json")).json["grants"]
    assert_refused(await prepaid("grants", "void", "acme", grant["id"], *REASON), "Refund")


async def test_wrong_usage_is_told_from_a_refusal(prepaid: Command) -> None:
    assert (await prepaid("grants", "give", "acme", "5")).code == 2, "no reason"
    reserved = await prepaid("adjust", "acme", "5", *REASON, "--key", "stripe:pi_1")
    assert reserved.code == 2
    assert_refused(await prepaid("adjust", "acme", "much", *REASON), "AMOUNT", "number")
    assert_refused(await prepaid("adjust", "acme", "0", *REASON), "amount")
    assert_refused(await prepaid("grants", "void", "acme", str(uuid4()), *REASON), "no grant")
    assert_refused(
        await prepaid("grants", "give", "acme", "5", *REASON, "--expires", "soon"), "--expires"
    )
