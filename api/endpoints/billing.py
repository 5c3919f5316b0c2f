"""An organization's billing settings."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from api.framework import fields
from api.framework.fields import Decimillicents, DecimillicentsOrNull, Name, Request, Response
from api.framework.operation import Call, Operation, Reply, Retry
from shared.access.model import Scope
from shared.errors import ConflictError, PermissionDeniedError, ValidationError
from shared.ledger import store as ledger
from shared.money import plain
from shared.organizations import service as organizations
from shared.recharge import service, store
from shared.recharge.model import RechargeState, Rule, SuspensionReason

if TYPE_CHECKING:
    from shared.db.pool import Connection

PATH = "/v1/organizations/{organizationId}/billing"
NOT_SUBSCRIBED = "inactive"
SUBSCRIBED = frozenset({"active", "trialing", "past_due"})

# The settings that hold the parts of an auto-recharge rule.
NAMES = {
    "threshold": "autoRechargeThresholdDecimillicents",
    "amount": "autoRechargeAmountDecimillicents",
    "target": "autoRechargeTargetDecimillicents",
    "monthly_cap": "autoRechargeMonthlyCapDecimillicents",
    "monthly_count_cap": "autoRechargeMonthlyCountCap",
    "pause_seconds_min": "autoRechargePauseSeconds",
}
_OVERDRAFT = "overdraftLimitDecimillicents"
_LOW_BALANCE = "lowBalanceThresholdDecimillicents"


class BillingResponse(Response):
    """Billing settings. `creditsBalance` is the whole balance, `reservedCredits` the held part."""

    organization_id: UUID
    billing_email: str | None
    stripe_customer_id: str | None
    stripe_subscription_id: str | None
    stripe_payment_method_id: str | None
    credits_balance_decimillicents: Decimillicents
    reserved_credits_decimillicents: Decimillicents
    overdraft_limit_decimillicents: Decimillicents
    low_balance_threshold_decimillicents: DecimillicentsOrNull
    auto_recharge_enabled: bool
    auto_recharge_state: RechargeState
    auto_recharge_state_reason: SuspensionReason | None
    auto_recharge_threshold_decimillicents: DecimillicentsOrNull
    auto_recharge_amount_decimillicents: DecimillicentsOrNull
    auto_recharge_target_decimillicents: DecimillicentsOrNull
    auto_recharge_monthly_cap_decimillicents: DecimillicentsOrNull
    auto_recharge_monthly_count_cap: int | None
    auto_recharge_pause_seconds: int
    is_subscribed: bool
    subscription_status: str
    subscription_plan: str | None
    subscription_started_at: datetime | None
    subscription_ends_at: datetime | None
    subscription_current_period_end: datetime | None


class BillingChange(Request):
    """The settings to change. An absent field keeps its value; null removes it.

    An amount replaces a target, and a target an amount. `autoRechargePauseSeconds` is the minimum
    time between two charges. `lowBalanceThresholdDecimillicents` is the balance below which
    `credits.low` is sent; null means the threshold of auto-recharge while it is on. `consentedBy`
    is the person who agreed to off-session charges, for the audit log. It is required with
    `autoRechargeEnabled: true`; a later change without it keeps the recorded consent.
    """

    billing_email: str | UnsetType | None = UNSET
    auto_recharge_enabled: bool | UnsetType = UNSET
    auto_recharge_threshold_decimillicents: DecimillicentsOrNull | UnsetType = UNSET
    auto_recharge_amount_decimillicents: DecimillicentsOrNull | UnsetType = UNSET
    auto_recharge_target_decimillicents: DecimillicentsOrNull | UnsetType = UNSET
    auto_recharge_monthly_cap_decimillicents: DecimillicentsOrNull | UnsetType = UNSET
    auto_recharge_monthly_count_cap: (
        Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)] | UnsetType | None
    ) = UNSET
    auto_recharge_pause_seconds: Annotated[int, msgspec.Meta(ge=0, le=86_400)] | UnsetType = UNSET
    overdraft_limit_decimillicents: Decimillicents | UnsetType = UNSET
    low_balance_threshold_decimillicents: DecimillicentsOrNull | UnsetType = UNSET
    consented_by: Name | None = None


async def retrieve(call: Call) -> Reply:
    """Return an organization's billing settings."""
    async with call.acquire() as connection:
        return Reply(await billing_response(call, connection))


