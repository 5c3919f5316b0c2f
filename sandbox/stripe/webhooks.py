"""Delivery of events to webhook endpoints: signed, at least once, retried with backoff for 3 days.

https://docs.stripe.com/webhooks
"""

import asyncio
import hashlib
import hmac
import logging
from collections.abc import Sequence
from typing import Final

import aiohttp

from sandbox.stripe import checkout, events, objects
from sandbox.stripe.call import Call
from sandbox.stripe.clock import Clock
from sandbox.stripe.ids import Ids
from sandbox.stripe.observer import Observer
from sandbox.stripe.store import Json, Store

CONCURRENT_MAX: Final = 16
TIMEOUT_SECONDS: Final = 10.0
RETRY_WINDOW_SECONDS: Final = 3 * 86_400
RETRY_DELAY_SECONDS_MAX: Final = 12 * 3600
RETRY_DOUBLINGS_MAX: Final = 30
PAUSED: Final = "deliveries_paused"
logger = logging.getLogger(__name__)


def signature(body: bytes, timestamp: int, secrets: Sequence[str]) -> str:
    """Return the `Stripe-Signature` header: one `v1` for each secret, as while a secret rolls.

    https://docs.stripe.com/webhooks#verify-manually
    """
    signed = f"{timestamp}.".encode() + body
    digests = [hmac.new(s.encode(), signed, hashlib.sha256).hexdigest() for s in secrets]
    return ",".join([f"t={timestamp}", *(f"v1={digest}" for digest in digests)])


def retry_delay(attempts: int, age_seconds: float, base_seconds: float) -> float | None:
    """Seconds to wait after `attempts` failures; None when 3 days are over."""
    doublings = min(attempts - 1, RETRY_DOUBLINGS_MAX)
    delay = min(base_seconds * 2.0**doublings, RETRY_DELAY_SECONDS_MAX)
    return delay if age_seconds + delay <= RETRY_WINDOW_SECONDS else None


