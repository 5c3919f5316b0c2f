"""The client shape `org_credits`: recent transactions of an organization, and their receipts."""

from __future__ import annotations

import enum
import re
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec

from api.framework import cursors, fields
from api.framework.fields import LIMIT_DEFAULT, Limit, Number, NumberOrNull
from api.framework.operation import Call, Operation, Reply, not_found
from api.transactions.type_names import NAMES, USAGE_CATEGORIES, USAGE_TYPES, org_credit_type
from shared.access.model import Scope
from shared.errors import NotFoundError, StripeFailedError, StripeMissingError
from shared.ids import parse_id
from shared.ledger import store
from shared.ledger.model import TransactionType
from shared.money import CREDIT_QUANTUM, plain
from shared.payments import invoice_postings, receipts
from shared.payments import store as payments
from shared.pricing.record import read_record

if TYPE_CHECKING:
    import asyncpg

    from shared.db.pool import Connection

PATH = "/api/v1/org/{slug}/credits/transactions"
STRIPE_SECONDS_MAX = 20.0
_USAGE = NAMES[TransactionType.USAGE].org_credits


class OrgCreditType(enum.StrEnum):
    """The types of this shape: those of the table of type names, and the usage categories."""

    PURCHASE = "purchase"
    AUTO_REFILL = "auto_refill"
    USAGE = "usage"
    INFERENCE = "inference"
    SPAN_INGESTION = "span_ingestion"
    STORAGE = "storage"
    SIGNUP_ALLOCATION = "signup_allocation"
    REFUND = "refund"
    ADMIN_ADJUSTMENT = "admin_adjustment"
    WEB_SEARCH = "web_search"


