"""What each method sends: shared by the sync and the async client."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Generic, Literal, TypeAlias, TypeVar
from urllib.parse import quote

from prepaid_client import operations, types
from prepaid_client.gate import Need
from prepaid_client.operations import Operation

T = TypeVar("T")
Amount: TypeAlias = Decimal | int | float | str
_CREDIT_DECIMILLICENTS = 10_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Request(Generic[T]):
    """One request, whose answer is a T. `opens`: it may raise the organization's balance."""

    operation: Operation
    path: str
    query: Mapping[str, Any]
    body: Mapping[str, Any] | None
    idempotency_key: str | None
    need: Need | None = None
    opens: str | None = None


def _request(
    operation: Operation,
    of: Mapping[str, str] | None = None,
    *,
    query: Mapping[str, Any] | None = None,
    body: Mapping[str, Any] | None = None,
    idempotency_key: str | None = None,
    need: Need | None = None,
    opens: str | None = None,
) -> Request[Any]:
    """Return a request without the fields that are None. `of` has the parameters of the path."""
    path = operation.path
    for name, value in (of or {}).items():
        path = path.replace(f"{{{name}}}", quote(value, safe=""))
    return Request(
        operation=operation,
        path=path,
        query=_given(query or {}),
        body=_given(body or {}) if operation.is_write else None,
        idempotency_key=idempotency_key,
        need=need,
        opens=opens,
    )


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def exact(amount: Amount) -> Decimal:
    """Return an amount as it is written: 0.1 is one tenth, also as a float."""
    return Decimal(str(amount))


def _time(moment: datetime | None) -> str | None:
    if moment is not None and moment.tzinfo is None:
        raise ValueError(f"{moment} needs a time zone")
    return None if moment is None else moment.isoformat()


def create_organization(
    slug: str,
    name: str,
    *,
    currency: str | None = None,
    email: str | None = None,
    id: str | None = None,  # noqa: A002 - the field's name
    idempotency_key: str | None = None,
) -> Request[types.OrganizationResponse]:
    """Create an organization, a customer who owns credits. Raises AlreadyExists."""
    body = {"slug": slug, "name": name, "currency": currency, "email": email, "id": id}
    return _request(operations.CREATE_ORGANIZATION, body=body, idempotency_key=idempotency_key)


def organization(organization: str) -> Request[types.OrganizationResponse]:
    """Return an organization by its id or slug. Raises NotFound."""
    return _request(operations.GET_ORGANIZATION, {"organizationId": organization})


def checkout(
    organization: str,
    amount: Amount,
    *,
    success_url: str,
    cancel_url: str,
    idempotency_key: str | None = None,
) -> Request[types.StripePageResponse]:
    """Open a page at Stripe that sells so many credits; redirect the browser to its `url`."""
    body = {
        "organizationId": organization,
        "amount": exact(amount),
        "successUrl": success_url,
        "cancelUrl": cancel_url,
    }
    return _request(operations.CREATE_CHECKOUT, body=body, idempotency_key=idempotency_key)


def complete_checkout(
    organization: str, checkout_id: str | None = None, *, idempotency_key: str | None = None
) -> Request[types.CompletedPurchaseResponse]:
    """Pay an open checkout with Stripe's test card. For tests: a live key refuses it."""
    return _request(
        operations.COMPLETE_LOCAL,
        {"organizationId": organization},
        body={"checkoutId": checkout_id},
        idempotency_key=idempotency_key,
        opens=organization,
    )


def portal(
    organization: str, *, return_url: str, idempotency_key: str | None = None
) -> Request[types.StripePageResponse]:
    """Open Stripe's page on which a customer manages cards and sees invoices."""
    body = {"organizationId": organization, "returnUrl": return_url}
    return _request(operations.CREATE_PORTAL_SESSION, body=body, idempotency_key=idempotency_key)


def top_up(
    organization: str, amount: Amount, *, idempotency_key: str | None = None
) -> Request[types.AttemptResponse]:
    """Buy credits with the payment method on file. Raises PaymentRequired with what to do."""
    return _request(
        operations.TOP_UP,
        {"organizationId": organization},
        body={"amount": exact(amount)},
        idempotency_key=idempotency_key,
        opens=organization,
    )


def auto_recharge(
    organization: str,
    *,
    threshold: Amount,
    amount: Amount,
    consented_by: str,
    monthly_cap: Amount | None = None,
    idempotency_key: str | None = None,
) -> Request[types.BillingResponse]:
    """Turn auto-recharge on: below `threshold` credits, charge for `amount`.

    `consented_by` names the person who agreed to be charged while absent.
    """
    body = {
        "autoRechargeEnabled": True,
        "autoRechargeThresholdDecimillicents": _decimillicents(threshold),
        "autoRechargeAmountDecimillicents": _decimillicents(amount),
        "autoRechargeMonthlyCapDecimillicents": (
            None if monthly_cap is None else _decimillicents(monthly_cap)
        ),
        "consentedBy": consented_by,
    }
    of = {"organizationId": organization}
    return _request(operations.CHANGE_BILLING, of, body=body, idempotency_key=idempotency_key)


def _decimillicents(amount: Amount) -> int:
    units = exact(amount) * _CREDIT_DECIMILLICENTS
    if units != units.to_integral_value():
        raise ValueError(f"{amount} has more than 7 decimals")
    return int(units)


