"""The one error envelope, as the OpenAPI document describes it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

import msgspec

from api.endpoints.auto_recharge import AttemptResponse
from api.framework import fields
from shared.budgets.model import SubjectKind, WindowKind
from shared.http import envelope


class FieldErrorResponse(msgspec.Struct):
    """A rejected field: its location, the reason, and a machine-readable type."""

    loc: Annotated[list[str | int], msgspec.Meta(max_length=envelope.LOCATION_STEPS_MAX)]
    msg: Annotated[str, msgspec.Meta(max_length=envelope.MESSAGE_LENGTH_MAX)]
    type: str


class NextAction(msgspec.Struct):
    """What the customer can do about a payment that failed, and where."""

    type: str
    url: str | None


class ErrorResponse(msgspec.Struct, omit_defaults=True, rename="camel"):
    """The error envelope. `errors` is set on a 422; the other optional fields on a 402.

    Insufficient credits: `required` is the requested amount, `available` is what a debit may use
    now (the balance minus held credits plus the overdraft limit). `rechargeInProgress`: retry after
    `Retry-After` seconds. Failed payment: `nextAction`, and `attempt` if a charge was attempted.
    A budget: `available` is what is left of it; `limit`, `used` and `held` are those of its subject
    in the current window, which ends at `resetsAt`. Text repeated from the request is truncated and
    then ends with ….
    """

    code: int
    type: str
    detail: Annotated[str, msgspec.Meta(max_length=envelope.DETAIL_LENGTH_MAX)]
    errors: Annotated[list[FieldErrorResponse], msgspec.Meta(max_length=envelope.ERRORS_MAX)] = []
    required: fields.Number | msgspec.UnsetType = msgspec.UNSET
    available: fields.Number | msgspec.UnsetType = msgspec.UNSET
    balance: fields.Number | msgspec.UnsetType = msgspec.UNSET
    held: fields.Number | msgspec.UnsetType = msgspec.UNSET
    recharge_in_progress: bool | msgspec.UnsetType = msgspec.UNSET
    budget_id: UUID | msgspec.UnsetType = msgspec.UNSET
    subject_kind: SubjectKind | msgspec.UnsetType = msgspec.UNSET
    subject: str | msgspec.UnsetType = msgspec.UNSET
    window: WindowKind | msgspec.UnsetType = msgspec.UNSET
    limit: fields.Number | msgspec.UnsetType = msgspec.UNSET
    used: fields.Number | msgspec.UnsetType = msgspec.UNSET
    resets_at: datetime | msgspec.UnsetType | None = msgspec.UNSET
    next_action: NextAction | msgspec.UnsetType = msgspec.UNSET
    attempt: AttemptResponse | msgspec.UnsetType = msgspec.UNSET