async def change(call: Call) -> Reply:
    """Change billing settings. Every change is recorded in the audit log.

    `autoRechargeEnabled: true` is the consent to charge the payment method on file off session. It
    requires `consentedBy`, and a threshold with an amount or a target. The rule is validated
    against Stripe's limits and the installation's. A suspension that only a person can end applies
    again when auto-recharge is turned on. Only an admin key may change the overdraft limit.
    """
    body: BillingChange = call.body
    limit = _overdraft(call, body)
    async with call.transaction() as connection:
        await store.lock(connection, call.owner.id)
        if body.billing_email is not UNSET:
            await _change_email(call, connection, body.billing_email)
        await _change_rule(call, connection, body)
        if limit is not None:
            await store.limit_overdraft(connection, call.owner.id, limit)
            await call.record(connection, "billing.overdraft", details={_OVERDRAFT: str(limit)})
        if body.low_balance_threshold_decimillicents is not UNSET:
            raw = body.low_balance_threshold_decimillicents
            await _change_low_balance(call, connection, raw)
        call.api.organizations.forget(call.owner)
        return Reply(await billing_response(call, connection))


async def billing_response(call: Call, connection: Connection) -> BillingResponse:
    """Read the current settings, in the transaction that may have changed them."""
    balance = await ledger.balance(connection, call.owner.id)
    assert balance is not None  # noqa: S101 - every organization has an account
    row = await store.billing(connection, call.owner.id)
    state = RechargeState(row["state"])
    return BillingResponse(
        organization_id=call.owner.id,
        billing_email=row["email"],
        stripe_customer_id=row["stripe_customer_id"],
        stripe_subscription_id=row["subscription_id"],
        stripe_payment_method_id=row["payment_method_id"],
        credits_balance_decimillicents=fields.format_decimillicents(balance.balance),
        reserved_credits_decimillicents=fields.format_decimillicents(balance.held),
        overdraft_limit_decimillicents=fields.format_decimillicents(balance.overdraft_limit),
        low_balance_threshold_decimillicents=fields.format_decimillicents_or_null(
            row["low_balance_threshold"]
        ),
        auto_recharge_enabled=state is not RechargeState.OFF,
        auto_recharge_state=state,
        auto_recharge_state_reason=SuspensionReason(row["reason"]) if row["reason"] else None,
        auto_recharge_threshold_decimillicents=fields.format_decimillicents_or_null(
            row["threshold"]
        ),
        auto_recharge_amount_decimillicents=fields.format_decimillicents_or_null(row["amount"]),
        auto_recharge_target_decimillicents=fields.format_decimillicents_or_null(row["target"]),
        auto_recharge_monthly_cap_decimillicents=fields.format_decimillicents_or_null(
            row["monthly_cap"]
        ),
        auto_recharge_monthly_count_cap=row["monthly_count_cap"],
        auto_recharge_pause_seconds=row["pause_seconds_min"],
        is_subscribed=row["subscription_status"] in SUBSCRIBED,
        subscription_status=row["subscription_status"] or NOT_SUBSCRIBED,
        subscription_plan=row["subscription_plan"],
        subscription_started_at=row["subscription_started_at"],
        subscription_ends_at=row["subscription_ends_at"],
        subscription_current_period_end=row["subscription_current_period_end"],
    )


def _overdraft(call: Call, body: BillingChange) -> Decimal | None:
    if body.overdraft_limit_decimillicents is UNSET:
        return None
    call.require(Scope.ADMIN, "A change of the overdraft limit")
    limit = fields.parse_decimillicents(body.overdraft_limit_decimillicents, "body", _OVERDRAFT)
    if limit < 0:
        raise fields.invalid(("body", _OVERDRAFT), "must not be negative")
    return limit


async def _change_low_balance(call: Call, connection: Connection, raw: msgspec.Raw) -> None:
    threshold = fields.parse_decimillicents_or_none(raw, "body", _LOW_BALANCE)
    if threshold is not None and threshold < 0:
        raise fields.invalid(("body", _LOW_BALANCE), "must not be negative")
    await store.set_low_balance_threshold(connection, call.owner.id, threshold)
    text = None if threshold is None else plain(threshold)
    await call.record(connection, "billing.low_balance", details={_LOW_BALANCE: text})


