"""`client.reserve`: credits reserved for the body of a `with`, blocking or asynchronous."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine, Mapping, Sequence
from decimal import Decimal
from types import TracebackType
from typing import Any

from prepaid_client import metering
from prepaid_client.caller import Caller
from prepaid_client.errors import PrepaidError
from prepaid_client.lifecycle import Lifecycle, log
from prepaid_client.metering import Plan, ReservedCall
from prepaid_client.requests import Amount, exact
from prepaid_client.transport import run


def plan(
    organization: str,
    *,
    amount: Amount | None = None,
    model: str | None = None,
    meter: str | None = None,
    input_tokens: int | None = None,
    max_output_tokens: int | None = None,
    measures: Mapping[str, Amount] | None = None,
    transaction_id: str | None = None,
    user_id: str | None = None,
    category: str | None = None,
    tags: Sequence[str] | None = None,
    metadata: Mapping[str, Any] | None = None,
    note: str | None = None,
    seconds: int = metering.SECONDS_DEFAULT,
    seconds_total_max: int = metering.SECONDS_TOTAL_MAX,
) -> Plan:
    """Reserve credits while the body of the `with` runs, then charge what it has recorded.

    Reserves `amount` credits, or an estimate: the `input_tokens` and `max_output_tokens` of a
    `model`, or any `measures` of a model or `meter`. The body records what it uses with
    `call.record(…)`. At its end, also by an error or a cancellation, that is charged and the rest
    released; all is released if nothing was recorded. The hold expires after `seconds` if this
    process dies, and is extended while it does not, for `seconds_total_max` at most.
    """
    estimate = {name: exact(value) for name, value in (measures or {}).items()}
    if input_tokens is not None:
        estimate[metering.INPUT_TOKENS] = Decimal(input_tokens)
    if max_output_tokens is not None:
        estimate[metering.OUTPUT_TOKENS] = Decimal(max_output_tokens)
    subjects = [subject for subject in (model, meter) if subject is not None]
    if (amount is None) != bool(estimate) or len(subjects) != bool(estimate):
        raise ValueError("Reserve an amount, or an estimate of the measures of a model or a meter.")
    return Plan(
        organization=organization,
        amount=None if amount is None else exact(amount),
        model=model,
        meter=meter,
        estimate=estimate,
        seconds=seconds,
        seconds_total_max=seconds_total_max,
        fields={
            "transaction_id": transaction_id,
            "user_id": user_id,
            "category": category,
            "tags": tags,
            "metadata": metadata,
            "note": note,
        },
    )


class Reservation:
    """A reservation in a `with`. A thread extends the hold."""

    def __init__(self, caller: Caller, plan: Plan) -> None:
        self._lifecycle = Lifecycle(caller, plan)
        self._ended = threading.Event()
        self._extender = threading.Thread(target=self._extend, daemon=True)

    def __enter__(self) -> ReservedCall:
        call = run(self._lifecycle.open())
        self._extender.start()
        return call

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended.set()  # an extension that is on its way changes nothing
        try:
            run(self._lifecycle.end(failed=error is not None))
        except PrepaidError as failure:
            if error is None:
                raise
            _note(error, failure)

    def _extend(self) -> None:
        async def has_ended(seconds: float) -> bool:
            return self._ended.wait(seconds)

        run(self._lifecycle.extend_until(has_ended))


class AsyncReservation:
    """A reservation in an `async with`. A task extends the hold.

    A cancellation of the body does not keep its use from being charged: the capture goes on, and
    a second cancellation leaves it to a task that closing the client waits for.
    """

    def __init__(self, caller: Caller, plan: Plan, endings: set[asyncio.Task[None]]) -> None:
        self._lifecycle = Lifecycle(caller, plan)
        self._endings = endings
        self._extender: asyncio.Task[None] | None = None

    async def __aenter__(self) -> ReservedCall:
        opening = asyncio.create_task(self._lifecycle.open())
        try:
            call = await asyncio.shield(opening)
        except asyncio.CancelledError:
            self._leave(self._abandon(opening))
            raise
        self._extender = asyncio.create_task(self._lifecycle.extend_until(_sleep))
        return call

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._extender is not None:
            self._extender.cancel()
        ending = self._leave(self._lifecycle.end(failed=error is not None))
        try:
            await asyncio.shield(ending)
        except PrepaidError as failure:
            if error is None:
                raise
            _note(error, failure)
        except asyncio.CancelledError:
            ending.add_done_callback(_report)
            raise

    def _leave(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start what is finished even if this task is canceled."""
        task = asyncio.create_task(work)
        self._endings.add(task)
        task.add_done_callback(self._endings.discard)
        return task

    async def _abandon(self, opening: asyncio.Task[ReservedCall]) -> None:
        """Release a hold whose caller was canceled before it had it."""
        with contextlib.suppress(PrepaidError):
            await opening
            await self._lifecycle.end(failed=True)


async def _sleep(seconds: float) -> bool:
    await asyncio.sleep(seconds)
    return False


def _note(error: BaseException, failure: PrepaidError) -> None:
    """Keep the failure of a capture beside the error that ended the call."""
    error.add_note(f"Its use was not charged: {failure}")
    log.error("a reserved call failed, and its use was not charged: %s", failure)


def _report(ending: asyncio.Task[None]) -> None:
    if not ending.cancelled() and (failure := ending.exception()) is not None:
        log.error("the use of a canceled call was not charged: %s", failure)
