"""/docs, the API to browse: what is served, to whom, and what a browser may do with it."""

from __future__ import annotations

import re
from urllib.parse import urljoin

import pytest

from api.docs.guide import INTRODUCTION, TAGS
from tests.fixtures.api import ApiClient, document

PAGE = "/docs"
TYPES = {".css": "text/css", ".js": "text/javascript", ".json": "application/json"}


async def _named(stranger: ApiClient) -> list[str]:
    """Return the paths that the page names."""
    page = (await stranger.get(PAGE)).body.decode()
    names = re.findall(r'(?:href|src)="(?!data:)([^"]+)"', page)
    return [urljoin(PAGE, name) for name in names]


async def test_anybody_may_read_the_page(api_client: ApiClient) -> None:
    page = await api_client.with_key(None).get(PAGE)
    assert (page.status, page.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    assert page.headers["X-Frame-Options"] == "DENY"
    assert page.headers["Cache-Control"] == "no-cache"


async def test_the_page_may_run_and_fetch_only_what_this_process_serves(
    api_client: ApiClient,
) -> None:
    policy = (await api_client.with_key(None).get(PAGE)).headers["Content-Security-Policy"]
    allowed = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert allowed.pop("img-src") == "'self' data:"
    assert allowed.pop("default-src") == "'none'"
    assert {"script-src", "style-src", "connect-src", "frame-ancestors"} <= set(allowed)
    assert set(allowed.values()) == {"'self'", "'none'"}


async def test_every_file_that_the_page_names_is_served(api_client: ApiClient) -> None:
    stranger = api_client.with_key(None)
    paths = await _named(stranger)
    assert len(paths) == 4
    for path in paths:
        file = await stranger.get(path)
        assert file.status == 200, path
        assert file.headers["Content-Type"].startswith(TYPES[path[path.rindex(".") :]])
        if path.startswith(f"{PAGE}/"):
            assert file.headers["X-Content-Type-Options"] == "nosniff"
            assert file.headers["Cache-Control"] == "public, max-age=86400"


async def test_a_file_that_the_browser_has_is_not_sent_again(api_client: ApiClient) -> None:
    for path in (path for path in await _named(api_client) if path.startswith(f"{PAGE}/")):
        tag = (await api_client.get(path)).headers["ETag"]
        again = await api_client.call("GET", path, headers={"If-None-Match": tag})
        assert (again.status, again.body) == (304, b"")


@pytest.mark.parametrize(
    "name", ["", "nothing.js", "scalar.js", "page.html", "page.py", "..%2Fapp.py"]
)
async def test_any_other_file_is_not_found(api_client: ApiClient, name: str) -> None:
    answer = await api_client.with_key(None).get(f"{PAGE}/{name}")
    assert (answer.status, answer.json["type"]) == (404, "not_found_error")
    assert set(answer.json) == {"code", "type", "detail"}


def test_the_document_begins_with_the_recommended_path_and_every_path_in_it_exists() -> None:
    paths = document()["paths"]
    steps = re.findall(r"^\d\. \*\*([\w ]+)\*\*", INTRODUCTION, re.MULTILINE)
    assert steps == [
        "Organization",
        "Price book",
        "Checkout",
        "Reserve and capture",
        "Statement",
    ]
    requests = re.findall(r"`(GET|POST) (/[^` ]+)`", INTRODUCTION)
    assert len(requests) == 10
    for method, path in requests:
        assert method.lower() in paths[path], f"{method} {path}"
    tags = [operation["tags"][0] for item in paths.values() for operation in item.values()]
    assert [*dict.fromkeys(tags)][:6] == [*TAGS][:6]  # the document lists them in this order


def test_every_tag_of_an_operation_is_described_and_every_described_tag_is_used() -> None:
    operations = [o for item in document()["paths"].values() for o in item.values()]
    assert {tag for operation in operations for tag in operation["tags"]} == set(TAGS)
    assert [tag["name"] for tag in document()["tags"]] == [*TAGS]
    assert all(TAGS.values())
