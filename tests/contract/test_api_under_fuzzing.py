"""Thousands of requests made from the document, valid and not: each answer is as it says."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from http import HTTPStatus
from itertools import accumulate
from typing import Any

import hypothesis
import pytest
import requests
import schemathesis
from hypothesis import strategies
from schemathesis import Case, GenerationMode
from schemathesis.checks import CheckFunction, not_a_server_error
from schemathesis.specs.openapi import checks

from api.endpoints import OPERATIONS
from api.framework import edge, openapi
from api.framework.operation import Operation
from tests.fixtures import profile
from tests.fixtures.api import document
from tests.fixtures.operation_requests import check_refused, leaves
from tests.fixtures.operation_tenants import World
from tests.fixtures.operations import name, needs
from tests.fixtures.product import Answer

CASES = profile.cases(quick=1_000, thorough=3_000)
# Beyond those that schemathesis expects: what is wrong in a request may be its version, and what
# its body asks for may be refused before what is wrong elsewhere.
REFUSALS = [400, 401, 402, 403, 404, 409, 415, 422, 426]
CHECKS: list[CheckFunction] = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
]


@cache
def load(*, with_keys: bool) -> Any:
    """Read the document; with keys, the requests bring keys of their own, which do not exist."""
    config = {
        "generation": {"with-security-parameters": with_keys},
        "checks": {"negative_data_rejection": {"expected-statuses": REFUSALS}},
    }
    return schemathesis.openapi.from_dict(document(), config=schemathesis.Config.from_dict(config))


def says_much(operation: Operation) -> bool:
    """Whether its requests hold more than a path."""
    return operation.body is not None or operation.query is not None


def shares() -> dict[str, int]:
    """Return how many of the cases are each operation's: thrice as many where it says much."""
    until = [*accumulate(3 if says_much(o) else 1 for o in OPERATIONS)]
    ends = [CASES * reached // until[-1] for reached in until]
    return {
        o.name: end - start for o, start, end in zip(OPERATIONS, [0, *ends], ends, strict=False)
    }


def cases(
    operation: Operation, known: Sequence[Mapping[str, str]], body: Callable[[], dict[str, Any]]
) -> Any:
    """Return a strategy of requests: most of them about what there is, with the version served."""
    found = load(with_keys=False)[operation.path][operation.method]
    stranger = load(with_keys=True)[operation.path][operation.method]
    positive, negative = GenerationMode.POSITIVE, GenerationMode.NEGATIVE
    served: dict[str, Any] = {"headers": {edge.VERSION_HEADER: edge.API_VERSION}}
    of_what_there_is: list[dict[str, Any]] = [{"path_parameters": dict(path)} for path in known]

    def mended(case: Case[Any]) -> Case[Any]:
        """Have the fields that a valid request needs, beside whatever else it has."""
        if isinstance(case.body, dict):
            case.body = {**case.body, **body()}
        return case

    found_there = [
        strategy
        for there in of_what_there_is
        for strategy in (
            found.as_strategy(positive, **there, **served),
            found.as_strategy(positive, **there, **served).map(mended),
        )
    ]
    wrong_there = [
        strategy
        for there in of_what_there_is
        for strategy in (
            found.as_strategy(negative, **there, **served),
            found.as_strategy(negative, **there, **served).map(mended),
        )
        if says_much(operation)
    ]
    return strategies.one_of(
        *found_there,
        *wrong_there,
        *[found.as_strategy(positive, **served)] * (1 if says_much(operation) else 4),
        found.as_strategy(negative, **served),
        found.as_strategy(negative),
        stranger.as_strategy(negative),
    )


@pytest.mark.parametrize("operation", OPERATIONS, ids=name)
async def test_every_answer_is_one_of_the_documents(world: World, operation: Operation) -> None:
    known = [await parameters(world, operation, named) for named in world.a.names]
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {world.client.key}"
    answered: Counter[int] = Counter()
    before, loop = needs(operation).before, asyncio.get_running_loop()
    checked = [
        check
        for check in CHECKS
        if not (needs(operation).results_apart and check is checks.negative_data_rejection)
    ]

    def body() -> dict[str, Any]:
        return world.body(operation, world.a, world.a.slug)

    @hypothesis.given(cases(operation, known, body))
    @hypothesis.settings(
        max_examples=shares()[operation.name],
        phases=[hypothesis.Phase.generate, hypothesis.Phase.shrink],
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    def ask(case: Case[Any]) -> None:
        if before is not None:
            asyncio.run_coroutine_threadsafe(before(world, world.a), loop).result()
        response = case.call_and_validate(
            base_url=world.client.url, session=session, checks=checked
        )
        answered[response.status_code] += 1
        if response.status_code >= HTTPStatus.BAD_REQUEST:
            answer = Answer(response.status_code, _plain(response.headers), response.content)
            said = {*leaves([case.path_parameters, case.query, case.body]), *case.headers.values()}
            check_refused(answer, *openapi.possible_errors(operation), said=said - {""})

    with session:
        await asyncio.to_thread(ask)
    assert answered.total() == shares()[operation.name]
    if profile.PROFILE == "thorough":  # of few cases, all may be refused
        assert answered[operation.status] > 0


async def parameters(world: World, operation: Operation, named: str) -> dict[str, str]:
    """Return the parameters of a path to something that is there."""
    things = needs(operation).things.items()
    found = {parameter: await world.make(thing, world.a) for parameter, thing in things}
    if operation.organization_parameter:
        found[operation.organization_parameter] = named
    return {**found, **needs(operation).words}


def _plain(headers: Mapping[str, list[str]]) -> Mapping[str, str]:
    """Return headers as the other tests have them."""
    return {header.title(): values[0] for header, values in headers.items()}


def test_the_shares_of_the_operations_are_all_the_cases() -> None:
    assert sum(shares().values()) == CASES
    assert min(shares().values()) > 0
