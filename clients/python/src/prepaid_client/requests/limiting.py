"""Budgets of what is used, and alerts of a balance."""

from __future__ import annotations

from collections.abc import Sequence

from prepaid_client import operations, types
from prepaid_client.requests.request import Amount, Request, exact, request


def create_budget(
    organization: str,
    *,
    subject_kind: types.SubjectKind,
    subject: str,
    window: types.WindowKind,
    limit: Amount,
    action: types.BudgetAction | None = None,
    thresholds: Sequence[int] | None = None,
    idempotency_key: str | None = None,
) -> Request[types.BudgetResponse]:
    """Limit the credits that a subject uses in a window. Raises AlreadyExists.

    The subject `*` limits each subject by itself. With the action `tell`, what exceeds the limit is
    announced and not refused. `thresholds` are percentages of the limit that are announced.
    """
    return request(
        operations.CREATE_BUDGET,
        {"organizationId": organization},
        body={
            "subjectKind": subject_kind,
            "subject": subject,
            "window": window,
            "limit": exact(limit),
            "action": action,
            "thresholds": thresholds,
        },
        idempotency_key=idempotency_key,
    )


def budgets(
    organization: str, *, limit: int | None = None, cursor: str | None = None
) -> Request[types.BudgetPage]:
    """Return a page of budgets with what is used, held and left of each, newest first."""
    query = {"limit": limit, "cursor": cursor}
    return request(operations.LIST_BUDGETS, {"organizationId": organization}, query=query)


def budget(organization: str, budget_id: str) -> Request[types.BudgetResponse]:
    """Return a budget with what is used, held and left of it. Raises NotFound."""
    return request(operations.GET_BUDGET, {"organizationId": organization, "id": budget_id})


def change_budget(
    organization: str,
    budget_id: str,
    *,
    limit: Amount | None = None,
    action: types.BudgetAction | None = None,
    thresholds: Sequence[int] | None = None,
    idempotency_key: str | None = None,
) -> Request[types.BudgetResponse]:
    """Change limit, action or thresholds of a budget; what is None stays. Raises NotFound."""
    return request(
        operations.CHANGE_BUDGET,
        {"organizationId": organization, "id": budget_id},
        body={
            "limit": None if limit is None else exact(limit),
            "action": action,
            "thresholds": thresholds,
        },
        idempotency_key=idempotency_key,
    )


def remove_budget(
    organization: str, budget_id: str, *, idempotency_key: str | None = None
) -> Request[types.RemovedBudgetResponse]:
    """Remove a budget: it limits nothing any more. Raises NotFound."""
    of = {"organizationId": organization, "id": budget_id}
    return request(operations.REMOVE_BUDGET, of, idempotency_key=idempotency_key)


def alerts(organization: str) -> Request[types.AlertsResponse]:
    """Return the thresholds of a balance at which `credits.low` is sent."""
    return request(operations.GET_ALERTS, {"organizationId": organization})


def set_alerts(
    organization: str, thresholds: Sequence[Amount], *, idempotency_key: str | None = None
) -> Request[types.AlertsResponse]:
    """Set all thresholds of a balance, in credits; none ends the alerts."""
    return request(
        operations.PUT_ALERTS,
        {"organizationId": organization},
        body={"thresholds": [exact(threshold) for threshold in thresholds]},
        idempotency_key=idempotency_key,
    )
