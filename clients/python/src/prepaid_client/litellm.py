"""A callback of LiteLLM that reserves credits before each call and charges what it used.

    litellm.callbacks = [PrepaidCallback(client)]
    await litellm.acompletion(…, metadata={"prepaid": {"organization": "hooli", "user": "jo"}})

LiteLLM awaits callbacks in its asynchronous functions alone; the proxy uses those. It needs
`prepaid-client[litellm]`.
"""

from __future__ import annotations

# mypy: disable-error-code="unused-ignore"
import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from litellm.integrations.custom_logger import CustomLogger

from prepaid_client.client import AsyncClient
from prepaid_client.metering import ReservedCall
from prepaid_client.reserving import AsyncReservation
from prepaid_client.usage import measures_of

OUTPUT_TOKENS_DEFAULT = 1_024
# A token of common text has more; what the estimate lacks is charged past the reservation.
CHARACTERS_OF_A_TOKEN = 3
# Longer than LiteLLM waits for a model.
SECONDS_MAX = 900
_CALL_ID = "litellm_call_id"


@dataclass(frozen=True, slots=True)
class Payer:
    """Who pays for a call: an organization, and optionally its user and its category."""

    organization: str
    user_id: str | None = None
    category: str | None = None


def payer_of_metadata(arguments: Mapping[str, Any]) -> Payer:
    """Return who pays by the `metadata` of a call. Raises ValueError where it names nobody."""
    named = (arguments.get("metadata") or {}).get("prepaid") or {}
    if not named.get("organization"):
        raise ValueError("a call needs metadata={'prepaid': {'organization': …}}")
    return Payer(named["organization"], named.get("user"), named.get("category"))


def estimated_input(arguments: Mapping[str, Any]) -> int:
    """Return about how many tokens the messages, or the input, of a call have."""
    text = json.dumps(arguments.get("messages") or arguments.get("input") or "", default=str)
    return len(text) // CHARACTERS_OF_A_TOKEN + 1


@dataclass(slots=True)
class _Metered:
    reservation: AsyncReservation
    call: ReservedCall
    timer: asyncio.TimerHandle


class PrepaidCallback(CustomLogger):  # type: ignore[misc] # where LiteLLM is not installed
    """Reserves before a call, captures its usage after it, and releases where it failed.

    A call that the balance does not cover raises Insufficient before the model is asked. A stream
    is charged by the usage at its end, and by what LiteLLM counted of it where it breaks. LiteLLM
    reports nothing of a stream that its reader leaves: its credits are released after `seconds`.
    """

    def __init__(
        self,
        client: AsyncClient,
        *,
        payer_of: Callable[[Mapping[str, Any]], Payer] = payer_of_metadata,
        input_tokens_of: Callable[[Mapping[str, Any]], int] = estimated_input,
        output_tokens: int = OUTPUT_TOKENS_DEFAULT,
        seconds: int = SECONDS_MAX,
    ) -> None:
        """`output_tokens` are reserved for a call without a limit of its own."""
        super().__init__()
        self._client = client
        self._payer_of = payer_of
        self._input_tokens_of = input_tokens_of
        self._output_tokens = output_tokens
        self._seconds = seconds
        self._metered: dict[str, _Metered] = {}
        self._ending = 0
        self._releases: set[asyncio.Task[None]] = set()

    @property
    def in_progress(self) -> int:
        """The number of calls that are not charged or released yet."""
        return len(self._metered) + self._ending

    async def async_pre_call_deployment_hook(
        self, kwargs: dict[str, Any], call_type: Any
    ) -> dict[str, Any]:
        """Reserve credits. Raises Insufficient or BudgetExceeded."""
        call_id = kwargs[_CALL_ID]
        await self._end(call_id, failed=True)  # an earlier attempt of the same call
        payer = self._payer_of(kwargs)
        limit = kwargs.get("max_completion_tokens") or kwargs.get("max_tokens")
        reservation = self._client.reserve(
            payer.organization,
            model=kwargs["model"],
            input_tokens=self._input_tokens_of(kwargs),
            max_output_tokens=limit or self._output_tokens,
            user_id=payer.user_id,
            category=payer.category,
            seconds=self._seconds,
            seconds_total_max=0,
        )
        call = await reservation.__aenter__()
        timer = asyncio.get_running_loop().call_later(self._seconds, self._abandon, call_id)
        self._metered[call_id] = _Metered(reservation, call, timer)
        if kwargs.get("stream") and not kwargs.get("stream_options"):
            return {**kwargs, "stream_options": {"include_usage": True}}
        return kwargs

    async def async_log_success_event(
        self, kwargs: dict[str, Any], response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        """Charge the usage of a call that has ended."""
        metered = self._metered.get(kwargs[_CALL_ID])
        usage = getattr(response_obj, "usage", None)
        if metered is not None and usage is not None:
            metered.call.record(**measures_of(usage))
        await self._end(kwargs[_CALL_ID], failed=False)

    async def async_log_failure_event(
        self, kwargs: dict[str, Any], response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        """Charge what was streamed of a call that has failed, and release the rest."""
        metered = self._metered.get(kwargs[_CALL_ID])
        usage = kwargs.get("combined_usage_object")  # what LiteLLM counted of a broken stream
        if metered is not None and usage is not None:
            metered.call.record(**measures_of(usage))
        await self._end(kwargs[_CALL_ID], failed=True)

    async def async_post_call_failure_deployment_hook(
        self, request_data: Mapping[str, Any], *_: Any, **__: Any
    ) -> None:
        """Release the reservation of an attempt that has failed, before the next one."""
        await self._end(request_data[_CALL_ID], failed=True)

    def _abandon(self, call_id: str) -> None:
        """Release the credits of a call of which nothing was reported."""
        release = asyncio.get_running_loop().create_task(self._end(call_id, failed=True))
        self._releases.add(release)
        release.add_done_callback(self._releases.discard)

    async def _end(self, call_id: str, *, failed: bool) -> None:
        metered = self._metered.pop(call_id, None)
        if metered is None:
            return
        metered.timer.cancel()
        error = _CallFailed() if failed else None
        self._ending += 1
        try:
            await metered.reservation.__aexit__(type(error) if error else None, error, None)
        finally:
            self._ending -= 1


class _CallFailed(Exception):
    """Says to a reservation that its call has failed."""
