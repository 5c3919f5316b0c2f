"""Where messages go: to public addresses alone, over TLS where the URL says so, past no proxy."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

from shared.organizations.model import Organization
from shared.outbound.sender import Sender
from tests.fixtures.outbound_messages import add, announce, only_row
from tests.fixtures.receiver import Clock, Receiver, create_messenger
from worker.messenger import Messenger

if TYPE_CHECKING:
    from shared.db.pool import Pool


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_a_failure_and_nobody_follows_it(
    pool: Pool, organization: Organization, receiver: Receiver, messenger: Messenger, status: int
) -> None:
    async def redirect(_request: web.Request) -> web.Response:
        return web.Response(status=status, headers={"Location": receiver.url("/elsewhere")})

    receiver.by_path["/hooks"] = redirect
    await add(pool, receiver.url())
    await announce(pool, organization)
    await messenger.deliver()
    row = await only_row(pool)
    assert (row["state"], row["last_status"]) == ("pending", status)
    assert receiver.of("/elsewhere") == []


class FixedResolver(AbstractResolver):
    """A DNS that somebody else owns: it answers what it likes."""

    def __init__(self, addresses: Sequence[str], port: int) -> None:
        self._addresses = addresses
        self._port = port
        self.asked = 0

    async def resolve(
        self,
        host: str,
        port: int = 0,  # noqa: ARG002 - the receiver has a port of its own
        family: socket.AddressFamily = socket.AF_UNSPEC,  # noqa: ARG002 - as above
    ) -> list[ResolveResult]:
        self.asked += 1
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=self._port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in self._addresses
        ]

    async def close(self) -> None:
        """Nothing is open."""


@pytest_asyncio.fixture
async def internal() -> AsyncIterator[tuple[int, list[None]]]:
    """Listen inside; give the port, and a list of who connected."""
    connected: list[None] = []

    async def accept(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.append(None)
        writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1], connected
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize(
    "addresses",
    [["127.0.0.1"], ["::ffff:127.0.0.1"], ["169.254.169.254"], ["10.0.0.1", "127.0.0.1", "::1"]],
    ids=str,
)
async def test_a_name_that_resolves_to_a_private_address_is_not_connected_to(
    pool: Pool,
    organization: Organization,
    clock: Clock,
    internal: tuple[int, list[None]],
    addresses: list[str],
) -> None:
    port, connected = internal
    await add(pool, f"https://rebound.example.com:{port}/hooks")
    await announce(pool, organization)
    resolver = FixedResolver(addresses, port)
    async with Sender(allow_private=False, resolver=resolver) as sender:
        assert await create_messenger(pool, sender, clock).deliver() == 1
    assert resolver.asked == 1
    assert connected == []
    row = await only_row(pool)
    assert (row["state"], row["last_status"]) == ("pending", None)
    assert " is not a public address" in row["reason"]


async def test_with_the_permission_the_same_name_is_connected_to(
    pool: Pool, organization: Organization, clock: Clock, internal: tuple[int, list[None]]
) -> None:
    port, connected = internal
    await add(pool, f"https://rebound.example.com:{port}/hooks")
    await announce(pool, organization)
    resolver = FixedResolver(["127.0.0.1"], port)
    async with Sender(allow_private=True, resolver=resolver) as sender:
        await create_messenger(pool, sender, clock).deliver()
    assert len(connected) == 1


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1", "0177.0.0.1"]
)
async def test_an_address_in_a_stored_url_is_refused_where_the_permission_has_gone(
    pool: Pool,
    organization: Organization,
    clock: Clock,
    internal: tuple[int, list[None]],
    host: str,
) -> None:
    port, connected = internal
    await add(pool, "https://example.com/hooks")
    await pool.execute("UPDATE webhook_endpoints SET url = $1", f"https://{host}:{port}/")
    await announce(pool, organization)
    async with Sender(allow_private=False) as sender:
        await create_messenger(pool, sender, clock).deliver()
    assert connected == []
    assert (await only_row(pool))["reason"].startswith("the URL is refused: ")


async def test_the_socket_itself_is_refused_whatever_the_url_said(
    internal: tuple[int, list[None]],
) -> None:
    """The last guard, alone: an address in the URL goes past every resolver."""
    port, connected = internal
    async with Sender(allow_private=False) as sender:
        for host in ("127.0.0.1", "localhost", "[::1]"):
            with pytest.raises(OSError, match="is not a public address"):
                await sender._session.post(f"http://{host}:{port}/")  # noqa: SLF001 - the guard alone
    assert connected == []


async def test_a_proxy_of_the_environment_is_not_used(
    pool: Pool,
    organization: Organization,
    receiver: Receiver,
    messenger: Messenger,
    internal: tuple[int, list[None]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    port, connected = internal
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
    await add(pool, receiver.url())
    await announce(pool, organization)
    await messenger.deliver()
    assert len(receiver.received) == 1
    assert connected == []


async def test_a_receiver_that_speaks_no_tls_gets_nothing_at_an_https_address(
    pool: Pool, organization: Organization, messenger: Messenger, receiver: Receiver
) -> None:
    await add(pool, receiver.url().replace("http://", "https://"))
    await announce(pool, organization)
    await messenger.deliver()
    assert receiver.received == []
    assert (await only_row(pool))["state"] == "pending"
