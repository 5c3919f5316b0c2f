"""A verification saves where it is: it goes on after a kill, and reads what is new once a day."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from shared.ledger.verification import service as verifying
from shared.ledger.verification import verify, verify_day
from tests.fixtures.commands import Command
from tests.fixtures.ledger import grant, hold, post, tampering, usage
from tests.fixtures.product import create_organization
from worker.verifier import Verifier

if TYPE_CHECKING:
    from shared.db.pool import Connection, Pool
    from shared.organizations.model import Organization

TODAY = date(2026, 1, 1)


class Killed(BaseException):
    """The process ends here."""


def kill_after(pages: int) -> Callable[[int], None]:
    """Return a progress that ends the run after so many pages."""
    seen: list[int] = []

    def progress(rows: int) -> None:
        seen.append(rows)
        if len(seen) > pages:
            raise Killed

    return progress


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verifying, "ROWS_AT_ONCE", 4)
    monkeypatch.setattr(verifying, "ACCOUNTS_AT_ONCE", 2)


@pytest.mark.usefixtures("small_pages")
@pytest.mark.parametrize("pages", [1, 3, 5])
async def test_a_whole_run_that_was_killed_goes_on_where_it_was(
    pool: Pool, organization: Organization, connection: Connection, pages: int
) -> None:
    owners = [organization, *[await create_organization(pool, f"org-{n}") for n in range(3)]]
    for owner in owners:
        await post(pool, *(grant(owner, 1) for _ in range(5)))
    async with tampering(pool) as owner_connection:
        await owner_connection.execute("UPDATE credit_transactions SET user_id = 'x' WHERE seq = 2")
    uninterrupted = await verify(connection)
    with pytest.raises(Killed):
        await verify(connection, progress=kill_after(pages))
    read: list[int] = []
    resumed = await verify(connection, resume=True, progress=read.append)
    assert resumed == uninterrupted
    assert read[0] > 4, "the first pages are not read again"
    again: list[int] = []
    await verify(connection, resume=True, progress=again.append)
    assert again[0] == 4, "what has ended is not resumed"


@pytest.mark.usefixtures("small_pages")
async def test_an_incremental_run_reads_what_is_new_and_the_row_of_the_checkpoint(
    pool: Pool, organization: Organization, connection: Connection
) -> None:
    other = await create_organization(pool, "other")
    for owner in (organization, other):
        await post(pool, *(grant(owner, 1) for _ in range(9)))
    first = await verify(connection, whole=False)
    assert (first["ok"], first["organizations"], first["transactions"]) == (True, 2, 18)
    nothing = await verify(connection, whole=False)
    assert (nothing["organizations"], nothing["transactions"]) == (0, 0)
    await post(pool, *(usage(organization, 1) for _ in range(6)))
    await hold(pool, other, 1)
    new = await verify(connection, whole=False)
    assert (new["ok"], new["organizations"], new["transactions"]) == (True, 2, 6)


async def test_an_incremental_run_finds_what_was_forged_since_and_before_the_checkpoint(
    pool: Pool, organization: Organization, connection: Connection
) -> None:
    await post(pool, grant(organization, 9), usage(organization, 1))
    await verify(connection)
    await post(pool, usage(organization, 1), usage(organization, 1))
    async with tampering(pool) as owner:
        await owner.execute("UPDATE credit_transactions SET category = 'x' WHERE seq IN (2, 3)")
    for _ in range(2):
        found = await verify(connection, whole=False)
        assert [p["seq"] for p in found["problems"]] == [2, 3], "it stays until it is mended"


async def test_rows_that_were_verified_and_are_gone_are_missed(
    pool: Pool, organization: Organization, connection: Connection
) -> None:
    await post(pool, grant(organization, 9), usage(organization, 1))
    await verify(connection)
    async with tampering(pool) as owner:
        await owner.execute(
            "DELETE FROM credit_transactions WHERE seq = 2; DELETE FROM burn_segments;"
            "UPDATE credit_grants SET remaining = original;"
            "UPDATE accounts AS a SET last_seq = 1, last_hash = t.hash, balance = 9, consumed = 0,"
            " burning_grant_id = NULL FROM credit_transactions AS t"
        )
    (problem,) = (await verify(connection, whole=False))["problems"]
    assert problem["problem"] == "rows that were verified are missing: the last was 2"


async def test_one_worker_verifies_once_a_day_and_takes_over_what_another_has_left(
    pool: Pool, organization: Organization, connection: Connection
) -> None:
    await post(pool, grant(organization, 1))
    async with pool.acquire() as second:
        both = await asyncio.gather(verify_day(connection, TODAY), verify_day(second, TODAY))
    (found,) = [result for result in both if result is not None]
    assert (found["ok"], found["transactions"]) == (True, 1)
    await pool.execute("UPDATE ledger_verifications SET finished_at = NULL")
    assert await verify_day(connection, TODAY) is None, "another is at it"
    await pool.execute("UPDATE ledger_verifications SET saved_at = now() - interval '1 h'")
    assert await verify_day(connection, TODAY) is not None
    assert await pool.fetchval("SELECT count(*) FROM ledger_verifications") == 1


async def test_the_worker_says_what_it_found(
    pool: Pool,
    database_url: str,
    organization: Organization,
    capsys: pytest.CaptureFixture[str],
) -> None:
    await post(pool, grant(organization, 1))
    await pool.execute("UPDATE accounts SET balance = 2")
    await Verifier(database_url).run_once()
    await Verifier(database_url).run_once()
    lines = capsys.readouterr().out
    assert lines.count("verifier.not_ok") == 1
    assert "the balance is not that of the last row" in lines


async def test_a_verification_holds_no_snapshot_beyond_a_page(
    pool: Pool, organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Vacuum is not held up: between two pages the session is idle, in no transaction."""
    monkeypatch.setattr(verifying, "ROWS_AT_ONCE", 2)
    await post(pool, *(grant(organization, 1) for _ in range(5)))
    async with pool.acquire() as connection:
        seen: list[bool] = []
        await verify(connection, progress=lambda _rows: seen.append(connection.is_in_transaction()))
    assert len(seen) == 3
    assert not any(seen)