async def _change_email(call: Call, connection: Connection, email: str | None) -> None:
    try:
        await organizations.change(connection, call.owner, email=email, clear_email=email is None)
    except ValidationError as error:
        raise _renamed(error, {"email": "billingEmail"}) from None
    await call.record(connection, "billing.email", details={"billingEmail": email})


async def _change_rule(call: Call, connection: Connection, body: BillingChange) -> None:
    """Save the new rule, or turn it off, in the order in which the audit log records it."""
    changes = _rule_changes(body)
    enabled = body.auto_recharge_enabled
    if not changes and enabled is UNSET:
        return
    rows = await store.settings(connection, organization_id=call.owner.id)
    was_on = bool(rows) and rows[0].state is not RechargeState.OFF
    on = was_on if enabled is UNSET else enabled
    if changes or on:
        rule = _merged(rows[0].rule if rows else Rule(), changes)
        try:
            await service.configure(
                connection,
                call.owner.id,
                rule,
                currency=call.owner.currency,
                credits_per_unit=call.api.settings.credits_per_unit,
                units_max=call.api.settings.purchase_max,
                consented_by=body.consented_by if on else None,
                actor=call.actor,
                now=call.now,
                on=on,
                keep_consent=enabled is UNSET,
            )
        except ValidationError as error:
            raise _renamed(error, NAMES) from None
    if was_on and not on:
        await service.turn_off(
            connection, call.owner.id, actor=call.actor, reason="billing settings"
        )


def _rule_changes(body: BillingChange) -> dict[str, Any]:
    """Return the parts of the rule to change, in credits."""
    amounts = {
        "threshold": body.auto_recharge_threshold_decimillicents,
        "amount": body.auto_recharge_amount_decimillicents,
        "target": body.auto_recharge_target_decimillicents,
        "monthly_cap": body.auto_recharge_monthly_cap_decimillicents,
    }
    both = [
        raw for raw in (amounts["amount"], amounts["target"]) if raw not in (UNSET, fields.NULL)
    ]
    if len(both) > 1:
        raise fields.invalid(("body", NAMES["target"]), "set an amount or a target, not both")
    changes: dict[str, Any] = {
        name: fields.parse_decimillicents_or_none(raw, "body", NAMES[name])
        for name, raw in amounts.items()
        if raw is not UNSET
    }
    integers = {
        "monthly_count_cap": body.auto_recharge_monthly_count_cap,
        "pause_seconds_min": body.auto_recharge_pause_seconds,
    }
    return changes | {name: value for name, value in integers.items() if value is not UNSET}


def _merged(rule: Rule, changes: dict[str, Any]) -> Rule:
    for one, other in (("amount", "target"), ("target", "amount")):
        if changes.get(one) is not None and other not in changes:
            changes = changes | {other: None}
    if "threshold" in changes and changes["threshold"] is None:
        changes = {"amount": None, "target": None} | changes
    return replace(rule, **changes)


def _renamed(error: ValidationError, names: dict[str, str]) -> ValidationError:
    """Return the same error with the field names of the request."""
    field_errors = error.errors or []
    for field in field_errors:
        field["loc"] = [names.get(str(part), part) for part in field["loc"]]
    detail = "; ".join(f"{field['loc'][-1]}: {field['msg']}" for field in field_errors)
    return ValidationError(detail or error.detail, errors=field_errors)


_TAG = "Billing settings"
OPERATIONS = (
    Operation(
        name="getBilling",
        tag=_TAG,
        method="GET",
        path=PATH,
        handle=retrieve,
        response=BillingResponse,
        scope=Scope.READ,
        or_scopes=(Scope.BILLING,),
    ),
    Operation(
        name="changeBilling",
        tag=_TAG,
        method="PATCH",
        path=PATH,
        handle=change,
        body=BillingChange,
        response=BillingResponse,
        scope=Scope.BILLING,
        retry=Retry.STORED,
        errors=(ValidationError, PermissionDeniedError, ConflictError),
        example={
            "autoRechargeEnabled": True,
            "autoRechargeThresholdDecimillicents": 100_000_000,
            "autoRechargeAmountDecimillicents": 250_000_000,
            "autoRechargeMonthlyCapDecimillicents": 5_000_000_000,
            "consentedBy": "jo@acme.example",
        },
    ),
)
