"""Organizations, how they get credits, and the prices of usage."""

from __future__ import annotations

from datetime import datetime

from prepaid_client import operations, types
from prepaid_client.requests.request import Amount, Request, exact, request, time_text

_CREDIT_DECIMILLICENTS = 10_000_000


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
    return request(operations.CREATE_ORGANIZATION, body=body, idempotency_key=idempotency_key)


def organization(organization: str) -> Request[types.OrganizationResponse]:
    """Return an organization by its id or slug. Raises NotFound."""
    return request(operations.GET_ORGANIZATION, {"organizationId": organization})


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
    return request(operations.CREATE_CHECKOUT, body=body, idempotency_key=idempotency_key)


def complete_checkout(
    organization: str, checkout_id: str | None = None, *, idempotency_key: str | None = None
) -> Request[types.CompletedPurchaseResponse]:
    """Pay an open checkout with Stripe's test card. For tests: a live key refuses it."""
    return request(
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
    return request(operations.CREATE_PORTAL_SESSION, body=body, idempotency_key=idempotency_key)


def top_up(
    organization: str, amount: Amount, *, idempotency_key: str | None = None
) -> Request[types.AttemptResponse]:
    """Buy credits with the payment method on file. Raises PaymentRequired with what to do."""
    return request(
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
    return request(operations.CHANGE_BILLING, of, body=body, idempotency_key=idempotency_key)


def _decimillicents(amount: Amount) -> int:
    units = exact(amount) * _CREDIT_DECIMILLICENTS
    if units != units.to_integral_value():
        raise ValueError(f"{amount} has more than 7 decimals")
    return int(units)


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
        "expiresAt": time_text(expires_at),
        "note": note,
        "transactionId": transaction_id,
    }
    return request(
        operations.CREATE_GRANT,
        {"organizationId": organization},
        body=body,
        idempotency_key=idempotency_key,
        opens=organization,
    )


def create_price_book(
    book: types.PriceBookRequest, *, idempotency_key: str | None = None
) -> Request[types.PriceBookVersion]:
    """Store a price book as the next version of its name; it is not active yet. Raises Invalid."""
    return request(operations.CREATE_PRICE_BOOK, body=book, idempotency_key=idempotency_key)


def activate_price_book(
    name: str,
    version: int,
    *,
    active_from: datetime | None = None,
    idempotency_key: str | None = None,
) -> Request[types.ActivationResponse]:
    """Make a version valid from a moment on, or from the earliest that is possible."""
    return request(
        operations.ACTIVATE_PRICE_BOOK,
        {"name": name, "version": str(version)},
        body={"activeFrom": time_text(active_from)},
        idempotency_key=idempotency_key,
    )
