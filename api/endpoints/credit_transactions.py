"""Surface A: POST /api/credit-transactions."""

from __future__ import annotations

import enum
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec

from api.framework import fields
from api.framework.fields import Number, NumberOrNull, Request, Response
from api.framework.operation import Call, Operation, Reply, Retry, not_found
from api.transactions import manual_postings, metadata, permissions, posting_errors
from api.transactions.posting_keys import posting_key
from api.transactions.type_names import POSTABLE, PROMOTIONAL
from shared.access.model import Scope
from shared.errors import (
    ConflictError,
    IdempotencyError,
    InsufficientCreditsError,
    NotFoundError,
    ValidationError,
)
from shared.ids import parse_id, transaction_public_id
from shared.ledger import rules, store
from shared.ledger.model import (
    PostedTransaction,
    Posting,
    PostingStatus,
    RefusedPosting,
    TransactionType,
)
from shared.ledger.origin import OWN
from shared.organizations.model import Organization

if TYPE_CHECKING:
    import asyncpg


# Fields of this surface alone are kept among the metadata, under names that no caller can take.
# What the audit log calls a posting that is no usage.
ACTION = "transactions.post"
_USER, _MODEL_COSTS = f"{OWN}user", f"{OWN}modelCosts"


class OnInsufficient(enum.StrEnum):
    """What becomes of a debit that the balance does not cover."""

    REFUSE = "refuse"
    OVERDRAFT = "overdraft"


