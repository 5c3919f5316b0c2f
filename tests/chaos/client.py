"""A client of the API as an app should be: it repeats a request until it is answered."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from decimal import Decimal
from random import Random
from typing import Any

import aiohttp
import msgspec

from sandbox.product import WebProcess
from tests.chaos.journal import Journal, Outcome

TIMEOUT_SECONDS = 8.0
PAUSE_SECONDS = (0.05, 0.4)
# Why a 409 is no answer yet: an earlier attempt of the same request is under way.
UNDER_WAY = ("The first request with this Idempotency-Key", "Another attempt of this request")
# Why a 502 stays one under its key: the attempt of a top-up has ended, and another needs a new key.
ENDED = "Stripe refused the charge"

_encoder = msgspec.json.Encoder(decimal_format="number")
_decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(float_hook=Decimal)


@dataclass(frozen=True, slots=True)
class Reply:
    """The final answer to a request; `outcome` is what its caller knows then.

    `clear`: every attempt before it got an answer too.
    """

    status: int
    body: Any
    outcome: Outcome
    clear: bool = False


UNANSWERED = Reply(0, None, Outcome.UNCLEAR)


@dataclass
class Client:
    """Sends requests to either web process. `over` ends every wait: what is open then stays so."""

    webs: dict[str, WebProcess]
    api_key: str
    http: aiohttp.ClientSession
    journal: Journal
    random: Random
    over: asyncio.Event

    async def send(
        self, method: str, path: str, body: Any = None, *, key: str = "", tries_max: int = 0
    ) -> Reply:
        """Send a request until it is answered, to another process each time.

        With `tries_max` the caller gives up after so many attempts, as one that crashes does.
        """
        data = None if body is None else _encoder.encode(body)
        clear, tries = True, 0
        while not self.over.is_set():
            tries += 1
            web = self.random.choice(list(self.webs.values()))
            status, answer = await self.attempt(web, method, path, data, key)
            if 200 <= status < 300:
                self.journal.accepted += 1
                return Reply(status, answer, Outcome.ACCEPTED, clear)
            if _is_final(status, answer):
                outcome = Outcome.REFUSED if clear else Outcome.UNCLEAR
                return Reply(status, answer, outcome, clear)
            clear = clear and status == 429
            if tries == tries_max:
                break
            await asyncio.sleep(self.random.uniform(*PAUSE_SECONDS))
        self.journal.unanswered += 1
        return UNANSWERED

    async def attempt(
        self, web: WebProcess, method: str, path: str, data: bytes | None, key: str
    ) -> tuple[int, Any]:
        """Send a request once, to this process; return 0 where no answer came."""
        headers = {"Authorization": f"Bearer {self.api_key}", "Content-Type": "application/json"}
        if key:
            headers["Idempotency-Key"] = key
        self.journal.requests += 1
        try:
            async with self.http.request(
                method, web.url + path, data=data, headers=headers
            ) as response:
                raw = await response.read()
                return response.status, _decoder.decode(raw) if raw.startswith((b"{", b"[")) else {}
        except (aiohttp.ClientError, TimeoutError, OSError, msgspec.DecodeError):
            return 0, None


def new_session() -> aiohttp.ClientSession:
    """Return a session for `Client`, with its time-out."""
    connector = aiohttp.TCPConnector(limit=0)
    return aiohttp.ClientSession(
        connector=connector, timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
    )


def _is_final(status: int, answer: Any) -> bool:
    """Whether an answer decides: no failure, no limit, and no attempt that is still under way."""
    detail = str(answer.get("detail", "")) if isinstance(answer, dict) else ""
    if status == 502:
        return detail.startswith(ENDED)
    if not 400 <= status < 500 or status == 429:
        return False
    return not (status == 409 and detail.startswith(UNDER_WAY))
