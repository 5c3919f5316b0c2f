"""The connection to Redis or Valkey that arq rings and listens on."""

from __future__ import annotations

from arq.connections import ArqRedis
from redis.asyncio import BlockingConnectionPool

QUEUE_NAME = "prepaid:jobs"
CONNECT_SECONDS_MAX = 1
COMMAND_SECONDS_MAX = 2


def connect(redis_url: str) -> ArqRedis:
    """Return a client that opens on first use, so that a process starts while Redis is away."""
    pool = BlockingConnectionPool.from_url(
        redis_url,
        max_connections=8,
        socket_connect_timeout=CONNECT_SECONDS_MAX,
        socket_timeout=COMMAND_SECONDS_MAX,
    )
    return ArqRedis(pool, default_queue_name=QUEUE_NAME)
