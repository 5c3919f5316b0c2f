"""The connection to Redis or Valkey for arq's queue."""

from __future__ import annotations

from arq.connections import ArqRedis
from redis.asyncio import BlockingConnectionPool

from shared.queue import sentinel
from shared.queue.jobs import read_job, write_job
from shared.sentinel_address import SCHEMES

QUEUE_NAME = "prepaid:jobs"
CONNECT_SECONDS_MAX = 1
COMMAND_SECONDS_MAX = 2


def connect(redis_url: str, *, blocked_seconds_max: int = 0) -> ArqRedis:
    """Return a client that opens on first use, so that a process starts while Redis is away.

    A blocking read may wait `blocked_seconds_max` longer than any other command.
    """
    by_sentinel = redis_url.startswith(SCHEMES)
    create_pool = sentinel.create_pool if by_sentinel else BlockingConnectionPool.from_url
    # redis-py checks the name in a certificate only where it is told to.
    checked = {"ssl_check_hostname": True} if redis_url.startswith("rediss") else {}
    pool = create_pool(
        redis_url,
        **checked,
        max_connections=8,
        socket_connect_timeout=CONNECT_SECONDS_MAX,
        socket_timeout=COMMAND_SECONDS_MAX + blocked_seconds_max,
    )
    return ArqRedis(
        pool, job_serializer=write_job, job_deserializer=read_job, default_queue_name=QUEUE_NAME
    )
