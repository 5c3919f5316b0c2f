"""The addresses that the sandbox gives its processes."""

from __future__ import annotations

import io
import sys

import pytest

from sandbox.dev import embedded_addresses, external_addresses
from sandbox.supervisor import Child, Supervisor
from shared.config import direct_database_url

EMBEDDED = "postgresql://prepaid@127.0.0.1:1/prepaid"
ELSEWHERE = "postgresql://app@db.example.com/prepaid"
# Prints the direct address that it has, and runs until it is stopped.
PRINT_DIRECT = """
import os, signal
print(repr(os.environ["PREPAID_DIRECT_DATABASE_URL"]), flush=True)
signal.pause()
"""


async def test_a_direct_address_that_is_exported_is_not_that_of_the_embedded_servers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PREPAID_DIRECT_DATABASE_URL", ELSEWHERE)
    addresses = embedded_addresses(EMBEDDED, "redis://127.0.0.1:2/0")
    assert direct_database_url(addresses) == EMBEDDED
    output = io.StringIO()
    async with Supervisor(output) as supervisor:
        worker = Child("worker", [sys.executable, "-c", PRINT_DIRECT], addresses, ready="'")
        await supervisor.start(worker)
    assert "worker   | ''" in output.getvalue()


def test_external_servers_have_both_exported_addresses_of_the_database() -> None:
    exported = {"DATABASE_URL": "postgresql://pooler/prepaid", "REDIS_URL": "redis://r"}
    assert external_addresses(exported) == exported | {"PREPAID_DIRECT_DATABASE_URL": ""}
    both = exported | {"PREPAID_DIRECT_DATABASE_URL": ELSEWHERE}
    assert external_addresses(both) == both


def test_a_database_without_redis_is_no_pair_of_external_servers() -> None:
    assert external_addresses({"DATABASE_URL": ELSEWHERE}) is None
