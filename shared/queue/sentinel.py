"""Connections to the master that Redis Sentinel names."""

from __future__ import annotations

from typing import Any

from redis.asyncio import BlockingConnectionPool
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool

from shared.sentinel_address import parse


class SentinelPool(SentinelConnectionPool, BlockingConnectionPool):
    """Connections to the current master; a caller waits while all are in use."""

    async def disconnect(self, inuse_connections: bool = True) -> None:  # noqa: FBT001, FBT002 - redis-py's
        """Close the connections; all of them: those to the Sentinels too."""
        await super().disconnect(inuse_connections)
        if inuse_connections:
            for sentinel in self.sentinel_manager.sentinels:
                await sentinel.aclose(close_connection_pool=True)


def create_pool(url: str, **options: Any) -> SentinelPool:
    """Return a pool that asks the Sentinels for the master at each new connection."""
    address = parse(url)
    times = {name: value for name, value in options.items() if name.startswith("socket_")}
    secured = {"ssl": True} if address.tls else {}
    verified = {name: value for name, value in options.items() if name.startswith("ssl_")}
    return SentinelPool(  # type: ignore[no-untyped-call] # redis-py has no types for it
        address.master,
        Sentinel(address.hosts, sentinel_kwargs={**times, **secured, **verified}),  # type: ignore[no-untyped-call]
        username=address.username,
        password=address.password,
        db=address.database,
        **secured,
        **options,
    )
