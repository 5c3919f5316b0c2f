"""The address of a master that Redis Sentinel names: redis+sentinel://HOST:26379,HOST/MASTER/0."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

SCHEMES = ("redis+sentinel", "rediss+sentinel")
SENTINEL_PORT = 26379


@dataclass(frozen=True, slots=True)
class SentinelAddress:
    """Where Sentinels are, and which master they watch; the password is that of the servers."""

    hosts: tuple[tuple[str, int], ...]
    master: str
    database: int
    username: str | None
    password: str | None = field(repr=False)
    tls: bool


def parse(url: str) -> SentinelAddress:
    """Read an address; raise ValueError where it is none."""
    parts = urlsplit(url)
    user_info, _, places = parts.netloc.rpartition("@")
    username, _, password = user_info.partition(":")
    master, _, database = parts.path.removeprefix("/").partition("/")
    hosts = tuple(_place(place) for place in places.split(","))
    if parts.scheme not in SCHEMES or parts.query or not master:
        raise ValueError
    return SentinelAddress(
        hosts=hosts,
        master=unquote(master),
        database=int(database or "0"),
        username=unquote(username) or None,
        password=unquote(password) or None,
        tls=parts.scheme == "rediss+sentinel",
    )


def _place(text: str) -> tuple[str, int]:
    url = urlsplit(f"//{text}")
    if not url.hostname:
        raise ValueError
    return url.hostname, url.port or SENTINEL_PORT
