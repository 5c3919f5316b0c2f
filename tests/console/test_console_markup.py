"""Markup in every text that is stored, on every page: no element and no attribute comes of it."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING

import asyncpg
from bs4 import Tag

from console.pages import PAGES
from tests.console.test_console_tenants import ids_of
from tests.fixtures.console import ConsoleBrowser
from tests.fixtures.product import payment, receive
from tests.fixtures.reconciliation_runs import RUNS, finished_run

if TYPE_CHECKING:
    from shared.db.pool import Pool
    from tests.fixtures.recharging import Shop

# It closes an attribute of either quotes, a text, a comment and a script, and begins an element.
PLANTED = "\"'--></textarea></script><planted onplanted=1 href=javascript:1>&lt;planted&gt;"
SHOWN = "<planted onplanted=1"
JSON = """CASE jsonb_typeof({column})
WHEN 'array' THEN jsonb_build_array(jsonb_build_object('detail', $1::text, 'list', $1::text))
ELSE jsonb_build_object($1::text, $1::text)
END"""
COLUMNS = """
SELECT c.table_name, c.column_name, c.data_type
FROM information_schema.columns AS c
INNER JOIN information_schema.tables AS t
    ON c.table_schema = t.table_schema AND c.table_name = t.table_name
WHERE
    c.table_schema = current_schema()
    AND t.table_type = 'BASE TABLE'
    AND c.data_type IN ('text', 'jsonb')
    AND c.column_name <> 'id'
    AND c.table_name NOT IN ('alembic_version', 'console_sessions', 'console_links')
ORDER BY c.table_name, c.ordinal_position
"""
COLUMNS_MIN = 50
PAGES_MIN = 18
# What the code reads as a name of its own, and what a page is found by.
READ = frozenset({
    "filter", "ids", "in_flight", "kind", "lane", "mode", "options", "outcome", "progress",
    "recharge_state", "role", "scope", "state", "status", "type", "types",
})  # fmt: skip


async def plant(pool: Pool) -> list[str]:
    """Store the markup in each column that takes it; return their names."""
    planted = []
    for table, column, kind in await pool.fetch(COLUMNS):
        if column in READ:
            continue
        value = "$1" if kind == "text" else JSON
        async with pool.acquire() as connection:
            # Refused by a constraint: it takes no markup.
            with suppress(asyncpg.IntegrityConstraintViolationError, asyncpg.RaiseError):
                async with connection.transaction():
                    await connection.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
                    done = await connection.execute(
                        f"UPDATE {table} SET {column} = {value.format(column=column)}",  # noqa: S608 - of the catalog
                        PLANTED,
                    )
                    await connection.execute(f"ALTER TABLE {table} ENABLE TRIGGER USER")
                    if done != "UPDATE 0":
                        planted.append(f"{table}.{column}")
    return planted


async def test_no_page_has_an_element_or_an_attribute_of_a_stored_text(
    stranger: ConsoleBrowser, shop: Shop
) -> None:
    await receive(stranger.pool, payment("one"))
    ids = await ids_of(stranger, shop) | {"event": "evt_one"}
    ids["run"] = (await finished_run(stranger, shop.owner)).removeprefix(f"{RUNS}/")
    await stranger.sign_in()
    planted = await plant(stranger.pool)
    shown = 0
    for page in PAGES:
        if page.method == "POST":
            continue
        path = re.sub(r"\{(\w+)\}", lambda name: ids[name[1]], page.path)
        opened = await stranger.get(path)
        assert opened.status in {200, 404}, path
        shown += SHOWN in opened.soup.get_text(" ")
        assert opened.soup.find_all(["planted", "script"]) == [], path
        for element in opened.soup.find_all(True):
            assert isinstance(element, Tag)
            assert not [name for name in element.attrs if name.startswith("on")], path
            assert not str(element.get("href", "")).startswith("javascript:"), path
    # Columns that take it, and pages that show it: the names, reasons, errors and payloads.
    assert len(planted) > COLUMNS_MIN
    assert shown > PAGES_MIN
