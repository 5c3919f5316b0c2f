"""The CSV export of transactions: streamed in pages, safe in a spreadsheet, never cut unnoticed."""

from __future__ import annotations

import asyncio
import csv
import io
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from api.framework import csv_replies
from shared.ledger import export
from shared.ledger.model import TransactionType
from shared.ledger.rules import TEXT_LENGTH_MAX
from tests.fixtures.billing import BILLING, use
from tests.fixtures.ledger import post, usage
from tests.fixtures.timeline import timeline

if TYPE_CHECKING:
    from shared.db.pool import Pool
    from shared.organizations.model import Organization
    from tests.fixtures.api import ApiClient

EXPORT = f"{BILLING}/transactions.csv"
FORMULA = '=HYPERLINK("https://evil.example","x")'


async def exported(api_client: ApiClient, **query: str) -> list[dict[str, str]]:
    answer = await api_client.get(EXPORT, **query)
    assert answer.status == 200, answer.body
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    return list(csv.DictReader(io.StringIO(answer.body.decode(), newline="")))


async def test_every_row_is_exported_in_order_and_no_text_is_a_formula(
    api_client: ApiClient, organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "ROWS_AT_ONCE", 2)
    await use(api_client, 100)
    await use(
        api_client, -1.5, transactionId="=1+1", note=f"\ufeff{FORMULA}", category="-cat",
        userId="@user", metadata={"model": "+m", "é": 'a "b"'}, tags=["a", "b"],
    )  # fmt: skip
    await use(api_client, -0.000000001, note="two\r\nlines", quantity=3)
    rows = await exported(api_client)
    assert [(row["changeSequence"], row["amount"]) for row in rows] == [
        ("1", "100"),
        ("2", "-1.5"),
        ("3", "-0.000000001"),
    ]
    second = rows[1]
    assert (second["transactionId"], second["note"]) == ("'=1+1", f"'\ufeff{FORMULA}")
    assert (second["category"], second["userId"], second["model"]) == ("'-cat", "'@user", "'+m")
    assert (second["tags"], second["balanceAfter"]) == ("a b", "98.5")
    assert second["metadata"] == '{"model":"+m","é":"a \\"b\\""}'
    assert rows[2]["note"] == "two\r\nlines"
    stored = await api_client.pool.fetch("SELECT encode(hash, 'hex') FROM credit_transactions")
    assert {row["hash"] for row in rows} == {row[0] for row in stored}


async def test_a_period_is_from_a_moment_until_before_another(
    api_client: ApiClient, organization: Organization, pool: Pool
) -> None:
    async with timeline(pool, organization) as line:
        for month in (2, 3, 4):
            await line.set(datetime(2026, month, 1, tzinfo=UTC))
            await line.post(TransactionType.GRANT, month)
    found = await exported(api_client, **{"from": "2026-03-01T00:00:00Z"})
    assert [row["amount"] for row in found] == ["3", "4"]
    found = await exported(api_client, to="2026-03-01T00:00:00Z")
    assert [row["amount"] for row in found] == ["2"]
    found = await exported(
        api_client, **{"from": "2026-02-01T01:00:00+01:00"}, to="2026-04-01T00:00:00Z"
    )
    assert [row["amount"] for row in found] == ["2", "3"]
    for name, wrong in {"from": "2026-01-01", "to": "yesterday"}.items():
        answer = await api_client.get(EXPORT, **{name: wrong})
        assert (answer.status, answer.json["errors"][0]["loc"]) == (422, ["query", name])
    backwards = {"from": "2026-03-01T00:00:00Z", "to": "2026-02-01T00:00:00Z"}
    assert (await api_client.get(EXPORT, **backwards)).status == 422


async def test_a_failure_after_the_beginning_cuts_the_file_so_that_the_client_sees_it(
    api_client: ApiClient, organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_arguments: Any, **_named: Any) -> Any:
        raise RuntimeError("broken")

    await use(api_client, 1)
    monkeypatch.setattr(export, "page", broken)
    with pytest.raises(aiohttp.ClientPayloadError):
        await api_client.get(EXPORT)


async def test_a_client_that_stops_reading_is_disconnected_and_holds_no_connection(
    api_client: ApiClient, organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = asyncio.Event()

    def info(event: str, **fields: Any) -> None:
        assert event == "http.stream_stopped", (event, fields)
        stopped.set()

    monkeypatch.setattr(csv_replies, "WRITE_SECONDS_MAX", 0.05)
    monkeypatch.setattr(csv_replies.log, "info", info)
    await use(api_client, 10_000)
    note = "x" * TEXT_LENGTH_MAX
    for _ in range(8):
        many = [usage(organization, "0.001", description=note) for _ in range(1_000)]
        await post(api_client.pool, *many)
    host, port = api_client.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=1_024)
    writer.write(
        f"GET {EXPORT} HTTP/1.1\r\nHost: x\r\nx-api-key: {api_client.key}\r\n\r\n".encode()
    )
    async with asyncio.timeout(60):
        await stopped.wait()
    assert (await reader.read(8)) == b"HTTP/1.1"
    writer.close()
