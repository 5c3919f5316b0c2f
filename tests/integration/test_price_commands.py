"""prepaid prices: from a file to what is charged."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from shared.pricing.model import PricedUsage
from shared.pricing.service import Pricer
from tests.fixtures.commands import Command, assert_refused
from tests.fixtures.pricing import BOOK, ITEM

if TYPE_CHECKING:
    from shared.db.pool import Pool
    from shared.organizations.model import Organization


@pytest.fixture
def book_file(tmp_path: Path) -> Path:
    file = tmp_path / "book.toml"
    write(file, BOOK)
    return file


def write(file: Path, text: str) -> None:
    file.write_text(text, encoding="utf-8")


async def test_a_book_is_validated_imported_activated_and_shown(
    prepaid: Command, book_file: Path, pool: Pool
) -> None:
    valid = (await prepaid("prices", "validate", str(book_file), "--json")).json
    assert valid == {"ok": True, "name": "default", "prices": 2, "problems": []}
    (stored,) = (await prepaid("prices", "import", str(book_file), "--json")).json["versions"]
    assert (stored["version"], stored["created"], stored["activated"]) == (1, True, False)
    assert_refused(await prepaid("prices", "show", "default"), "no active version")
    active = (await prepaid("prices", "activate", "default", "1", "--json")).json
    assert datetime.fromisoformat(active["activeFrom"]) <= datetime.now(UTC)
    shown = await prepaid("prices", "show", "default", "--toml")
    write(book_file, shown.stdout)
    (again,) = (await prepaid("prices", "import", str(book_file), "--json")).json["versions"]
    assert (again["version"], again["created"]) == (1, False)
    (row,) = (await prepaid("prices", "list", "--json")).json["versions"]
    assert (row["version"], row["activeFrom"]) == (1, [active["activeFrom"]])
    actions = await pool.fetch("SELECT action, subject FROM audit_log ORDER BY at, id")
    assert [tuple(row) for row in actions] == [
        ("prices.import", "default:1"),
        ("prices.activate", "default:1"),
    ]


async def test_a_file_with_problems_names_each_of_them(prepaid: Command, book_file: Path) -> None:
    text = BOOK.replace('"2.50 / 1M"', '"NaN"').replace('"0.04"', '"1e400"')
    write(book_file, text)
    found = await prepaid("prices", "validate", str(book_file), "--json")
    assert found.code == 1
    assert [problem["loc"] for problem in found.json["problems"]] == [
        ["prices", 0, "measures", "input_tokens"],
        ["prices", 1, "measures", "images"],
    ]
    human = await prepaid("prices", "validate", str(book_file))
    assert human.stdout.count("Write a price as 2.50") == 2
    assert_refused(await prepaid("prices", "import", str(book_file)), "2 problems", "input_tokens")


async def test_what_differs_is_listed_by_measure(
    prepaid: Command, book_file: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.toml"
    text = BOOK.replace('"2.50 / 1M"', '"5 / 1M"').replace('images = "0.04"', 'pages = "0.01"')
    write(other, text)
    document = (await prepaid("prices", "diff", str(book_file), str(other), "--json")).json
    assert [tuple(change.values()) for change in document["changes"]] == [
        ("gpt-4o", "input_tokens", "2.5 / 1M", "5 / 1M"),
        ("gpt-4o-2024-*", "input_tokens", "2.5 / 1M", "5 / 1M"),
        ("meter images", "images", "0.04", None),
        ("meter images", "pages", None, "0.01"),
    ]
    assert (await prepaid("prices", "diff", str(other), str(other))).stdout == "no differences\n"


async def test_a_version_is_not_activated_in_the_past(prepaid: Command, book_file: Path) -> None:
    await prepaid("prices", "import", str(book_file), "--activate")
    yesterday = (datetime.now(UTC) - timedelta(days=1)).isoformat()
    refused = await prepaid("prices", "activate", "default", "1", "--from", yesterday)
    assert_refused(refused, "keeps its price")
    assert_refused(await prepaid("prices", "activate", "default", "2"), "no version 2")


async def test_what_is_to_come_is_withdrawn_or_replaced(prepaid: Command, book_file: Path) -> None:
    await prepaid("prices", "import", str(book_file), "--activate")
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    await prepaid("prices", "activate", "default", "1", "--from", tomorrow)
    gone = (await prepaid("prices", "withdraw", "default", "--json")).json
    assert [row["version"] for row in gone["withdrawn"]] == [1]
    assert (await prepaid("prices", "withdraw", "default")).stdout == "nothing was to come\n"
    await prepaid("prices", "activate", "default", "1", "--from", tomorrow)
    (again,) = (await prepaid("prices", "import", str(book_file), "--activate", "--json")).json[
        "versions"
    ]
    (row,) = (await prepaid("prices", "list", "default", "--json")).json["versions"]
    assert row["activeFrom"] == [again["activeFrom"]]
    assert_refused(await prepaid("prices", "withdraw", "unknown"), "no price book")


async def test_an_organization_gets_a_book_and_a_discount(
    prepaid: Command, book_file: Path, pool: Pool, organization: Organization
) -> None:
    await prepaid("prices", "import", str(book_file), "--activate")
    renamed = ("--name", "partners", "--markup", "100%", "--activate")
    await prepaid("prices", "import", str(book_file), *renamed)
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    begins = ("--from", tomorrow.isoformat())
    given = (await prepaid("prices", "assign", "acme", "partners", *begins, "--json")).json
    assert given["name"] == "partners"
    agreed = (*begins, "--reason", "as agreed", "--json")
    off = (await prepaid("prices", "discount", "acme", "gpt-*", "50%", *agreed)).json
    found = await pool.fetchval("SELECT reason FROM audit_log WHERE action = 'prices.discount'")
    assert found == "as agreed"
    assert off["percent"] == "50%"
    async with pool.acquire() as connection:
        (priced,) = await Pricer().price(connection, organization.id, [ITEM], tomorrow)
    assert isinstance(priced, PricedUsage)
    assert priced.book == "partners"
    assert (priced.markup, priced.discount) == (Decimal(100), Decimal(50))
    assert_refused(await prepaid("prices", "assign", "acme", "unknown"), "no price book")
    assert_refused(await prepaid("prices", "discount", "acme", "*", "101%"), "percentage")


async def test_genai_prices_are_imported_with_their_dates(prepaid: Command, tmp_path: Path) -> None:
    selected = ("--provider", "groq", "--markup", "20%")
    file = tmp_path / "groq.toml"
    written = await prepaid("prices", "import", "genai-prices", *selected, "--output", str(file))
    assert written.stdout.endswith(f"wrote {file}\n")
    stored = (await prepaid("prices", "import", "genai-prices", *selected, "--json")).json
    assert stored["versions"][0]["version"] == 1
    assert all(entry["name"] and entry["reason"] for entry in stored["skipped"])
    assert (await prepaid("prices", "diff", str(file), "default:1")).stdout == "no differences\n"
    refused = await prepaid("prices", "import", "genai-prices", "--provider", "nobody")
    assert_refused(refused, "no provider 'nobody'")
    wrong = await prepaid("prices", "import", "genai-prices", "--markup", "twenty")
    assert wrong.code == 2
