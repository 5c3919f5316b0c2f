"""Client of Prepaid: debits, holds and purchases of prepaid credits."""

from prepaid_client.client import AsyncClient, Client
from prepaid_client.errors import (
    AlreadyExists,
    AnswerError,
    BudgetExceeded,
    Conflict,
    Forbidden,
    IdempotencyConflict,
    Insufficient,
    Invalid,
    NoAnswer,
    NotFound,
    PaymentRequired,
    PrepaidError,
    RateLimited,
    ServerError,
    StripeFailed,
    Unauthenticated,
)
from prepaid_client.retrying import Retries

__all__ = [
    "AlreadyExists",
    "AnswerError",
    "AsyncClient",
    "BudgetExceeded",
    "Client",
    "Conflict",
    "Forbidden",
    "IdempotencyConflict",
    "Insufficient",
    "Invalid",
    "NoAnswer",
    "NotFound",
    "PaymentRequired",
    "PrepaidError",
    "RateLimited",
    "Retries",
    "ServerError",
    "StripeFailed",
    "Unauthenticated",
]