async def test_an_old_anchor_is_checked_by_its_heads(
    pool: Pool, organization: Organization, prepaid: Command, tmp_path: Path
) -> None:
    other = await create_organization(pool, "other")
    await post(pool, grant(organization, 2), grant(other, 1))
    heads = tmp_path / "heads"
    made = (await prepaid("ledger", "anchor", "--heads", str(heads), "--json")).json
    await post(pool, usage(organization, 1), grant(other, 1))
    good = await prepaid("ledger", "verify", "--anchor", str(heads), "--json")
    assert (good.code, good.json) == (0, {"ok": True, **made, "problems": []})
    async with tampering(pool) as owner:
        await owner.execute(
            "UPDATE credit_transactions SET hash = sha256('x') WHERE organization_id = $1", other.id
        )
    bad: Any = await prepaid("ledger", "verify", "--anchor", str(heads), "--json")
    (problem,) = bad.json["problems"]
    assert (bad.code, problem["organizationId"], problem["seq"]) == (1, str(other.id), 1)
    assert (await prepaid("ledger", "verify", "--anchor", str(tmp_path / "none"))).code == 1
    heads.write_text("not a head\n")
    assert (await prepaid("ledger", "verify", "--anchor", str(heads))).code == 1


async def test_the_command_line_verifies_what_is_new_and_resumes(
    pool: Pool, organization: Organization, prepaid: Command, connection: Connection
) -> None:
    await post(pool, grant(organization, 2), usage(organization, 1))
    await verify(connection)
    await post(pool, usage(organization, 1))
    new = await prepaid("ledger", "verify", "--incremental", "--json")
    assert (new.code, new.json["transactions"]) == (0, 1)
    for words in (["--resume"], ["--full"], []):
        whole = await prepaid("ledger", "verify", *words, "--json")
        assert (whole.code, whole.json["transactions"]) == (0, 3)
    assert (await prepaid("ledger", "verify", "--resume", "--incremental")).code == 2
