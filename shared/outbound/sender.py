"""Sends one message over HTTP, to addresses that are allowed and to no other."""

from __future__ import annotations

import errno
import socket
from datetime import datetime
from types import TracebackType
from typing import Self

import aiohttp
from aiohttp.abc import AbstractResolver
from aiohttp.connector import AddrInfoType

from shared.outbound import rules
from shared.outbound.addresses import fault_of_url, is_public
from shared.outbound.model import Answer, ClaimedMessage

ANSWER_SECONDS_MAX = 15
ANSWER_BYTES_MAX = 64 * 1024
_HEADERS = {"Content-Type": "application/json", "User-Agent": "Prepaid-Webhooks"}


class Sender:
    """An HTTP client for endpoints that strangers may have chosen. One of these a process.

    Guarantee: without `allow_private` no connection is opened to an address that is not public,
    whatever the URL says and a resolver answers: each socket is refused before it connects. No
    redirect is followed, no proxy is used, no cookie is kept.
    """

    def __init__(self, *, allow_private: bool, resolver: AbstractResolver | None = None) -> None:
        self._allow_private = allow_private
        self._resolver = resolver

    async def __aenter__(self) -> Self:
        # A connection for each attempt: one that is kept might have gone stale, and the failure
        # would be ours. How many there are at once, the messenger decides.
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                resolver=self._resolver,
                socket_factory=self._open_socket,
                force_close=True,
                limit=0,
            ),
            timeout=aiohttp.ClientTimeout(total=ANSWER_SECONDS_MAX),
            headers=_HEADERS,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._session.close()

    async def send(self, message: ClaimedMessage, *, now: datetime) -> Answer:
        """Post a message, signed at this moment; return what it was answered. Never raises.

        The status decides, whatever the body of the answer says; a body is read to 64 KiB at most,
        out of courtesy, and thrown away.
        """
        fault = fault_of_url(message.url, allow_private=self._allow_private)
        if fault is not None:
            return Answer(None, f"the URL is refused: {fault}")
        try:
            response = await self._session.post(
                message.url,
                data=message.payload.encode(),
                headers=rules.headers(message, now=now),
                allow_redirects=False,
            )
        except TimeoutError:
            return Answer(None, f"no answer within {ANSWER_SECONDS_MAX} s")
        except Exception as error:  # noqa: BLE001 - whatever a receiver does is kept as its answer
            return Answer(None, f"{type(error).__name__}: {error}")
        async with response:
            await _read_some(response)
            return Answer(response.status)

    def _open_socket(self, address_info: AddrInfoType) -> socket.socket:
        """Open the socket that is about to connect to this very address, or refuse to."""
        family, kind, protocol, _, address = address_info
        host = str(address[0])
        if not self._allow_private and not is_public(host):
            raise OSError(errno.EACCES, f"{host} is not a public address")
        return socket.socket(family=family, type=kind, proto=protocol)


async def _read_some(response: aiohttp.ClientResponse) -> None:
    left = ANSWER_BYTES_MAX
    try:
        while left > 0 and (chunk := await response.content.read(left)):
            left -= len(chunk)
    except (aiohttp.ClientError, OSError):  # it has answered: what it says after that is nothing
        return