class TransactionsQuery(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The number of rows, and their types: `transaction_type` may be repeated."""

    limit: Limit = LIMIT_DEFAULT
    transaction_type: list[OrgCreditType] | None = None


class OrgCreditTransaction(msgspec.Struct, kw_only=True):
    """A transaction. Model, tokens and cost are those of its pricing, else of its metadata.

    `inference_cost_usd` of priced usage is before markup and discount; null in other currencies.
    """

    id: UUID
    transaction_type: OrgCreditType
    amount: Number
    description: str | None
    created_at: datetime
    has_receipt: bool
    model: str | None
    input_tokens: int | None
    output_tokens: int | None
    inference_cost_usd: NumberOrNull


class ReceiptResponse(msgspec.Struct, kw_only=True):
    """The address of Stripe's hosted receipt or invoice."""

    url: str


async def list_(call: Call) -> Reply:
    """List an organization's recent transactions, newest first.

    Repeat `transaction_type` to include several types. Searching for a rare usage category reads
    through all usage of the organization.
    """
    query: TransactionsQuery = call.query
    wanted = query.transaction_type
    acquire = call.api.pool.acquire if wanted is None else call.api.searching
    async with acquire() as connection:
        if wanted is None:
            rows = await store.history(
                connection, call.owner.id, before=cursors.SEQ_BEYOND, limit=query.limit
            )
        else:
            rows = await _of_types(connection, call.owner.id, frozenset(wanted), query.limit)
    return Reply([_response(call, row) for row in rows])


async def _of_types(
    connection: Connection, organization_id: UUID, wanted: frozenset[str], limit: int
) -> list[asyncpg.Record]:
    types = [kind for kind, names in NAMES.items() if names.org_credits in wanted - {_USAGE}]
    categories = sorted(wanted & USAGE_CATEGORIES)
    rows: list[asyncpg.Record] = []
    if types:
        rows += await store.recent_of_types(connection, organization_id, types, limit=limit)
    if categories or _USAGE in wanted:
        others = sorted(USAGE_CATEGORIES) if _USAGE in wanted else None
        rows += await store.recent_usage(
            connection, organization_id, categories, others_than=others, limit=limit
        )
    return sorted(rows, key=lambda row: -row["seq"])[:limit]


async def receipt(call: Call) -> Reply:
    """Return the address of Stripe's receipt or invoice for a transaction.

    404 if the transaction has no payment.
    """
    transaction_id = parse_id(call.path["id"])
    row = None
    async with call.api.pool.acquire() as connection:
        if transaction_id is not None:
            row = await store.find(connection, transaction_id)
    if row is None or row["organization_id"] != call.owner.id:
        raise not_found("transaction", call.path["id"])
    try:
        url = await call.api.receipts.find(row["id"], lambda _: _receipt_url(call, row))
    except StripeMissingError:  # it belongs to another Stripe account, or was deleted
        url = None
    if url is None:
        raise NotFoundError("This transaction has no receipt.")
    return Reply(ReceiptResponse(url=url))


async def _receipt_url(call: Call, row: asyncpg.Record) -> str | None:
    invoice_id = _invoice_of(row)
    name: str | None = row["payment_intent_id"]
    if invoice_id is not None:
        account = await _account(call, row)
        call.api.receipts.take(call.caller.limited_as)
        url = await receipts.invoice_url(call.api.receipts.client, invoice_id, account)
        if url is not None or name is None:
            return url
    if name is None:
        return None
    async with call.api.pool.acquire() as connection:
        known = await payments.receipt(connection, name, call.owner.id)
    if known is not None and known["receipt_url"] is not None:
        return str(known["receipt_url"])
    account = await _account(call, row)
    call.api.receipts.take(call.caller.limited_as)
    url = await receipts.receipt_url(call.api.receipts.client, name, account)
    if url is not None:
        async with call.api.pool.acquire() as connection:
            await payments.keep_receipt(connection, name, url)
    return url


async def _account(call: Call, row: asyncpg.Record) -> str:
    """Return the Stripe account of the payment or invoice of a row."""
    name: str | None = row["payment_intent_id"]
    if name is None:
        return call.owner.stripe_account
    async with call.api.pool.acquire() as connection:
        account = await payments.account_of(connection, name)
    return call.owner.stripe_account if account is None else account


def _invoice_of(row: asyncpg.Record) -> str | None:
    of_stripe = row["counterparty"] == "stripe"
    return invoice_postings.invoice_of(row["idempotency_key"]) if of_stripe else None


def _response(call: Call, row: asyncpg.Record) -> OrgCreditTransaction:
    metadata = _inference(call, row) or row["metadata"] or {}
    category = row["category"] if row["type"] in USAGE_TYPES else None
    return OrgCreditTransaction(
        id=row["id"],
        transaction_type=OrgCreditType(org_credit_type(row["type"], category)),
        amount=fields.format_number(row["amount"]),
        description=row["description"],
        created_at=row["created_at"],
        has_receipt=row["payment_intent_id"] is not None or _invoice_of(row) is not None,
        model=_text(metadata.get("model")),
        input_tokens=_count(metadata.get("input_tokens")),
        output_tokens=_count(metadata.get("output_tokens")),
        inference_cost_usd=fields.format_number_or_null(
            _decimal(metadata.get("inference_cost_usd"))
        ),
    )


def _inference(call: Call, row: asyncpg.Record) -> dict[str, Any] | None:
    """Return what the caller's metadata would say of usage that Prepaid priced.

    Its cost is before markup and discount.
    """
    pricing = read_record(row["metadata"])
    if pricing is None:
        return None
    tokens: dict[str, Any] = {
        name: int(pricing.measures[name])
        for name in ("input_tokens", "output_tokens")
        if name in pricing.measures
    }
    cost = None
    if call.owner.currency == "usd":
        units = pricing.subtotal() / call.api.settings.credits_per_unit
        cost = plain(units.quantize(CREDIT_QUANTUM, ROUND_HALF_UP))
    return {"model": pricing.name, "inference_cost_usd": cost, **tokens}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _decimal(value: object) -> Decimal | None:
    """Return a number that an app stored as a number or as text, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    text = str(value)
    if not _NUMBER.fullmatch(text):  # Decimal also takes 1_0, spaces and digits of other scripts
        return None
    number = Decimal(text)
    return number if abs(number.adjusted()) <= _DIGITS_MAX else None


_DIGITS_MAX = 30
_NUMBER = re.compile(r"[+-]?[0-9]{1,400}(?:\.[0-9]{0,400})?(?:[eE][+-]?[0-9]{1,9})?")
OPERATIONS = (
    Operation(
        name="getTransactionReceipt",
        tag="Receipts",
        method="GET",
        path=f"{PATH}/{{id}}/receipt",
        handle=receipt,
        response=ReceiptResponse,
        scope=Scope.READ,
        errors=(NotFoundError, StripeFailedError),
        seconds_max=STRIPE_SECONDS_MAX,
        cost=10,
    ),
    Operation(
        name="listOrganizationTransactions",
        tag="Organization transactions",
        method="GET",
        path=PATH,
        handle=list_,
        query=TransactionsQuery,
        response=list[OrgCreditTransaction],
        scope=Scope.READ,
        cost=10,
    ),
)
