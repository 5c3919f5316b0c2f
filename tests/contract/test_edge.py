"""What the edge of the API does with a request before any operation has it."""

from __future__ import annotations

import pytest

from api.framework import edge
from shared.errors import InvalidRequestError, MethodNotAllowedError, NotFoundError
from tests.fixtures.api import ApiClient
from tests.fixtures.operation_requests import check_refused
from tests.fixtures.product import send_raw

PATH = "/v1/organizations"


async def test_a_version_that_is_named_twice_is_400(api_client: ApiClient) -> None:
    named = (edge.VERSION_HEADER, edge.API_VERSION)
    assert (await api_client.call("GET", PATH, headers=[named])).status == 200
    for other in (edge.API_VERSION, "2020-01-01"):
        twice = [named, (edge.VERSION_HEADER, other)]
        check_refused(await api_client.call("GET", PATH, headers=twice), InvalidRequestError)


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b'{"note": "\xff"}', "The body is not in UTF-8."),
        (b'{"metadata": {"a": %s' % (b"[" * 100_000), "The body is nested too deeply."),
        (b"{'note': 1}", "The body is not JSON: JSON is malformed: object keys must be strings"),
    ],
    ids=["no UTF-8", "deep", "no JSON"],
)
async def test_a_body_that_cannot_be_read_is_400_and_says_why(
    api_client: ApiClient, body: bytes, detail: str
) -> None:
    answer = await api_client.call("POST", "/api/credit-transactions", body)
    check_refused(answer, InvalidRequestError)
    assert answer.json["detail"].startswith(detail)


async def test_another_method_is_405_and_names_those_that_are_allowed(
    api_client: ApiClient,
) -> None:
    answer = await api_client.call("DELETE", PATH)
    check_refused(answer, MethodNotAllowedError)
    assert answer.headers["Allow"] == "GET,HEAD,POST"
    check_refused(await api_client.call("GET", "/v1/nothing"), NotFoundError)


async def test_a_content_type_that_stands_twice_is_400(api_client: ApiClient) -> None:
    body = {"slug": "initech", "name": "Initech"}
    for other in ("text/plain", "application/json"):
        twice = [("Content-Type", "application/json"), ("Content-Type", other)]
        answer = await api_client.call("POST", PATH, body, headers=twice)
        check_refused(answer, InvalidRequestError)


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        (PATH, b"Bad Header: x\r\n"),
        (PATH, b"X-Nul: a\x00b\r\n"),
        (PATH, b"X-Long: " + b"x" * 10_000 + b"\r\n"),
        (PATH, b"".join(b"X-%d: x\r\n" % number for number in range(200))),
        (PATH, b"Content-Length: 1\r\nContent-Length: 2\r\n"),
        (PATH, b"Content-Length: -1\r\n"),
        (PATH, b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"),
        (PATH, b"Transfer-Encoding: chunked\r\n\r\nzz"),
        (PATH, b"Host: twice\r\n"),
        (PATH, b"Expect: something\r\n"),
        ("/no/such/path", b"Expect: something\r\n"),
        ("/%s" % ("x" * 10_000), b""),
        ("http://[::1/", b""),
        ("/\u00e9", b""),
    ],
    ids=lambda value: repr(value)[:40],
)
async def test_what_is_not_http_is_400_in_the_envelope(
    api_client: ApiClient, path: str, headers: bytes
) -> None:
    port = int(api_client.url.rsplit(":", 1)[1])
    answer = await send_raw(port, f"GET {path} HTTP/1.1", headers=headers)
    check_refused(answer, InvalidRequestError)
