"""HTTP client for outbound messages: connects to allowed addresses only."""

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
from shared.outbound.model import ClaimedMessage, DeliveryResponse

RESPONSE_SECONDS_MAX = 15
RESPONSE_BYTES_MAX = 64 * 1024
_HEADERS = {"Content-Type": "application/json", "User-Agent": "Prepaid-Webhooks"}


class Sender:
    """HTTP client for URLs from untrusted users. One instance a process.

    Guarantee (protection against SSRF): without `allow_private` no connection is opened to an
    address that is not public, whatever the URL is and the resolver returns: the socket is refused
    before it connects. It follows no redirects, uses no proxy and stores no cookies.
    """

    def __init__(self, *, allow_private: bool, resolver: AbstractResolver | None = None) -> None:
        self._allow_private = allow_private
        self._resolver = resolver

    async def __aenter__(self) -> Self:
        # One connection an attempt: a pooled one may be stale, and its failure would count against
        # the receiver. The messenger limits how many are open at once.
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                resolver=self._resolver,
                socket_factory=self._open_socket,
                force_close=True,
                limit=0,
            ),
            timeout=aiohttp.ClientTimeout(total=RESPONSE_SECONDS_MAX),
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

    async def send(self, message: ClaimedMessage, *, now: datetime) -> DeliveryResponse:
        """Post a message, signed at `now`; return the response. Never raises.

        Only the status counts. The body is read up to 64 KiB, so that the receiver can finish
        writing, and ignored.
        """
        fault = fault_of_url(message.url, allow_private=self._allow_private)
        if fault is not None:
            return DeliveryResponse(None, f"the URL is refused: {fault}")
        try:
            response = await self._session.post(
                message.url,
                data=message.payload.encode(),
                headers=rules.headers(message, now=now),
                allow_redirects=False,
            )
        except TimeoutError:
            return DeliveryResponse(None, f"no answer within {RESPONSE_SECONDS_MAX} s")
        except Exception as error:  # noqa: BLE001 - any failure of a receiver is an outcome
            return DeliveryResponse(None, f"{type(error).__name__}: {error}")
        async with response:
            await _read_some(response)
            return DeliveryResponse(response.status)

    def _open_socket(self, address_info: AddrInfoType) -> socket.socket:
        """Open the socket for a connection to exactly this address, or refuse to."""
        family, kind, protocol, _, address = address_info
        host = str(address[0])
        if not self._allow_private and not is_public(host):
            raise OSError(errno.EACCES, f"{host} is not a public address")
        return socket.socket(family=family, type=kind, proto=protocol)


async def _read_some(response: aiohttp.ClientResponse) -> None:
    left = RESPONSE_BYTES_MAX
    try:
        while left > 0 and (chunk := await response.content.read(left)):
            left -= len(chunk)
    except (aiohttp.ClientError, OSError):  # the status has arrived; the body does not count
        return
