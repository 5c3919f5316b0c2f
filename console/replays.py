"""Replays and their previews for pages: one at a time in a process, and to their end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from console.framework.context import Visit
from shared.errors import ConflictError
from shared.events.nodes import NodeBatches
from shared.events.service import Applier
from shared.http.completion import run_to_completion
from shared.ids import new_id
from shared.outbound.model import MessageFilter
from shared.payments.client import stripe_client
from shared.payments.lookup import StripeLookup
from shared.payments.model import SaleTerms
from shared.replay.messages import MessageReplayer, MessageReplayReport
from shared.replay.model import Mode, ReplayReport
from shared.replay.refetch import Refetcher
from shared.replay.service import Replayer

Result = TypeVar("Result")
BUSY = (
    "A replay or a preview is running in the console. Nothing was changed. Send the form again when"
    " it has ended."
)


async def preview(visit: Visit, ids: Sequence[str]) -> ReplayReport:
    """Return what a replay of these events would do. Stripe is only read, and nothing changes."""
    async with visit.console.replays, _replayer(visit, read_only=True) as replayer:
        return await replayer.preview(ids)


async def replay(visit: Visit, ids: Sequence[str], reason: str) -> ReplayReport:
    """Replay these events, to the end even where the browser leaves. Raises ConflictError."""

    async def work() -> ReplayReport:
        async with _replayer(visit, read_only=False) as replayer:
            return await replayer.replay(ids, actor=visit.actor, reason=reason)

    return await _run_alone(visit, work)


async def replay_messages(visit: Visit, wanted: MessageFilter, reason: str) -> MessageReplayReport:
    """Replay outbound messages, to the end even where the browser leaves. Raises ConflictError."""

    async def work() -> MessageReplayReport:
        replayer = MessageReplayer(visit.console.pool)
        return await replayer.replay(wanted, actor=visit.actor, reason=reason)

    return await _run_alone(visit, work)


def check_idle(visit: Visit) -> None:
    """Raise ConflictError while a replay or a preview runs in this process."""
    if visit.console.replays.locked():
        raise ConflictError(BUSY)


def counts(report: ReplayReport) -> str:
    """Return the counts of a replay as a sentence."""
    text = (
        f"{report['applied']} applied, {report['noop']} without effect, {report['failed']} failed"
    )
    if not report["failures"]:
        return f"{text}."
    first = report["failures"][0]
    return f"{text}. {first['id']}: {first['error']}"


async def _run_alone(visit: Visit, work: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
    """Run a replay to its end; raise ConflictError where another one or a preview runs.

    One works at a time: each takes both connections of the console. The lock is taken before the
    task exists, so that no replay begins after its page was answered.
    """
    check_idle(visit)
    lock = visit.console.replays
    await lock.acquire()

    async def locked() -> Result:
        try:
            return await work()
        finally:
            lock.release()

    return await run_to_completion(locked())


@asynccontextmanager
async def _replayer(visit: Visit, *, read_only: bool) -> AsyncIterator[Replayer]:
    console = visit.console
    settings = console.settings
    async with stripe_client(
        settings.stripe_api_key, settings.stripe_api_base, read_only=read_only
    ) as client:
        applier = Applier(
            console.pool,
            SaleTerms.of(settings),
            lookup=StripeLookup(client),
            nodes=NodeBatches(console.pool),
        )
        yield Replayer(console.pool, applier, new_id, Mode.of(settings), Refetcher(client))
