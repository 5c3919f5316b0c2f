"""The one place where a payment becomes credits: bound to its organization, then posted.

A payment is bound once, by the first of its Checkout Session's event, its own event, the response
to a charge, and a refund. Its ledger key is derived from the PaymentIntent, so that it is posted
once. It is bound only where its credits are on the ledger.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from uuid import UUID

from shared.errors import EventError, PaymentMismatchError
from shared.ledger import keys
from shared.ledger import service as ledger
from shared.ledger import store as ledger_store
from shared.ledger.model import (
    PostedTransaction,
    Posting,
    PostingResult,
    PostingStatus,
    SystemAccount,
)
from shared.ledger.rules import request_digest
from shared.outbound.model import OutboundMessage
from shared.payments import sales as sale_rules
from shared.payments import store
from shared.payments.messages import purchase_to_complete
from shared.payments.model import BoundPayment, NotSold, Sale

if TYPE_CHECKING:
    from shared.db.pool import Connection


class PostingRefusedError(EventError):
    """The ledger refused the posting."""


CreditResult = PostedTransaction | NotSold | EventError


async def credit(
    connection: Connection, sales: Sequence[Sale], make_id: Callable[[], UUID]
) -> list[CreditResult]:
    """Credit each payment once, in the caller's transaction; return the results in order."""
    return (await Crediting(connection=connection, make_id=make_id).credit(sales)).results


class _BoundMeanwhileError(Exception):
    """Another transaction has bound one of the payments since they were read."""


@dataclass(frozen=True, slots=True)
class Announcement:
    """A message about a purchase, if its credit is new: the fields of its payment, and the time."""

    paid: Mapping[str, Any]
    at: datetime


@dataclass(frozen=True, slots=True)
class Completion:
    """What a sale completes in the transaction of its credit: a purchase, and a message."""

    checkout_session_id: str | None = None
    purchase_id: UUID | None = None
    announcement: Announcement | None = None


@dataclass(frozen=True, slots=True)
class Credited:
    """The results of sales, in order, and the suspended organizations that bought something."""

    results: list[CreditResult] = field(default_factory=list)
    suspended: list[UUID] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Crediting:
    """Credits payments, each once, in the caller's transaction.

    `lock_payments`: lock payments that others bound, because the caller applies reversals next, and
    a reversal locks the payment before its account. An organization that is suspended for
    `suspension` is returned if a purchase of its is new. `before_write` is awaited before payments
    and accounts are locked.
    """

    connection: Connection
    make_id: Callable[[], UUID]
    lock_payments: bool = False
    suspension: str = ""
    before_write: Callable[[], Awaitable[None]] | None = None

    async def credit(
        self,
        sales: Sequence[Sale],
        completions: Sequence[Completion] = (),
        *,
        bound: Mapping[str, BoundPayment] = MappingProxyType({}),
    ) -> Credited:
        """Credit sales and complete their purchases: one round trip, if nobody else binds them.

        `bound` are the bindings that were read before, by PaymentIntent. A payment that was bound
        before is credited as it was bound then. Its result is `replayed` if the ledger has it
        already, NotSold if its invoice has credited it, and PaymentMismatchError if this sale has
        another amount. A payment whose posting is refused is not bound.
        """
        if not sales:
            return Credited()
        new: dict[str, Sale] = {}
        for sale in sales:
            if sale.payment_intent_id not in bound:
                new.setdefault(sale.payment_intent_id, sale)
        bindings = {**bound, **{name: _binding(sale) for name, sale in new.items()}}
        sold = list(zip(sales, completions or [Completion()] * len(sales), strict=True))
        try:
            return await self._credit(sold, bindings, list(new.values()))
        except _BoundMeanwhileError:
            bindings |= await store.bound_payments(self.connection, sorted(new))
            return await self._credit(sold, bindings, [])

    async def _credit(
        self,
        sold: Sequence[tuple[Sale, Completion]],
        bindings: Mapping[str, BoundPayment],
        new: Sequence[Sale],
    ) -> Credited:
        postings = [
            _posting(sale, bindings[sale.payment_intent_id], self.make_id()) for sale, _ in sold
        ]
        completed = {
            posting.id: (sale, completion)
            for posting, (sale, completion) in zip(postings, sold, strict=True)
            if isinstance(posting, Posting)
        }
        suspended: list[UUID] = []

        async def write(
            connection: Connection, valid: Sequence[Posting]
        ) -> Sequence[PostingResult]:
            if self.before_write is not None:
                await self.before_write()
            posted = {posting.payment_intent_id for posting in valid}
            bindings = [sale for sale in new if sale.payment_intent_id in posted]
            rows = await store.credit(
                connection,
                bindings=bindings,
                postings=valid,
                payments=sorted({sale.payment_intent_id for sale, _ in sold}),
                locks=self.lock_payments,
                purchases=_purchases(valid, completed),
                messages=_messages(valid, completed),
                suspension=self.suspension,
            )
            if bindings and not rows:
                raise _BoundMeanwhileError
            suspended.extend(row["id"] for row in rows if row["place"] is None)
            return ledger_store.results(valid, rows)

        accepted = [posting for posting in postings if isinstance(posting, Posting)]
        results = iter(await ledger.post_with(self.connection, accepted, write))
        return Credited(
            [
                on_the_ledger(next(results)) if isinstance(posting, Posting) else posting
                for posting in postings
            ],
            suspended,
        )


