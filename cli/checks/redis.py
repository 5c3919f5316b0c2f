"""Redis: its version, its eviction policy and its password."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

from redis.exceptions import RedisError

from cli.checks.model import Caution, DoctorError, Finding
from shared import certificates
from shared.config import Settings
from shared.queue.connection import connect

REDIS_MAJOR_MIN = 7
LOCAL_HOSTS = {"127.0.0.1", "::1", "localhost"}
POLICY = "noeviction"


async def check_redis(settings: Settings) -> Finding:
    """Check the version; warn of evictions, and of a server without a password."""
    client = connect(settings.redis_url)
    try:
        server: dict[str, Any] = await client.info("server")
        memory: dict[str, Any] = await client.info("memory")
    except RedisError as error:
        if fix := certificates.fix_of(error):
            raise DoctorError(f"the certificate of Redis is refused: {error}", fix) from error
        raise
    finally:
        await client.aclose(close_connection_pool=True)
    name = "Valkey" if "valkey_version" in server else "Redis"
    version = str(server.get("valkey_version") or server["redis_version"])
    if int(version.split(".", maxsplit=1)[0]) < REDIS_MAJOR_MIN:
        raise DoctorError(f"{name} {version} is too old; use Redis 7 or Valkey 8, or later")
    policy = str(memory.get("maxmemory_policy", POLICY))
    if policy != POLICY:
        return Caution(
            f"{name} {version} evicts keys ({policy}): wakeups are lost, and events wait for the"
            " next sweep",
            f"redis-cli CONFIG SET maxmemory-policy {POLICY}",
        )
    if not has_password(settings.redis_url):
        return Caution(
            f"{name} {version} is on another machine and REDIS_URL has no password: whoever"
            " reaches it can write into the queue",
            "redis-cli CONFIG SET requirepass PASSWORD, and REDIS_URL=redis://:PASSWORD@HOST:6379/0",
        )
    return f"{name} {version}"


def has_password(redis_url: str) -> bool:
    """Say whether a URL has a password, or needs none since only this machine can connect."""
    url = urlsplit(redis_url)
    if url.scheme == "unix" or url.hostname in LOCAL_HOSTS:
        return True
    return bool(url.password or parse_qs(url.query).get("password"))
