"""Types of outbound messages: the message, the endpoint, an attempt and its outcome."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec


class MessageType(enum.StrEnum):
    """Types of outbound messages. Client apps match on these strings."""

    CREDITS_LOW = "credits.low"
    CREDITS_RECOVERED = "credits.recovered"
    CREDITS_DEPLETED = "credits.depleted"
    CREDITS_EXPIRING = "credits.expiring"
    BUDGET_REACHED = "budget.reached"
    PURCHASE_COMPLETED = "purchase.completed"
    RECHARGE_SUCCEEDED = "recharge.succeeded"
    RECHARGE_FAILED = "recharge.failed"
    RECHARGE_REQUIRES_ACTION = "recharge.requires_action"
    RECHARGE_SUSPENDED = "recharge.suspended"
    DISPUTE_OPENED = "dispute.opened"
    DISPUTE_CLOSED = "dispute.closed"


class MessageState(enum.StrEnum):
    """States of a message to one endpoint; docs/states.md draws them."""

    PENDING = "pending"
    DELIVERED = "delivered"
    DEAD = "dead"
    DISCARDED = "discarded"


@dataclass(frozen=True, slots=True)
class OutboundMessage:
    """A message to every endpoint that subscribes to its type.

    `id` deduplicates: a message that is announced twice is sent once. `data` is the body without
    the organization's id; amounts in it are Decimals.
    """

    organization_id: UUID
    type: MessageType
    data: Mapping[str, Any]
    id: UUID
    at: datetime


class OutboundEndpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A URL of the customer's app. Without types it receives all. Its secret is not shown again."""

    id: UUID
    url: str
    types: tuple[MessageType, ...]
    description: str | None
    created_at: datetime
    disabled_at: datetime | None
    disabled_reason: str | None


@dataclass(frozen=True, slots=True)
class EndpointWithSecret:
    """An endpoint with its new secret: the only time that the secret is shown."""

    endpoint: OutboundEndpoint
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class MessageKey:
    """The primary key of a row: the message and its endpoint."""

    id: UUID
    endpoint_id: UUID


class MessageFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Messages in one state; of a type, since a moment, to an endpoint, of an organization.

    None for any.
    """

    state: MessageState | None = MessageState.DEAD
    type: MessageType | None = None
    since: datetime | None = None
    endpoint_id: UUID | None = None
    organization_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class ClaimedMessage:
    """A leased message with the inputs of an attempt. `attempts` includes the current one.

    `since` is when its attempts began: its creation, or its last replay.
    """

    key: MessageKey
    type: MessageType
    payload: str
    attempts: int
    since: datetime
    url: str
    secret: str = field(repr=False)
    previous_secret: str | None = field(repr=False)
    previous_secret_until: datetime | None
    endpoint_disabled: bool


@dataclass(frozen=True, slots=True)
class DeliveryResponse:
    """The response to an attempt: an HTTP status, or an error without a response."""

    status: int | None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class DeliveryOutcome:
    """The outcome of an attempt. `available_at`, set only for `pending`, is the next attempt."""

    key: MessageKey
    state: MessageState
    last_status: int | None
    reason: str | None = None
    available_at: datetime | None = None