def debit(
    organization: str,
    amount: Amount,
    *,
    transaction_id: str | None = None,
    user_id: str | None = None,
    category: str | None = None,
    quantity: Amount | None = None,
    note: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    on_insufficient: Literal["refuse", "overdraft"] | None = None,
    effective_on: datetime | None = None,
    idempotency_key: str | None = None,
) -> Request[types.TransactionResponse]:
    """Use so many credits (a positive amount). Raises Insufficient.

    `transaction_id` is your own id of the usage, and is posted once. Post usage that has already
    happened with `on_insufficient="overdraft"`.
    """
    used = exact(amount)
    if not used > 0:
        raise ValueError(f"a debit of {amount} is not positive")
    body = {
        "organizationId": organization,
        "amount": -used,
        "transactionId": transaction_id,
        "userId": user_id,
        "category": category,
        "quantity": None if quantity is None else exact(quantity),
        "note": note,
        "metadata": metadata,
        "onInsufficient": on_insufficient,
        "effectiveOn": _time(effective_on),
    }
    need = None if on_insufficient == "overdraft" else Need(organization, used)
    return _request(
        operations.CREATE_TRANSACTION, body=body, idempotency_key=idempotency_key, need=need
    )


def grant(
    organization: str,
    amount: Amount,
    *,
    promotional: bool | None = None,
    priority: int | None = None,
    expires_at: datetime | None = None,
    note: str | None = None,
    transaction_id: str | None = None,
    idempotency_key: str | None = None,
) -> Request[types.GrantResponse]:
    """Give credits, with a priority and an expiry. Requires the scope `grants`."""
    body = {
        "amount": exact(amount),
        "promotional": promotional,
        "priority": priority,
        "expiresAt": _time(expires_at),
        "note": note,
        "transactionId": transaction_id,
    }
    return _request(
        operations.CREATE_GRANT,
        {"organizationId": organization},
        body=body,
        idempotency_key=idempotency_key,
        opens=organization,
    )


def hold(
    organization: str,
    amount: Amount,
    *,
    expires_in_seconds: int | None = None,
    transaction_id: str | None = None,
    note: str | None = None,
    idempotency_key: str | None = None,
) -> Request[types.HoldResponse]:
    """Reserve credits, so that no other request can use them. Raises Insufficient."""
    reserved = exact(amount)
    body = {
        "amount": reserved,
        "expiresInSeconds": expires_in_seconds,
        "transactionId": transaction_id,
        "note": note,
    }
    return _request(
        operations.CREATE_HOLD,
        {"organizationId": organization},
        body=body,
        idempotency_key=idempotency_key,
        need=Need(organization, reserved),
    )


def get_hold(organization: str, hold_id: str) -> Request[types.HoldResponse]:
    """Return a hold. Raises NotFound."""
    return _request(operations.GET_HOLD, {"organizationId": organization, "id": hold_id})


def capture(
    organization: str,
    hold_id: str,
    amount: Amount,
    *,
    allow_exceed: bool | None = None,
    category: str | None = None,
    idempotency_key: str | None = None,
) -> Request[types.CaptureResponse]:
    """Use held credits; the rest of the hold becomes available again. Raises Conflict."""
    body = {"amount": exact(amount), "allowExceed": allow_exceed, "category": category}
    of = {"organizationId": organization, "id": hold_id}
    return _request(operations.CAPTURE_HOLD, of, body=body, idempotency_key=idempotency_key)


def release(
    organization: str, hold_id: str, *, idempotency_key: str | None = None
) -> Request[types.HoldResponse]:
    """Release a hold without using credits. Raises Conflict where it was captured."""
    of = {"organizationId": organization, "id": hold_id}
    return _request(operations.RELEASE_HOLD, of, idempotency_key=idempotency_key)


def balance(organization: str) -> Request[types.CreditsResponse]:
    """Return the balance, the held and the available credits."""
    return _request(operations.GET_CREDITS, {"organizationId": organization}, opens=organization)


def history(
    organization: str, *, limit: int | None = None, cursor: str | None = None
) -> Request[types.HistoryPage]:
    """Return a page of ledger rows, newest first."""
    query = {"limit": limit, "cursor": cursor}
    return _request(operations.LIST_HISTORY, {"organizationId": organization}, query=query)


def explain(organization: str, transaction_id: str) -> Request[types.ExplanationResponse]:
    """Return which credits paid for a debit, or which debits a credit paid for."""
    return _request(operations.EXPLAIN, {"organizationId": organization, "id": transaction_id})


def transactions(
    organization: str,
    *,
    of_types: Sequence[types.OrgCreditType] | None = None,
    limit: int | None = None,
) -> Request[list[types.OrgCreditTransaction]]:
    """Return recent transactions, newest first, with `has_receipt`."""
    query = {"transaction_type": of_types, "limit": limit}
    return _request(operations.LIST_TRANSACTIONS, {"slug": organization}, query=query)


def receipt(organization: str, transaction_id: str) -> Request[types.ReceiptResponse]:
    """Return the address of Stripe's receipt or invoice for a transaction. Raises NotFound."""
    return _request(operations.GET_RECEIPT, {"slug": organization, "id": transaction_id})
