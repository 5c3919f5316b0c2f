"""Binds a Stripe customer or a payment to an organization, because a person says so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from msgspec import structs

from shared.access import service as audit
from shared.access.model import Actor
from shared.errors import ConflictError, EventError, NotFoundError, StripeMissingError
from shared.events import payments, store
from shared.events.model import ApplyContext, Ignored
from shared.ids import transaction_public_id
from shared.ledger.model import PostedTransaction, PostingStatus
from shared.organizations import service as organization_service
from shared.organizations import store as organizations
from shared.organizations.model import Organization
from shared.payments import sales
from shared.payments import store as payments_store
from shared.payments.customers import bind_customers
from shared.payments.lookup import StripeLookup
from shared.payments.model import CustomerQuestion, PaymentFacts, PaymentQuestion, SaleTerms
from shared.payments.objects import ORGANIZATION_METADATA, Customer

if TYPE_CHECKING:
    from shared.db.pool import Connection, Connections

SUCCEEDED = "succeeded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Binder:
    """Binds in transactions of its own, after reading the object from Stripe.

    `account` is the connected account of the object; empty: the account of the API key.
    """

    pool: Connections
    lookup: StripeLookup
    terms: SaleTerms
    make_id: Callable[[], UUID]
    account: str = ""

    async def bind_customer(
        self, organization: Organization, customer_id: str, *, actor: Actor | str, reason: str
    ) -> bool:
        """Bind a customer to an organization that has none; return whether that changed it.

        Events that were ignored because the customer was unknown are applied again. Raises
        NotFoundError if Stripe has no such customer, ConflictError if the organization has another
        one, or the customer another organization.
        """
        question = CustomerQuestion(self.account, customer_id)
        answer = (await self.lookup.answers([question]))[question]
        gone = isinstance(answer, Customer) and answer.deleted
        if gone or isinstance(answer, StripeMissingError):
            raise NotFoundError(f"Stripe has no customer {customer_id}.")
        if isinstance(answer, Exception):
            raise answer
        async with self.pool.acquire() as connection, connection.transaction():
            await organizations.lock_without_customer(connection, [organization.id])
            before = await organization_service.find(connection, str(organization.id))
            if before.stripe_customer_id == customer_id:
                return False
            if before.stripe_customer_id is not None:
                raise ConflictError(
                    f"{before.slug} has the customer {before.stripe_customer_id} already."
                )
            await bind_customers(connection, {before.id: customer_id}, account=self.account)
            after = await organization_service.find(connection, str(organization.id))
            if after.stripe_customer_id != customer_id:
                raise ConflictError(f"{customer_id} is the customer of another organization.")
            await _record(connection, organization, customer_id, actor, reason)
        return True

    async def bind_payment(
        self,
        organization: Organization,
        payment_intent_id: str,
        *,
        actor: Actor | str,
        reason: str,
        now: datetime,
    ) -> PostedTransaction:
        """Credit a captured payment to an organization, as if its metadata named it.

        Its refunds are posted, its customer is bound if the organization has none, and events that
        waited for either are applied again. A repeated call is `replayed`. Raises NotFoundError if
        Stripe has no such payment, OrganizationClosedError, and ConflictError with the reason if
        the payment cannot be a sale or belongs to another organization.
        """
        question = PaymentQuestion(self.account, payment_intent_id)
        async with self.pool.acquire() as connection:
            await organization_service.check_open(connection, organization.id)
            as_of = await store.clock(connection)
        facts = (await self.lookup.answers([question]))[question]
        if isinstance(facts, StripeMissingError):
            raise NotFoundError(f"Stripe has no payment {payment_intent_id}.")
        if isinstance(facts, Exception):
            raise facts
        assert isinstance(facts, PaymentFacts)  # noqa: S101 - the answer to this question
        if facts.payment_intent.status != SUCCEEDED:
            raise ConflictError(f"{payment_intent_id} is {facts.payment_intent.status}, not paid.")
        named = _naming(facts, organization)
        payment = replace(sales.from_intent(named.payment_intent), account=self.account)
        context = ApplyContext(self.terms, self.make_id, now, {question: named}, as_of)
        async with self.pool.acquire() as connection, connection.transaction():
            await _refuse_another(connection, facts, organization, self)
            credited = (await payments.credit(connection, [payment], context))[payment]
            posted = _posted(credited, organization)
            if posted.status is PostingStatus.POSTED:
                details = {"transaction": transaction_public_id(posted.id)}
                await _record(connection, organization, payment_intent_id, actor, reason, details)
        return posted


def _naming(facts: PaymentFacts, organization: Organization) -> PaymentFacts:
    """Return the payment as if the seller had named this organization."""
    name = {ORGANIZATION_METADATA: str(organization.id)}
    intent = structs.replace(
        facts.payment_intent, metadata={**(facts.payment_intent.metadata or {}), **name}
    )
    session = facts.session
    if session is not None:
        session = structs.replace(
            session,
            metadata={**(session.metadata or {}), **name},
            client_reference_id=None,
        )
    return replace(facts, payment_intent=intent, session=session)


async def _refuse_another(
    connection: Connection, facts: PaymentFacts, organization: Organization, binder: Binder
) -> None:
    """Raise ConflictError if the payment is credited to another organization without a binding.

    It may name one in its metadata, in that of its Checkout Session or as `client_reference_id`,
    or be credited by its customer where the settings say so.
    """
    name = facts.payment_intent.id
    captured = replace(sales.from_intent(facts.payment_intent), account=binder.account)
    try:
        payment = sales.with_facts(captured, facts)
    except EventError as error:
        raise ConflictError(f"Nothing was credited: {error.detail}") from None
    (claim,) = await payments_store.claims(connection, [payment])
    for found in claim.organizations.values():
        if found.id != organization.id:
            other = await organization_service.find(connection, str(found.id))
            raise ConflictError(f"{name} names the organization {other.slug}.")
    customer = claim.customer_organization
    if claim.organizations or customer is None or not binder.terms.credit_customer_payments:
        return
    if customer.id != organization.id:
        other = await organization_service.find(connection, str(customer.id))
        raise ConflictError(f"{name} is of {payment.customer_id}, the customer of {other.slug}.")


def _posted(credited: payments.PaymentResult, organization: Organization) -> PostedTransaction:
    if isinstance(credited, Ignored):
        raise ConflictError(f"Nothing was credited: {credited.reason}")
    if isinstance(credited, EventError):
        raise ConflictError(f"Nothing was credited: {credited.detail}")
    assert isinstance(credited, PostedTransaction)  # noqa: S101 - Stripe was asked
    if credited.organization_id != organization.id:
        raise ConflictError(
            f"The payment was credited to the organization {credited.organization_id} before."
        )
    return credited


async def _record(
    connection: Connection,
    organization: Organization,
    subject: str,
    actor: Actor | str,
    reason: str,
    details: dict[str, str] | None = None,
) -> None:
    await audit.record(
        connection,
        actor=actor,
        action="organizations.bind",
        subject=subject,
        organization_id=organization.id,
        reason=reason,
        details=details,
    )
