"""/api/credit-transactions: adding and using credits, one transaction at a time."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec

from api.framework import fields
from api.framework.fields import Number, NumberOrNull, Request, Response
from api.framework.operation import Call, Operation, Reply, Retry, not_found
from api.transactions import manual_postings, metadata, permissions, tags
from api.transactions.debit_fields import OnInsufficient
from api.transactions.posting_keys import posting_key
from api.transactions.tags import Tags
from api.transactions.type_names import POSTABLE, PROMOTIONAL
from shared.access.model import Caller, Scope
from shared.errors import (
    BudgetExceededError,
    ConflictError,
    IdempotencyError,
    InsufficientCreditsError,
    NotFoundError,
    ValidationError,
)
from shared.ids import parse_id, transaction_public_id
from shared.ledger import origin, posting_errors, rules, store
from shared.ledger.model import (
    PostedTransaction,
    Posting,
    PostingStatus,
    RefusedPosting,
    TransactionType,
)
from shared.ledger.origin import OWN
from shared.organizations.model import Organization
from shared.pricing.record import read_record

if TYPE_CHECKING:
    import asyncpg

    from api.framework.context import Api

# The action of a manual posting in the audit log.
ACTION = "transactions.post"
# Fields of this endpoint alone are stored in the metadata, under reserved names.
_USER, _MODEL_COSTS = f"{OWN}user", f"{OWN}modelCosts"
_NO_METADATA = (None, None, None, None)


class OrganizationReference(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The organization of a transaction, by its id or slug; other fields are ignored."""

    id: str | None = None
    slug: str | None = None
    uuid: str | None = None


class TransactionRequest(Request):
    """Credits to add (a positive amount) or to use (a negative one).

    `id`, `uuid`, `changeSequence`, `createdOn` and `updatedOn` are set by the server. A client may
    send them; they are ignored.
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
    tags: Tags | None = None
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
    """A ledger row. `changeSequence` numbers an organization's rows from 1, without gaps."""

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
    tags: list[str]
    created_on: datetime
    updated_on: datetime
    effective_on: datetime


async def create(call: Call) -> Reply:
    """Add or use credits.

    A positive `amount` adds credits, a negative one uses them. `transactionId` is your own id and
    makes the request idempotent: the same id with the same request returns the first response
    (`Idempotent-Replayed: true`), with another request it is a 409. Without it, the header
    `Idempotency-Key` takes its place. 402 if the available credits do not cover a debit; with
    `onInsufficient: "overdraft"` it is posted anyway. A budget of its user, key, category or tags
    refuses it in the same way.

    Usage requires the scope `usage`. Adding credits, every other type, and usage that overdraws
    beyond the limit require the scope `grants`.
    """
    organization = call.owner
    request: TransactionRequest = call.body
    posting = posting_of(call, request, call.id, posting_key(call, request.transaction_id))
    permissions.check_scope(call, posting)
    if posting.type is TransactionType.USAGE:
        result = await call.api.ledger.post(permissions.limit_overdraft(call, posting))
    else:
        result = await manual_postings.post(call, posting, ACTION, organization=organization)
    if isinstance(result, RefusedPosting):
        raise permissions.posting_error(call, posting, result)
    replayed = result.status is PostingStatus.REPLAYED
    response = posted_response(posting, result, organization_response(organization))
    return Reply(response, replayed=replayed)


async def retrieve(call: Call) -> Reply:
    """Return one transaction, by its UUID or `ct_…`."""
    row = await find(call, call.path["id"])
    organization = await call.find_organization(str(row["organization_id"]))
    return Reply(row_response(row, organization))


async def find(call: Call, reference: str) -> asyncpg.Record:
    """Return a ledger row that this key may see, else raise NotFoundError."""
    transaction_id = parse_id(reference)
    row = None
    if transaction_id is not None:
        async with call.api.pool.acquire() as connection:
            row = await store.find(connection, transaction_id)
    if row is None or not call.may_see(row["organization_id"]):
        raise not_found("transaction", reference)
    return row


def _references(request: TransactionRequest) -> list[tuple[tuple[str, ...], str]]:
    """Return each reference to an organization in a body, with its location."""
    references: list[tuple[tuple[str, ...], str]] = []
    if request.organization_id:
        references.append((("organizationId",), request.organization_id))
    if inside := request.organization:
        parts = {"id": inside.id, "uuid": inside.uuid, "slug": inside.slug}
        references += [(("organization", part), name) for part, name in parts.items() if name]
    return references


async def _organization(api: Api, caller: Caller, request: TransactionRequest) -> Organization:
    """Return the organization that a body names, else the one that the key is bound to."""
    named, own = _references(request), caller.organization_id
    if not named and own is None:
        raise fields.invalid(("body", "organizationId"), "is missing")
    organization = await api.organizations.find(named[0][1] if named else str(own), caller)
    check_named(request, organization, ("body",))
    return organization


def check_named(
    request: TransactionRequest, organization: Organization, where: tuple[str | int, ...]
) -> None:
    """Raise ValidationError if any field of a transaction names another organization."""
    if request.organization_id is None and request.organization is None:
        return  # as most in a batch
    for place, name in _references(request):
        if name in (organization.slug, str(organization.id)):
            continue  # without the parsing of another form
        if parse_id(name) != organization.id:
            raise fields.invalid((*where, *place), "names another organization")