def _messages(
    postings: Sequence[Posting], completed: Mapping[UUID, tuple[Sale, Completion]]
) -> dict[int, OutboundMessage]:
    """Return the messages about purchases, by the places of their postings."""
    return {
        place: purchase_to_complete(posting, announcement.paid, announcement.at)
        for place, posting in enumerate(postings, start=1)
        if (announcement := completed[posting.id][1].announcement) is not None
    }


def _purchases(
    postings: Sequence[Posting], completed: Mapping[UUID, tuple[Sale, Completion]]
) -> list[dict[str, Any]]:
    """Return the purchases to close, with the places of their postings."""
    return [
        {
            "place": place,
            "checkout_session_id": completion.checkout_session_id,
            "purchase_id": completion.purchase_id,
            "payment_intent_id": sale.payment_intent_id,
        }
        for place, posting in enumerate(postings, start=1)
        for sale, completion in [completed[posting.id]]
        if completion.checkout_session_id or completion.purchase_id
    ]


def _binding(sale: Sale) -> BoundPayment:
    return BoundPayment(
        sale.organization_id, sale.gross_minor, sale.currency, sale.credits, sale.invoice_id
    )


def on_the_ledger(result: PostingResult) -> PostedTransaction | EventError:
    """Return the posted transaction, or the error if the ledger refused it."""
    if isinstance(result, PostedTransaction):
        return result
    if result.status is PostingStatus.CLOSED:
        return PostingRefusedError(
            f"Organization {result.organization_id} is closed. Reopen it (prepaid orgs reopen) and"
            " replay this event, or refund the payment at Stripe and discard the event."
        )
    return PostingRefusedError(
        f"The ledger of organization {result.organization_id} refused: {result.status}."
    )


def _posting(
    sale: Sale, bound: BoundPayment, transaction_id: UUID
) -> Posting | NotSold | EventError:
    """Return the posting of a payment; it is the same for each of the payment's events.

    An invoice may have bound the payment since this sale was decided: its credits are those of the
    invoice, under the invoice's key.
    """
    if bound.invoice_id is not None:
        return sale_rules.credited_by_invoice(sale.payment_intent_id, bound.invoice_id)
    if (bound.amount_minor, bound.currency) != (sale.gross_minor, sale.currency):
        return PaymentMismatchError(
            f"{sale.payment_intent_id} was {bound.amount_minor} {bound.currency}, "
            f"this event says {sale.gross_minor} {sale.currency}."
        )
    key = f"{keys.PAYMENT}{sale.payment_intent_id}"
    return Posting(
        organization_id=bound.organization_id,
        id=transaction_id,
        type=sale.type,
        amount=bound.credits,
        counterparty=SystemAccount.STRIPE,
        key=key,
        digest=request_digest(key, bound.amount_minor, bound.currency),
        description=sale.description,
        payment_intent_id=sale.payment_intent_id,
        expires_at=sale.expires_at,
    )
