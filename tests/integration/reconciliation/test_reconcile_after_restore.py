"""An older dump is restored: a reconciliation finds and repairs what the dump lacks."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

from shared.db.pool import create_pool
from shared.reconciliation.model import FindingKind, RunMode
from tests.fixtures.commands import Command
from tests.fixtures.dumps import run
from tests.integration.reconciliation.conftest import FOR_US, Books


async def test_after_an_older_dump_a_repair_credits_and_reverses_what_came_since(
    books: Books, database_url: str, empty_url: str, prepaid: Command, tmp_path: Path
) -> None:
    before = await books.shop.charge(**FOR_US)
    await books.shop.deliver_new()
    dump = str(tmp_path / "prepaid.dump")
    await run("pg_dump", "--format=custom", f"--file={dump}", database_url)
    since = await books.shop.charge(5000, **FOR_US)
    await books.shop.refund(before, 500)
    await books.shop.deliver_new()
    assert await books.balance() == Decimal(65)

    await run("pg_restore", "--exit-on-error", "--no-owner", f"--dbname={empty_url}", dump)
    async with create_pool(empty_url, size=4, application_name="prepaid-tests") as restored:
        found = replace(books, shop=replace(books.shop, pool=restored))
        assert await found.balance() == Decimal(20)
        assert (FindingKind.CHARGED_NOT_CREDITED, since) in await found.found()
        repaired = await found.run(RunMode.REPAIR)
        assert (await found.balance(), repaired.drift) == (Decimal(65), 0)
        assert (await found.run()).findings == {}
    verified = await prepaid("ledger", "verify", "--json", DATABASE_URL=empty_url)
    assert (verified.code, verified.json["ok"]) == (0, True)