def posting_of(
    call: Call,
    request: TransactionRequest,
    posting_id: UUID,
    key: str,
    where: tuple[str | int, ...] = ("body",),
) -> Posting:
    """Return the posting of a transaction request at the location `where`."""
    amount = fields.parse_number(request.amount, *where, "amount")
    kind = request.type or (TransactionType.USAGE if amount < 0 else TransactionType.GRANT)
    if kind not in POSTABLE:
        raise fields.invalid((*where, "type"), f"one of {', '.join(POSTABLE)}")
    return Posting(
        organization_id=call.owner.id,
        id=posting_id,
        type=kind,
        counterparty=POSTABLE[kind],
        key=key,
        amount=amount,
        effective_at=request.effective_on,
        description=request.note,
        category=request.category,
        quantity=fields.parse_number_or_none(request.quantity, *where, "quantity"),
        user_id=request.user_id,
        metadata=_metadata(request, where),
        promotional=True if kind in PROMOTIONAL else None,
        may_overdraw=request.on_insufficient is OnInsufficient.OVERDRAFT,
        key_id=call.caller.key_id,
        request_id=call.request_id,
    )


def _metadata(request: TransactionRequest, where: tuple[str | int, ...]) -> dict[str, Any] | None:
    if (request.metadata, request.user, request.model_costs, request.tags) == _NO_METADATA:
        return None
    own_metadata = request.metadata or {}
    metadata.check_names(own_metadata, where)
    texts = [("user", request.user or "")]
    texts += [("modelCosts", cost) for cost in request.model_costs or ()]
    for name, text in texts:
        if error := rules.text_refusal(name, text, rules.TEXT_LENGTH_MAX):
            raise posting_errors.invalid_field(error, where)
    reserved = {_USER: request.user, _MODEL_COSTS: request.model_costs}
    own_metadata = own_metadata | {k: v for k, v in reserved.items() if v is not None}
    return (own_metadata | tags.metadata_of(request.tags, where)) or None


def posted_response(
    posting: Posting, result: PostedTransaction, organization: TransactionOrganization
) -> TransactionResponse:
    """Return the response for a posted or replayed posting: equal digests mean equal fields."""
    # Of its origin, the price alone is part of the response.
    stored = origin.metadata(posting) if posting.pricing else posting.metadata
    return _response(
        organization,
        result.id,
        stored or {},
        transaction_id=posting.key,
        change_sequence=result.seq,
        amount=result.amount,
        balance_after=result.balance_after,
        kind=posting.type,
        note=posting.description,
        category=posting.category,
        quantity=posting.quantity,
        user_id=posting.user_id,
        created_on=result.created_at,
        effective_on=posting.effective_at or result.created_at,
    )


def row_response(row: asyncpg.Record, organization: Organization) -> TransactionResponse:
    """Return the response for a stored row."""
    return _response(
        organization_response(organization),
        row["id"],
        row["metadata"] or {},
        transaction_id=row["idempotency_key"],
        change_sequence=row["seq"],
        amount=row["amount"],
        balance_after=row["balance_after"],
        kind=TransactionType(row["type"]),
        note=row["description"],
        category=row["category"],
        quantity=row["quantity"],
        user_id=row["user_id"],
        created_on=row["created_at"],
        effective_on=row["effective_at"],
    )


def _response(  # noqa: PLR0913 - a column of the row each
    organization: TransactionOrganization,
    row_id: UUID,
    stored: dict[str, Any],
    *,
    transaction_id: str,
    change_sequence: int,
    amount: Decimal,
    balance_after: Decimal,
    kind: TransactionType,
    note: str | None,
    category: str | None,
    quantity: Decimal | None,
    user_id: str | None,
    created_on: datetime,
    effective_on: datetime,
) -> TransactionResponse:
    """Return a response: its columns, its id in two forms, and what its metadata has."""
    return TransactionResponse(
        id=transaction_public_id(row_id),
        uuid=row_id,
        organization_id=organization.id,
        organization=organization,
        transaction_id=transaction_id,
        change_sequence=change_sequence,
        amount=fields.format_number(amount),
        balance_after=fields.format_number(balance_after),
        type=kind,
        note=note,
        category=category,
        quantity=fields.format_number_or_null(quantity),
        user_id=user_id,
        user=stored.get(_USER),
        model_costs=_model_costs(stored),
        metadata=metadata.public(stored),
        tags=tags.of_metadata(stored),
        created_on=created_on,
        updated_on=created_on,
        effective_on=effective_on,
    )


def _model_costs(stored: dict[str, Any]) -> list[str]:
    """Return the caller's own, or the price of usage that Prepaid priced: BOOK:VERSION:MODEL."""
    pricing = read_record(stored)
    if pricing is not None:
        return [f"{pricing.book}:{pricing.version}:{pricing.name}"]
    own: list[str] = stored.get(_MODEL_COSTS, [])
    return own


def organization_response(organization: Organization) -> TransactionOrganization:
    """Return the organization as it is part of transactions."""
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
    BudgetExceededError,
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
