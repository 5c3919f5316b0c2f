"""/v1/billing/{organizationId}/alerts: the thresholds of a balance."""

from __future__ import annotations

from typing import Annotated

import msgspec

from api.framework import fields
from api.framework.fields import Number, NumberOrNull, Request, Response
from api.framework.operation import Call, Operation, Reply, Retry
from shared.access.model import Scope
from shared.budgets import rules, service
from shared.budgets.store import Alerts
from shared.errors import ValidationError

PATH = "/v1/billing/{organizationId}/alerts"


class AlertsRequest(Request):
    """All thresholds of a balance, in credits; none to end the alerts."""

    thresholds: Annotated[list[Number], msgspec.Meta(max_length=rules.THRESHOLDS_MAX)]


class AlertsResponse(Response):
    """The thresholds of a balance, in ascending order.

    `lowBalanceThreshold` is one threshold more: that of the billing settings, or of auto-recharge.
    """

    thresholds: list[Number]
    low_balance_threshold: NumberOrNull


async def retrieve(call: Call) -> Reply:
    """Return the thresholds of a balance."""
    async with call.api.pool.acquire() as connection:
        return Reply(_response(await service.alerts(connection, call.owner.id)))


async def put(call: Call) -> Reply:
    """Set the thresholds of a balance, with or without auto-recharge.

    `credits.low` is sent once each time that a debit takes the balance below a threshold, and
    `credits.recovered` once it is back, each with its `threshold`. A threshold that is above the
    balance already is announced with the next debit.
    """
    body: AlertsRequest = call.body
    thresholds = [
        fields.parse_number(raw, "body", "thresholds", place)
        for place, raw in enumerate(body.thresholds)
    ]
    async with call.transaction() as connection:
        alerts = await service.set_alerts(connection, call.owner.id, thresholds, actor=call.actor)
    return Reply(_response(alerts))


def _response(alerts: Alerts) -> AlertsResponse:
    return AlertsResponse(
        thresholds=[fields.format_number(threshold) for threshold in alerts.thresholds],
        low_balance_threshold=fields.format_number_or_null(alerts.low_below),
    )


_TAG = "Budgets and alerts"
OPERATIONS = (
    Operation(
        name="getAlerts",
        tag=_TAG,
        method="GET",
        path=PATH,
        handle=retrieve,
        response=AlertsResponse,
        scope=Scope.READ,
        or_scopes=(Scope.BILLING,),
    ),
    Operation(
        name="putAlerts",
        tag=_TAG,
        method="PUT",
        path=PATH,
        handle=put,
        body=AlertsRequest,
        response=AlertsResponse,
        scope=Scope.BILLING,
        retry=Retry.STORED,
        errors=(ValidationError,),
        example={"thresholds": [10, 50]},
    ),
)
