"""The client and the API's document agree: types, paths, and what each method sends."""

from __future__ import annotations

import importlib.util
import inspect
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from prepaid_client import AsyncClient, Client, exact_json, operations, requests
from prepaid_client.operations import OPERATIONS
from prepaid_client.requests import Request

from tests.fixtures.api import document

CLIENT = Path(__file__).parents[2] / "clients/python"
# What each parameter is given, by its name.
ARGUMENTS: dict[str, Any] = {
    "action": "tell",
    "active_from": datetime(2999, 1, 1, tzinfo=UTC),
    "amount": "12.5",
    "book": {"name": "default", "prices": [{"models": ["m-1"], "measures": {"images": "0.04"}}]},
    "cancel_url": "https://app.example.com/credits",
    "dimensions": ["model", "user"],
    "effective_on": datetime(2026, 11, 1, tzinfo=UTC),
    "end": datetime(2026, 11, 3, tzinfo=UTC),
    "expires_at": datetime(2999, 1, 1, tzinfo=UTC),
    "expires_in_seconds": 60,
    "final": False,
    "group_by": ["model", "day"],
    "id": "01234567-89ab-cdef-0123-456789abcdef",
    "limit": 10,
    "measures": {"input_tokens": 1200, "seconds": Decimal("0.5")},
    "metadata": {"model": "m-1", "ratio": Decimal("0.1")},
    "month": "2026-11",
    "monthly_cap": 500,
    "allow_exceed": True,
    "of_types": ["purchase", "usage"],
    "on_insufficient": "overdraft",
    "priority": 10,
    "promotional": True,
    "quantity": 1200,
    "return_url": "https://app.example.com/credits",
    "start": datetime(2026, 11, 1, tzinfo=UTC),
    "subject_kind": "user",
    "success_url": "https://app.example.com/thanks",
    "tags": ["beta", "team:search"],
    "threshold": Decimal("0.5"),
    "thresholds": [50, 80],
    "transactions": [{"amount": Decimal("-0.5"), "transactionId": "call-1"}, {"amount": 2}],
    "usage": [{"model": "m-1", "measures": {"input_tokens": 1200}, "transactionId": "call-1"}],
    "version": 3,
    "window": "day",
}
BUILDERS = [
    build
    for name, build in inspect.getmembers(requests, inspect.isfunction)
    if not name.startswith("exact")
]


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_types", CLIENT / "generate_types.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def built(build: Callable[..., Request[Any]], *, fully: bool) -> Request[Any]:
    """Call a builder with all of its parameters, or with those that it requires."""
    parameters = inspect.signature(build).parameters.values()
    return build(
        **{
            parameter.name: ARGUMENTS.get(parameter.name, f"a-{parameter.name}")
            for parameter in parameters
            if fully or parameter.default is inspect.Parameter.empty
        }
    )


def path_item(request: Request[Any]) -> dict[str, Any]:
    found: dict[str, Any] = document()["paths"][request.operation.path][
        request.operation.method.lower()
    ]
    return found


def test_the_types_are_those_of_the_document() -> None:
    written = (CLIENT / "src/prepaid_client/types.py").read_text(encoding="utf-8")
    assert generator().generate(document()) == written, "run `make client-types`"


def test_the_operations_are_those_of_the_document() -> None:
    for operation in OPERATIONS:
        item = document()["paths"][operation.path][operation.method.lower()]
        assert item["operationId"] == operation.name


def test_every_operation_has_a_method() -> None:
    assert {built(build, fully=False).operation for build in BUILDERS} == set(OPERATIONS)


@pytest.mark.parametrize("fully", [True, False], ids=["fully", "sparsely"])
@pytest.mark.parametrize("build", BUILDERS, ids=lambda build: build.__name__)
def test_every_method_sends_what_the_document_describes(
    build: Callable[..., Request[Any]], fully: bool
) -> None:
    request = built(build, fully=fully)
    assert re.fullmatch(re.sub(r"{\w+}", r"[^/{}]+", request.operation.path), request.path)
    item = path_item(request)
    named = {parameter["name"] for parameter in item["parameters"]}
    assert set(request.query) <= named
    assert ("Idempotency-Key" in named) == request.operation.is_write
    body = item.get("requestBody")
    if body is None:
        assert not request.body
        return
    schema = body["content"]["application/json"]["schema"]
    validator = Draft202012Validator(schema | {"components": document()["components"]})
    sent = json.loads(exact_json.dumps(request.body))
    assert [error.message for error in validator.iter_errors(sent)] == []
    schemas = document()["components"]["schemas"]
    assert set(sent) <= set(schemas[schema["$ref"].rsplit("/", 1)[1]]["properties"])


def test_both_clients_have_a_method_for_each_builder() -> None:
    for client in (Client, AsyncClient):
        for build in BUILDERS:
            method = getattr(client, build.__name__)
            shown = inspect.signature(method).parameters
            assert list(shown) == ["self", *inspect.signature(build).parameters], build.__name__
            assert method.__doc__ == build.__doc__


def test_a_parameter_of_a_path_is_quoted() -> None:
    request = requests.get_hold("a/../b?c", "d#e")
    assert request.path == "/v1/billing/a%2F..%2Fb%3Fc/holds/d%23e"
    assert request.operation is operations.GET_HOLD
