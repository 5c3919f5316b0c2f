"""The dimensions of usage, as SQL reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from shared.db.pool import Connection

METADATA = {
    "model": "m-1",
    "prepaid:key": "5d5e",
    "prepaid:tags": ["a", "b"],
    "prepaid:pricing": {"model": "gpt-9"},
}


@pytest.mark.parametrize(
    ("name", "metadata", "expected"),
    [
        ("user", METADATA, ["jo"]),
        ("category", METADATA, ["tokens"]),
        ("key", METADATA, ["5d5e"]),
        ("tag", METADATA, ["a", "b"]),
        ("model", METADATA, ["gpt-9"]),
        ("model", METADATA | {"prepaid:pricing": {"meter": "storage"}}, ["storage"]),
        ("model", {"model": "m-1"}, ["m-1"]),
        ("model", {"model": ["m-1"]}, []),
        ("model", None, []),
        ("key", None, []),
        ("tag", None, []),
        ("tag", {"prepaid:tags": "a"}, []),
    ],
)
async def test_a_dimension_has_the_values_of_the_row(
    connection: Connection, name: str, metadata: Any, expected: list[str]
) -> None:
    found = await connection.fetchval(
        "SELECT ledger_dimension($1, 'jo', 'tokens', $2::jsonb)", name, metadata
    )
    assert found == expected


async def test_what_a_row_does_not_name_has_no_value(connection: Connection) -> None:
    for name in ("user", "category", "key", "tag", "model"):
        assert (
            await connection.fetchval("SELECT ledger_dimension($1, NULL, NULL, NULL)", name) == []
        )
