"""The Python client before a real API, and before one that faults."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal

import pytest_asyncio
from prepaid_client import AsyncClient, Client, Retries

from shared.organizations.model import Organization
from tests.fixtures.api import ApiClient
from tests.fixtures.faulty_proxy import FaultyProxy, faulty_proxy

# Repeats at once: the tests wait for nothing.
AT_ONCE = Retries(first_seconds=0.001, pause_seconds_max=0.002)
CREDITS = Decimal(100)


@pytest_asyncio.fixture
async def proxy(api_client: ApiClient) -> AsyncIterator[FaultyProxy]:
    async with faulty_proxy(api_client.url) as opened:
        yield opened


@pytest_asyncio.fixture
async def prepaid_async(proxy: FaultyProxy, api_client: ApiClient) -> AsyncIterator[AsyncClient]:
    assert api_client.key is not None
    async with AsyncClient(proxy.url, api_client.key, retries=AT_ONCE) as opened:
        yield opened


@pytest_asyncio.fixture
async def prepaid_blocking(proxy: FaultyProxy, api_client: ApiClient) -> AsyncIterator[Client]:
    assert api_client.key is not None
    with Client(proxy.url, api_client.key, retries=AT_ONCE) as opened:
        yield opened


@pytest_asyncio.fixture
async def funded(prepaid_async: AsyncClient, organization: Organization) -> Organization:
    """Give the organization 100 credits."""
    await prepaid_async.grant(organization.slug, CREDITS, transaction_id="welcome")
    return organization
