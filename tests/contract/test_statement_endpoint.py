"""Statements over HTTP and on the command line: JSON and CSV of the same sums."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from shared.months import Month
from tests.fixtures.billing import BILLING, use
from tests.fixtures.commands import Command, assert_refused

if TYPE_CHECKING:
    from shared.organizations.model import Organization
    from tests.fixtures.api import ApiClient

MONTH = str(Month.of(datetime.now(UTC)))
STATEMENT = f"{BILLING}/statements/{MONTH}"
FORMULA = '=HYPERLINK("https://evil.example")'


async def test_the_statement_of_this_month_ties_to_the_ledger(
    api_client: ApiClient, organization: Organization
) -> None:
    await use(api_client, 100)
    await use(api_client, -2.5, category="chat")
    last = await use(api_client, -0.000000001, category=FORMULA)
    found = (await api_client.get(STATEMENT)).json
    assert (found["opening"]["balance"], found["granted"], found["used"]) == (0, 100, -2.500000001)
    assert (found["closing"]["balance"], found["transactions"]) == (97.499999999, 3)
    assert (found["complete"], found["closing"]["changeSequence"]) == (False, 3)
    stored = await api_client.pool.fetchval(
        "SELECT encode(hash, 'hex') FROM credit_transactions WHERE id = $1", last["uuid"]
    )
    assert found["closing"]["hash"] == stored
    assert [part["category"] for part in found["usedByCategory"]] == ["chat", FORMULA]


async def test_a_capture_is_usage_of_its_category(
    api_client: ApiClient, organization: Organization
) -> None:
    await use(api_client, 10)
    await use(api_client, -1, category="chat")
    held = (await api_client.post(f"{BILLING}/holds", {"amount": 5, "category": "chat"})).json
    await api_client.post(f"{BILLING}/holds/{held['id']}/capture", {"amount": 2})
    found = (await api_client.get(STATEMENT)).json
    assert (found["used"], found["usedByCategory"]) == (
        -3,
        [{"category": "chat", "amount": -3, "transactions": 2, "isRest": False}],
    )


async def test_csv_is_returned_by_parameter_or_by_accept_header(
    api_client: ApiClient, organization: Organization
) -> None:
    await use(api_client, 10)
    await use(api_client, -1, category=FORMULA)
    by_name = await api_client.get(STATEMENT, format="csv")
    by_header = await api_client.call("GET", STATEMENT, headers={"Accept": "text/csv"})
    assert by_name.body == by_header.body
    assert by_name.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert f"statement-acme-{MONTH}.csv" in by_name.headers["Content-Disposition"]
    rows = list(csv.DictReader(io.StringIO(by_name.body.decode())))
    assert [row["line"] for row in rows if row["line"] in {"opening", "used", "closing"}] == [
        "opening",
        "used",
        "closing",
    ]
    used = next(row for row in rows if row["line"] == "used")
    assert (used["category"], used["amount"]) == (f"'{FORMULA}", "-1")
    browser = {"Accept": "text/html,application/json;q=0.9,text/csv;q=0.1"}
    assert (await api_client.call("GET", STATEMENT, headers=browser)).json["month"] == MONTH


async def test_what_is_no_month_or_has_not_begun_is_not_found(
    api_client: ApiClient, organization: Organization
) -> None:
    for wrong in ("2026-13", "x", "8999-01", "2026-1", "%00"):
        answer = await api_client.get(f"{BILLING}/statements/{wrong}")
        assert (answer.status, answer.json["type"]) == (404, "not_found_error"), wrong
    answer = await api_client.get(STATEMENT, format="xml")
    assert (answer.status, answer.json["errors"][0]["loc"]) == (422, ["query", "format"])


async def test_the_command_prints_the_statement_of_the_api(
    api_client: ApiClient, organization: Organization, prepaid: Command
) -> None:
    await use(api_client, 10)
    await use(api_client, -1.25, category="chat")
    command = ("statement", "acme", "--month", MONTH)
    assert (await prepaid(*command, "--json")).json == (await api_client.get(STATEMENT)).json
    sent = (await api_client.get(STATEMENT, format="csv")).body.decode()
    assert (await prepaid(*command, "--csv")).stdout.splitlines() == sent.splitlines()
    told = (await prepaid(*command)).stdout
    assert "8.75" in told
    assert "chat" in told
    assert_refused(await prepaid("statement", "nobody", "--month", MONTH), "nobody")
    for wrong in ("2026-13", "8999-01"):
        assert (await prepaid("statement", "acme", "--month", wrong)).code == 2
