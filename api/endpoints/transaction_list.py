"""The client shape `transaction_list`: pages by number, filters, and one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any
from urllib.parse import urlencode
from uuid import UUID

import msgspec

from api.framework import fields
from api.framework.fields import Number
from api.framework.operation import Call, Operation, Reply, not_found
from api.transactions import list_filters, metadata
from shared.access.model import Scope
from shared.errors import NotFoundError, ValidationError
from shared.ids import parse_id, transaction_public_id
from shared.ledger import listing
from shared.ledger.filters import Filter, Kind, Operator
from shared.ledger.model import TransactionType

PATH = "/api/credit-transactions/list/"
PAGE_SIZE_DEFAULT = 100
PAGE_SIZE_MAX = 1_000
PAGE_MAX = 1_000_000
LIST_SECONDS_MAX = 20.0


class ListQuery(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The page number and the page size."""

    page: Annotated[int, msgspec.Meta(ge=1, le=PAGE_MAX)] = 1
    page_size: Annotated[int, msgspec.Meta(ge=1, le=PAGE_SIZE_MAX)] = PAGE_SIZE_DEFAULT


class FilteredRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Conditions by field, combined with AND. A metadata field is `metadata__` and its name."""

    filters: dict[str, list_filters.Condition] = {}


class ListedTransaction(msgspec.Struct, kw_only=True):
    """A transaction. `expires_at` is when the credits that it added expire."""

    id: str
    organization_subscription: int
    unique_organization_id: UUID
    amount: Number
    transaction_type: TransactionType
    created_at: datetime
    expires_at: datetime | None
    description: str | None
    stripe_payment_intent_id: str | None
    metadata: dict[str, Any]


class TransactionPage(msgspec.Struct, kw_only=True):
    """A page, newest first. `next` and `previous` are the addresses of adjacent pages."""

    count: int
    next: str | None
    previous: str | None
    results: list[ListedTransaction]


async def list_(call: Call) -> Reply:
    """List transactions by page number, newest first.

    A key that is bound to an organization lists that one, another key lists all. Every page of one
    organization costs the same; over all organizations, later pages cost slightly more.
    """
    return await _page(call, call.caller.organization_id, ())


async def search(call: Call) -> Reply:
    """List the transactions that match every filter, by page number, newest first.

    Operators: equality (`""`), `in` and `not` for every field; `lt`, `lte`, `gt`, `gte` for numbers
    and times; `iexact`, `contains`, `icontains`, `startswith`, `endswith` for text; `isnull`.
    Metadata is compared as text, or as numbers if the value is a number. The count reads every
    matching row: filter by organization and `created_at` on a large ledger.
    """
    body: FilteredRequest = call.body
    filters: Sequence[Filter] = list_filters.parse(body.filters)
    own = call.caller.organization_id
    if own is None:
        own, filters = _one_organization(filters)
    return await _page(call, own, filters)


async def retrieve(call: Call) -> Reply:
    """Return one transaction."""
    transaction_id = parse_id(call.path["id"])
    row = None
    if transaction_id is not None:
        async with call.api.pool.acquire() as connection:
            row = await listing.find(connection, transaction_id)
    if row is None or not call.may_see(row["organization_id"]):
        raise not_found("transaction", call.path["id"])
    return Reply(_response(row))


def _one_organization(filters: Sequence[Filter]) -> tuple[UUID | None, Sequence[Filter]]:
    """Split off a filter by one organization, whose pages cost less than those of all."""
    for candidate in filters:
        named = candidate.field == "organization_id" and candidate.kind is Kind.ID
        if named and candidate.operator is Operator.EQUAL and len(candidate.values) == 1:
            (organization_id,) = candidate.values
            assert isinstance(organization_id, UUID)  # noqa: S101 - its kind says so
            return organization_id, [other for other in filters if other is not candidate]
    return None, filters


async def _page(call: Call, organization_id: UUID | None, filters: Sequence[Filter]) -> Reply:
    query: ListQuery = call.query
    offset = (query.page - 1) * query.page_size
    may_be_long = bool(filters) or organization_id is None
    acquire = call.api.searching if may_be_long else call.api.pool.acquire
    async with acquire() as connection:
        listed = await listing.list_page(
            connection, organization_id, filters, offset=offset, limit=query.page_size
        )
    pages = max(1, -(-listed.count // query.page_size))
    before, after = min(query.page - 1, pages), query.page + 1
    return Reply(
        TransactionPage(
            count=listed.count,
            next=_address(call, after) if after <= pages else None,
            previous=_address(call, before) if before >= 1 else None,
            results=[_response(row) for row in listed.rows],
        )
    )


def _address(call: Call, page: int) -> str:
    query = urlencode({"page": page, "page_size": call.query.page_size})
    return f"{call.api.settings.public_url}{PATH}?{query}"


def _response(row: listing.Row) -> ListedTransaction:
    return ListedTransaction(
        id=transaction_public_id(row["id"]),
        organization_subscription=row["number"],
        unique_organization_id=row["organization_id"],
        amount=fields.format_number(row["amount"]),
        transaction_type=TransactionType(row["type"]),
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        description=row["description"],
        stripe_payment_intent_id=row["payment_intent_id"],
        metadata=metadata.public(row["metadata"]),
    )


_TAG = "Transaction list"
OPERATIONS = (
    # Before the operation with an id in the same place of its path.
    Operation(
        name="listTransactions",
        tag=_TAG,
        method="GET",
        path=PATH,
        handle=list_,
        query=ListQuery,
        response=TransactionPage,
        scope=Scope.READ,
        seconds_max=LIST_SECONDS_MAX,
        cost=10,
    ),
    Operation(
        name="searchTransactions",
        tag=_TAG,
        method="POST",
        path=PATH,
        handle=search,
        query=ListQuery,
        body=FilteredRequest,
        response=TransactionPage,
        scope=Scope.READ,
        errors=(ValidationError,),
        seconds_max=LIST_SECONDS_MAX,
        cost=10,
        example={"filters": {"transaction_type": {"operator": "", "value": ["purchase"]}}},
    ),
    Operation(
        name="getTransaction",
        tag=_TAG,
        method="GET",
        path="/api/credit-transactions/{id}/",
        handle=retrieve,
        response=ListedTransaction,
        scope=Scope.READ,
        errors=(NotFoundError,),
    ),
)
