"""Asking Stripe what the refunds and disputes of a payment have come to.

Events tell that something has changed, in any order and more than once; what it comes to now is
Stripe's to say. It is asked before a transaction, never inside one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import stripe

from shared.errors import MalformedEventError, StripeFailedError
from shared.payments import rules
from shared.payments.model import Facts, PaymentKey
from shared.payments.objects import Dispute, PaymentIntent, Refund, S, from_answer

# Together these keep what waits for Stripe well within the lease of its events.
ASKED_AT_ONCE_MAX = 5
ASK_SECONDS_MAX = 15
PAGE_ROWS = 100
PAGES_MAX = 10

# stripe-python lets the last two through as they are.
_AWAY = (stripe.StripeError, aiohttp.ClientError, TimeoutError, StripeFailedError)


@dataclass(frozen=True, slots=True)
class Reversals:
    """Asks Stripe with one client; safe to share among workers' drains."""

    client: stripe.StripeClient

    async def facts(
        self, payments: Collection[PaymentKey]
    ) -> Mapping[PaymentKey, Facts | Exception]:
        """Return what Stripe says of each payment, asking once for each, or why it did not.

        Raises nothing of Stripe's: a payment without an answer has a StripeFailedError, or a
        MalformedEventError where the answer cannot be read. Returns within 15 s.
        """
        keys = list(dict.fromkeys(payments))
        turn = asyncio.Semaphore(ASKED_AT_ONCE_MAX)
        ends_at = asyncio.get_running_loop().time() + ASK_SECONDS_MAX
        answers = await asyncio.gather(*(self._one(key, turn, ends_at) for key in keys))
        return dict(zip(keys, answers, strict=True))

    async def _one(
        self, key: PaymentKey, turn: asyncio.Semaphore, ends_at: float
    ) -> Facts | Exception:
        try:
            async with asyncio.timeout_at(ends_at), turn:
                return await self._ask(key)
        except MalformedEventError as error:
            return error
        except _AWAY as error:
            said = str(error).partition("\n")[0] or type(error).__name__
            return StripeFailedError(f"Stripe did not answer for {key.payment_intent_id}: {said}")

    async def _ask(self, key: PaymentKey) -> Facts:
        options: Any = {"stripe_account": key.account} if key.account else {}
        intents = self.client.v1.payment_intents
        intent = await intents.retrieve_async(
            key.payment_intent_id, {"expand": ["latest_charge"]}, options
        )
        refunds = await self._all(self.client.v1.refunds, key, Refund, options)
        disputes = await self._all(self.client.v1.disputes, key, Dispute, options)
        return rules.facts(from_answer(intent.to_dict(), PaymentIntent), refunds, disputes)

    async def _all(self, service: Any, key: PaymentKey, kind: type[S], options: Any) -> list[S]:
        found: list[S] = []
        params: dict[str, Any] = {
            "payment_intent": key.payment_intent_id,
            "limit": PAGE_ROWS,
        }
        for _ in range(PAGES_MAX):
            page = await service.list_async(params, options)
            found += [from_answer(item.to_dict(), kind) for item in page.data]
            if not page.has_more or not page.data:
                return found
            params["starting_after"] = page.data[-1].id
        raise StripeFailedError(f"{key.payment_intent_id} has too many refunds or disputes.")