class OrganizationReference(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The organization inside a transaction: its id or slug counts, the rest is not looked at."""

    id: str | None = None
    slug: str | None = None
    uuid: str | None = None


class TransactionRequest(Request):
    """A credit that is added (positive) or used (negative).

    `id`, `uuid`, `changeSequence`, `createdOn` and `updatedOn` are the server's to say; a client
    of this shape may send them, and they are not looked at.
    """

    amount: Number
    organization_id: str | None = None
    organization: OrganizationReference | None = None
    transaction_id: str | None = None
    note: str | None = None
    user_id: str | None = None
    user: str | None = None
    model_costs: list[str] | None = None
    type: TransactionType | None = None
    category: str | None = None
    quantity: NumberOrNull = msgspec.field(default_factory=fields.null)
    metadata: dict[str, Any] | None = None
    on_insufficient: OnInsufficient = OnInsufficient.REFUSE
    effective_on: datetime | None = None
    id: str | None = None
    uuid: str | None = None
    change_sequence: int | None = None
    created_on: str | None = None
    updated_on: str | None = None


class TransactionOrganization(Response):
    """The organization of a transaction."""

    id: UUID
    uuid: UUID
    name: str
    slug: str
    stripe_customer_id: str | None
    created_on: datetime
    updated_on: datetime


class TransactionResponse(Response):
    """A row of the ledger. `changeSequence` counts an organization's rows from 1, without gaps."""

    id: str
    uuid: UUID
    organization_id: UUID
    organization: TransactionOrganization
    transaction_id: str
    change_sequence: int
    amount: Number
    balance_after: Number
    type: TransactionType
    note: str | None
    category: str | None
    quantity: NumberOrNull
    user_id: str | None
    user: str | None
    model_costs: list[str]
    metadata: dict[str, Any]
    created_on: datetime
    updated_on: datetime
    effective_on: datetime


async def create(call: Call) -> Reply:
    """Add credits, or use some.

    A positive `amount` adds, a negative one uses. `transactionId` is your own id of it: the same id
    with the same request is answered again (`Idempotent-Replayed: true`), with another request it
    is a 409. Without one, the `Idempotency-Key` header stands in its place. 402 where the balance
    does not cover it; with `onInsufficient: "overdraft"` it is posted all the same.

    Usage needs the scope `usage`. What adds credits, any other type, and usage that overdraws
    beyond the limit need the scope `grants`.
    """
    organization = call.owner
    posting = posting_of(call, call.body)
    permissions.check_scope(call, posting)
    if posting.type is TransactionType.USAGE:
        result = await call.api.ledger.post(permissions.limit_overdraft(call, posting))
    else:
        result = await manual_postings.post(call, posting, ACTION, organization=organization)
    if isinstance(result, RefusedPosting):
        raise permissions.posting_error(call, posting, result)
    replayed = result.status is PostingStatus.REPLAYED
    return Reply(posted_response(posting, result, organization), replayed=replayed)


async def retrieve(call: Call) -> Reply:
    """Return one transaction, by its UUID or `ct_…`."""
    row = await find(call, call.path["id"])
    organization = await call.find_organization(str(row["organization_id"]))
    return Reply(_row_response(row, organization))


async def find(call: Call, reference: str) -> asyncpg.Record:
    """Return a row of the ledger that this key may see; raise NotFoundError."""
    transaction_id = parse_id(reference)
    row = None
    if transaction_id is not None:
        async with call.api.pool.acquire() as connection:
            row = await store.find(connection, transaction_id)
    if row is None or not call.may_see(row["organization_id"]):
        raise not_found("transaction", reference)
    return row


def _references(asked: TransactionRequest) -> list[tuple[tuple[str, ...], str]]:
    """Return every way in which a body names its organization, each with where it stands."""
    found: list[tuple[tuple[str, ...], str | None]] = [(("organizationId",), asked.organization_id)]
    if inside := asked.organization:
        parts = {"id": inside.id, "uuid": inside.uuid, "slug": inside.slug}
        found += [(("organization", part), name) for part, name in parts.items()]
    return [(place, name) for place, name in found if name]


async def _organization(call: Call) -> Organization:
    """Return the organization that a body names, or that of a key that is of one."""
    named, own = _references(call.body), call.caller.organization_id
    if not named and own is None:
        raise fields.invalid(("body", "organizationId"), "is missing")
    organization = await call.find_organization(named[0][1] if named else str(own))
    check_named(call.body, organization, ("body",))
    return organization


def check_named(
    asked: TransactionRequest, organization: Organization, where: tuple[str | int, ...]
) -> None:
    """Refuse a transaction that names another organization in any of its fields."""
    for place, name in _references(asked):
        if name != organization.slug and parse_id(name) != organization.id:
            raise fields.invalid((*where, *place), "names another organization")


def posting_of(
    call: Call, asked: TransactionRequest, where: tuple[str | int, ...] = ("body",)
) -> Posting:
    """Return what a transaction asks of the ledger; `where` in the request it stands."""
    key = posting_key(call, asked.transaction_id, where)
    amount = fields.parse_number(asked.amount, *where, "amount")
    kind = asked.type or (TransactionType.USAGE if amount < 0 else TransactionType.GRANT)
    if kind not in POSTABLE:
        raise fields.invalid((*where, "type"), f"one of {', '.join(POSTABLE)}")
    return Posting(
        organization_id=call.owner.id,
        id=call.id,
        type=kind,
        counterparty=POSTABLE[kind],
        key=key,
        amount=amount,
        effective_at=asked.effective_on,
        description=asked.note,
        category=asked.category,
        quantity=fields.parse_number_or_none(asked.quantity, *where, "quantity"),
        user_id=asked.user_id,
        metadata=_metadata(asked, where),
        promotional=True if kind in PROMOTIONAL else None,
        may_overdraw=asked.on_insufficient is OnInsufficient.OVERDRAFT,
        key_id=call.caller.key_id,
        request_id=call.request_id,
    )


def _metadata(asked: TransactionRequest, where: tuple[str | int, ...]) -> dict[str, Any] | None:
    given = asked.metadata or {}
    metadata.check_names(given, where)
    own = [("user", asked.user or ""), *(("modelCosts", cost) for cost in asked.model_costs or ())]
    for name, text in own:
        if error := rules.text_refusal(name, text, rules.TEXT_LENGTH_MAX):
            raise posting_errors.invalid_field(error, where)
    kept = {_USER: asked.user, _MODEL_COSTS: asked.model_costs}
    return (given | {k: v for k, v in kept.items() if v is not None}) or None


def posted_response(
    posting: Posting, result: PostedTransaction, organization: Organization
) -> TransactionResponse:
    """Show what was posted; a replay has the same digest, so that its fields are the same."""
    return _response(
        {
            "id": result.id,
            "seq": result.seq,
            "amount": result.amount,
            "balance_after": result.balance_after,
            "created_at": result.created_at,
            "effective_at": posting.effective_at or result.created_at,
            "type": posting.type,
            "description": posting.description,
            "category": posting.category,
            "quantity": posting.quantity,
            "user_id": posting.user_id,
            "metadata": posting.metadata,
            "idempotency_key": posting.key,
        },
        organization,
    )


def _row_response(row: asyncpg.Record, organization: Organization) -> TransactionResponse:
    return _response(dict(row), organization)


def _response(row: dict[str, Any], organization: Organization) -> TransactionResponse:
    kept: dict[str, Any] = row["metadata"] or {}
    return TransactionResponse(
        id=transaction_public_id(row["id"]),
        uuid=row["id"],
        organization_id=organization.id,
        organization=_organization_response(organization),
        transaction_id=row["idempotency_key"],
        change_sequence=row["seq"],
        amount=fields.format_number(row["amount"]),
        balance_after=fields.format_number(row["balance_after"]),
        type=TransactionType(row["type"]),
        note=row["description"],
        category=row["category"],
        quantity=fields.format_number_or_null(row["quantity"]),
        user_id=row["user_id"],
        user=kept.get(_USER),
        model_costs=kept.get(_MODEL_COSTS, []),
        metadata=metadata.public(kept),
        created_on=row["created_at"],
        updated_on=row["created_at"],
        effective_on=row["effective_at"],
    )


def _organization_response(organization: Organization) -> TransactionOrganization:
    return TransactionOrganization(
        id=organization.id,
        uuid=organization.id,
        name=organization.name,
        slug=organization.slug,
        stripe_customer_id=organization.stripe_customer_id,
        created_on=organization.created_at,
        updated_on=organization.updated_at,
    )


_ERRORS = (
    ValidationError,
    InsufficientCreditsError,
    NotFoundError,
    ConflictError,
    IdempotencyError,
)

OPERATIONS = (
    Operation(
        name="createCreditTransaction",
        tag="Transactions",
        method="POST",
        path="/api/credit-transactions",
        handle=create,
        body=TransactionRequest,
        response=TransactionResponse,
        scope=Scope.USAGE,
        or_scopes=(Scope.GRANTS,),
        retry=Retry.LEDGER,
        organization_of=_organization,
        keyed_by="transaction_id",
        errors=_ERRORS,
        example={"organizationId": "acme", "amount": -4.25, "transactionId": "job-1"},
    ),
    Operation(
        name="getCreditTransaction",
        tag="Transactions",
        method="GET",
        path="/api/credit-transactions/{id}",
        handle=retrieve,
        response=TransactionResponse,
        scope=Scope.READ,
        errors=(NotFoundError,),
    ),
)
