"""The words of outbound messages: what the customer's app is told, where, and what became of it."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec


class MessageType(enum.StrEnum):
    """What a message tells of. Client apps match on these."""

    CREDITS_LOW = "credits.low"
    CREDITS_RECOVERED = "credits.recovered"
    CREDITS_DEPLETED = "credits.depleted"
    CREDITS_EXPIRING = "credits.expiring"
    PURCHASE_COMPLETED = "purchase.completed"
    RECHARGE_SUCCEEDED = "recharge.succeeded"
    RECHARGE_FAILED = "recharge.failed"
    RECHARGE_REQUIRES_ACTION = "recharge.requires_action"
    RECHARGE_SUSPENDED = "recharge.suspended"
    DISPUTE_OPENED = "dispute.opened"
    DISPUTE_CLOSED = "dispute.closed"


class MessageState(enum.StrEnum):
    """The life of a message to one endpoint; docs/states.md draws it."""

    PENDING = "pending"
    DELIVERED = "delivered"
    DEAD = "dead"
    DISCARDED = "discarded"


@dataclass(frozen=True, slots=True)
class Message:
    """Something that happened, on its way out.

    `id` makes it one message: announced twice, it is sent once. `data` is what the receiver reads
    besides the organization's id; amounts in it are Decimals.
    """

    organization_id: UUID
    type: MessageType
    data: Mapping[str, Any]
    id: UUID
    at: datetime


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """An address of the customer's app. No types: it wants all. Its secret is not shown again."""

    id: UUID
    url: str
    types: tuple[MessageType, ...]
    description: str | None
    created_at: datetime
    disabled_at: datetime | None
    disabled_reason: str | None


@dataclass(frozen=True, slots=True)
class NewSecret:
    """An endpoint with a secret that was just made: the only time that it is shown."""

    endpoint: Endpoint
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class MessageKey:
    """What makes a row one: the message and the endpoint that it goes to."""

    id: UUID
    endpoint_id: UUID


@dataclass(frozen=True, slots=True)
class ClaimedMessage:
    """A message under a lease, with what sending it takes. `attempts` counts this one.

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
class Answer:
    """What an attempt was answered: a status, or an error where there was no answer."""

    status: int | None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Settlement:
    """What an attempt came to. `available_at` is set for `pending` alone: when to try again."""

    key: MessageKey
    state: MessageState
    last_status: int | None
    reason: str | None = None
    available_at: datetime | None = None
