"""One request: what it sends, and what its answer is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Generic, TypeAlias, TypeVar
from urllib.parse import quote

from prepaid_client.gate import Need
from prepaid_client.operations import Operation

T = TypeVar("T")
Amount: TypeAlias = Decimal | int | float | str
_WITHOUT_BODY = frozenset(["DELETE", "GET"])


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


def request(
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
        body=_given(body or {}) if operation.method not in _WITHOUT_BODY else None,
        idempotency_key=idempotency_key,
        need=need,
        opens=opens,
    )


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def exact(amount: Amount) -> Decimal:
    """Return an amount as it is written: 0.1 is one tenth, also as a float."""
    return Decimal(str(amount))


def time_text(moment: datetime | None) -> str | None:
    """Return a moment as text. Raises ValueError where it has no time zone."""
    if moment is not None and moment.tzinfo is None:
        raise ValueError(f"{moment} needs a time zone")
    return None if moment is None else moment.isoformat()


def exact_all(measures: Mapping[str, Amount] | None) -> dict[str, Decimal] | None:
    """Return measures with exact quantities."""
    return None if measures is None else {name: exact(value) for name, value in measures.items()}