class Deliverer:
    """The one loop that acts when time passes: deliveries that are due, sessions that expire."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        ids: Ids,
        account: str,
        retry_base_seconds: float,
        observer: Observer,
    ) -> None:
        self.origin = objects.ORIGIN
        self._store = store
        self._clock = clock
        self._ids = ids
        self._account = account
        self._base = retry_base_seconds
        self._observer = observer
        self._in_flight: dict[int, asyncio.Task[None]] = {}
        self._woken = asyncio.Event()
        self._idle = asyncio.Event()
        self._progress = asyncio.Event()

    def wake(self) -> None:
        """Look again now: something was queued or the clock moved."""
        self._woken.set()

    async def flush(self) -> None:
        """Return when nothing is due and nothing is under way."""
        self._idle.clear()
        self.wake()
        await self._idle.wait()

    async def attempted(self, event_ids: Sequence[str]) -> None:
        """Return when every endpoint was sent these events once, whatever it answered."""
        self.wake()
        while self._untried(event_ids):
            await self._progress.wait()

    def pause(self, *, paused: bool) -> None:
        """Start no delivery until resumed, also after a restart."""
        self._store.set(PAUSED, "yes" if paused else "no")
        self.wake()

    async def run(self) -> None:
        """Deliver for ever; what is under way when cancelled stays pending in the store."""
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
        connector = aiohttp.TCPConnector(limit=CONCURRENT_MAX)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
            try:
                while True:
                    self._woken.clear()
                    self._expire_sessions()
                    self._start_due(session)
                    if not self._in_flight:
                        self._idle.set()
                    await self._sleep()
            finally:
                for task in self._in_flight.values():
                    task.cancel()
                await asyncio.gather(*self._in_flight.values(), return_exceptions=True)

    def _expire_sessions(self) -> None:
        now = int(self._clock.now())
        due = checkout.due(self._store, now)
        if not due:
            return
        with self._store.transaction():
            for session_id in due:
                store = self._store.about(session_id)
                call = Call(store=store, ids=self._ids, now=now, account=self._account)
                checkout.expire(call, {}, session_id)

    def _start_due(self, session: aiohttp.ClientSession) -> None:
        if self._store.setting(PAUSED) == "yes":
            return
        due = self._store.execute(
            "SELECT d.id, event, endpoint, rank FROM deliveries AS d "
            "LEFT JOIN delivery_faults ON delivery = d.id WHERE state = 'pending' AND due <= ? "
            "ORDER BY rank IS NOT NULL, rank, due, d.id LIMIT ?",
            (self._clock.now(), CONCURRENT_MAX + len(self._in_flight)),
        ).fetchall()
        for row in due:
            if len(self._in_flight) >= CONCURRENT_MAX:
                return
            if row["rank"] is not None and self._in_flight:
                return  # shuffled ones go one by one, so that their order is what arrives
            if row["id"] not in self._in_flight:
                work = self._deliver(session, row["id"], row["event"], row["endpoint"])
                self._in_flight[row["id"]] = asyncio.create_task(work)

    async def _sleep(self) -> None:
        """Wait for a wake-up or for the next moment at which something is due."""
        row = self._store.execute(
            "SELECT min(moment) AS moment FROM ("
            "SELECT min(due) AS moment FROM deliveries WHERE state = 'pending' AND due > ? "
            "UNION ALL SELECT min(json_extract(body, '$.expires_at')) FROM objects "
            "WHERE object = 'checkout.session' AND json_extract(body, '$.status') = 'open')",
            (self._clock.now(),),
        ).fetchone()
        moment = row["moment"]
        wait = None if moment is None else max(0.0, moment - self._clock.now())
        try:
            async with asyncio.timeout(wait):
                await self._woken.wait()
        except TimeoutError:
            return

    async def _deliver(
        self, session: aiohttp.ClientSession, delivery: int, event_id: str, endpoint_id: str
    ) -> None:
        try:
            endpoint = self._store.about(endpoint_id).get(endpoint_id)
            event = self._store.about(event_id).get(event_id)
            if endpoint is None or event is None or endpoint["status"] != "enabled":
                with self._store.transaction():
                    self._conclude(delivery, "failed")
                return
            status, error = await self._post(session, endpoint, event)
            with self._store.transaction():
                self._record(delivery, status, error)
        finally:
            del self._in_flight[delivery]
            self._progress.set()
            self._progress.clear()
            self.wake()

    async def _post(
        self, session: aiohttp.ClientSession, endpoint: Json, event: Json
    ) -> tuple[int | None, str | None]:
        shown = events.with_pending(self._store, event)
        self._observer.sent(shown)
        body = objects.rendered(shown, self.origin)
        secrets = self._store.hidden(endpoint["id"])["secret"].split(",")
        headers = {
            "Content-Type": "application/json; charset=utf-8",
            "User-Agent": "Stripe/1.0 (+https://docs.stripe.com/webhooks)",
            "Cache-Control": "no-cache",
            # Receivers compare this moment with their own clock, which no test can advance.
            "Stripe-Signature": signature(body, int(self._clock.wall()), secrets),
        }
        try:
            async with session.post(
                endpoint["url"], data=body, headers=headers, allow_redirects=False
            ) as answer:
                return answer.status, None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return None, f"{type(error).__name__}: {error}"

    def _record(self, delivery: int, status: int | None, error: str | None) -> None:
        row = self._store.execute(
            "UPDATE deliveries SET attempts = attempts + 1 WHERE id = ? "
            "RETURNING attempts, created, state",
            (delivery,),
        ).fetchone()
        now = self._clock.now()
        self._store.execute(
            "INSERT INTO delivery_attempts (delivery, number, at, status, error) "
            "VALUES (?, ?, ?, ?, ?)",
            (delivery, row["attempts"], now, status, error),
        )
        if status is not None and 200 <= status < 300:  # noqa: PLR2004  # the 2xx of HTTP
            if not self._again(delivery):
                self._conclude(delivery, "delivered")
            return
        delay = retry_delay(row["attempts"], now - row["created"], self._base)
        logger.info(
            "webhook delivery %s attempt %s failed: %s; next in %s s",
            delivery,
            row["attempts"],
            status or error,
            delay,
        )
        if delay is None:
            self._conclude(delivery, "failed")
        else:
            self._store.execute(
                "UPDATE deliveries SET due = ? WHERE id = ?", (now + delay, delivery)
            )

    def _again(self, delivery: int) -> bool:
        """Tell whether a delivery that was taken is to be sent once more."""
        row = self._store.execute(
            "UPDATE delivery_faults SET again = again - 1 WHERE delivery = ? AND again > 0 "
            "RETURNING again",
            (delivery,),
        ).fetchone()
        return row is not None

    def _untried(self, event_ids: Sequence[str]) -> bool:
        return any(
            self._store.execute(
                "SELECT 1 FROM deliveries WHERE event = ? AND state = 'pending' AND attempts = 0",
                (event_id,),
            ).fetchone()
            for event_id in event_ids
        )

    def _conclude(self, delivery: int, state: str) -> None:
        self._store.execute(
            "UPDATE deliveries SET state = ? WHERE id = ? AND state = 'pending'", (state, delivery)
        )


def deliveries(store: Store) -> list[Json]:
    """List every delivery with its attempts, oldest first."""
    tried: dict[int, list[Json]] = {}
    for row in store.execute("SELECT * FROM delivery_attempts ORDER BY delivery, number"):
        tried.setdefault(row["delivery"], []).append(
            {name: row[name] for name in ("number", "at", "status", "error")}
        )
    return [
        {
            "event": row["event"],
            "type": row["type"],
            "endpoint": row["endpoint"],
            "state": row["state"],
            "due": row["due"],
            "attempts": tried.get(row["id"], []),
        }
        for row in store.execute(
            "SELECT d.*, json_extract(o.body, '$.type') AS type FROM deliveries AS d "
            "LEFT JOIN objects AS o ON o.id = d.event ORDER BY d.id"
        )
    ]
