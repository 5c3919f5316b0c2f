"""What a request that fails leaves in the logs: our own failures with their trace."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from api.framework import edge
from api.framework.operation import Call, Operation, Reply
from shared.access.model import Scope
from shared.errors import (
    ConfigError,
    ConflictError,
    DeadlineError,
    InsufficientCreditsError,
    PrepaidError,
    StripeFailedError,
    UnavailableError,
)
from shared.http.deadlines import Deadlines
from tests.fixtures.product import listening

if TYPE_CHECKING:
    from tests.fixtures.api import ApiClient


async def log_of(api_client: ApiClient, error: Exception | None) -> tuple[int, Mapping[str, Any]]:
    """Have an operation fail; return its status, and the one line that it leaves in the log."""

    async def fail(_call: Call) -> Reply:
        if error is None:
            await asyncio.Event().wait()
            raise AssertionError
        raise error

    operation = Operation(
        name="fail",
        tag="Tests",
        method="GET",
        path="/fail",
        handle=fail,
        response=None,
        scope=Scope.READ,
        seconds_max=0 if error is None else 30,
    )
    await api_client.get("/v1/organizations")  # the key is known from here on
    api = replace(api_client.api, deadlines=Deadlines(tick_seconds=0.001))
    async with listening([web.get("/fail", edge.handler(api, operation))]) as port:
        headers = {"x-api-key": api_client.key or ""}
        with capture_logs() as lines:
            url = f"http://127.0.0.1:{port}/fail"
            async with api_client.session.get(url, headers=headers) as response:
                body = await response.json()
    (line,) = (line for line in lines if line["event"].startswith("http."))
    assert body["code"] == response.status
    assert (line["method"], line["path"]) == ("GET", "/fail")
    assert line["request_id"] == response.headers["X-Request-Id"]
    return response.status, line


@pytest.mark.parametrize("error", [ConflictError("x"), InsufficientCreditsError("x")])
async def test_a_refusal_is_a_line_without_alarm(
    api_client: ApiClient, error: PrepaidError
) -> None:
    status, line = await log_of(api_client, error)
    assert (line["event"], line["log_level"]) == ("http.refused", "info")
    assert (line["status"], line["type"], line["detail"]) == (status, error.type, "x")


@pytest.mark.parametrize("error", [UnavailableError("x"), StripeFailedError("x")])
async def test_another_server_that_is_away_is_a_warning_without_a_trace(
    api_client: ApiClient, error: PrepaidError
) -> None:
    status, line = await log_of(api_client, error)
    assert (line["event"], line["log_level"]) == ("http.refused", "warning")
    assert (line["status"], line["detail"], "exc_info" in line) == (status, "x", False)


@pytest.mark.parametrize("error", [PrepaidError("x"), ConfigError("X", "x"), RuntimeError("x")])
async def test_a_failure_of_ours_is_an_error_with_its_trace(
    api_client: ApiClient, error: Exception
) -> None:
    status, line = await log_of(api_client, error)
    assert (status, line["event"], line["log_level"]) == (500, "http.failed", "error")
    assert line["exc_info"] in (True, error)


async def test_what_took_too_long_is_an_error_that_says_where_it_was(
    api_client: ApiClient,
) -> None:
    status, line = await log_of(api_client, None)
    assert (status, line["event"], line["log_level"]) == (504, "http.failed", "error")
    trace = "".join(traceback.format_exception(line["exc_info"]))
    assert "in fail" in trace
    assert isinstance(line["exc_info"], DeadlineError)
