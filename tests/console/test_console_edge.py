"""The edge of the console: roles, forms, bound keys, errors as pages, headers."""

from __future__ import annotations

import io
import re
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from console.framework.edge import FORM_TYPE
from console.framework.page import Page
from console.pages import PAGES
from shared.organizations.model import Organization
from tests.fixtures.console import ConsoleBrowser

KEYS = "/console/keys"
EMPTY = str(uuid4())
ACTS = [page for page in PAGES if page.method == "POST"]


def filled(page: Page) -> str:
    """Return a path of the page, with an id of nothing."""
    return re.sub(r"\{\w+\}", EMPTY, page.path)


async def test_every_page_needs_a_session(stranger: ConsoleBrowser) -> None:
    for page in PAGES:
        if page.method == "GET":
            answer = await stranger.get(filled(page), follow=False)
        else:
            answer = await stranger.post(filled(page), {}, follow=False)
        assert answer.status == 303, page.path
        assert answer.headers["Location"].startswith("/console/sign-in?return="), page.path


async def test_no_act_is_done_without_the_token_of_its_form(operator: ConsoleBrowser) -> None:
    for page in ACTS:
        answer = await operator.post(filled(page), {"reason": "because", "csrf": "wrong"})
        assert answer.status == 403, page.path
        assert "Go back, reload the page and send the form again" in answer.text, page.path


async def test_a_viewer_may_not_act(viewer: ConsoleBrowser) -> None:
    await viewer.get("/console")
    assert viewer.page is not None
    csrf = viewer.page.form("/console/sign-out")["csrf"]
    for page in ACTS:
        if page.needs_operator:
            answer = await viewer.post(filled(page), {"reason": "because", "csrf": csrf})
            assert answer.status == 403, page.path
            assert "may view and not act" in answer.text, page.path


async def test_a_bound_key_opens_no_page_of_the_installation(
    stranger: ConsoleBrowser, organization: Organization
) -> None:
    await stranger.sign_in("admin", organization)
    for page in PAGES:
        if page.method == "GET" and not page.for_bound_keys:
            answer = await stranger.get(filled(page))
            assert (answer.status, answer.title) == (404, "Not Found"), page.path
    links = {str(a["href"]) for a in answer.soup.select("#navigation a")}
    assert links <= {page.path for page in PAGES if page.for_bound_keys}


async def test_a_form_of_another_site_is_refused(operator: ConsoleBrowser) -> None:
    await operator.get("/console")
    assert operator.page is not None
    fields = operator.page.form("/console/sign-out")
    answer = await operator.post("/console/sign-out", fields, Sec_Fetch_Site="cross-site")
    assert answer.status == 403
    assert (await operator.get("/console")).status == 200


async def test_the_token_of_another_session_is_refused(operator: ConsoleBrowser) -> None:
    await operator.get("/console")
    assert operator.page is not None
    stale = operator.page.form("/console/sign-out")
    await operator.sign_in()
    assert (await operator.post("/console/sign-out", stale)).status == 403


async def test_a_form_of_an_expired_session_leads_to_the_sign_in_page(
    operator: ConsoleBrowser,
) -> None:
    await operator.get(KEYS)
    await operator.pool.execute("DELETE FROM console_sessions")
    assert (await operator.submit("/console/sign-out")).title == "Sign in"


async def test_an_unknown_path_is_a_page(operator: ConsoleBrowser) -> None:
    page = await operator.get("/console/nothing/here")
    assert (page.status, page.title) == (404, "Not Found")
    assert page.soup.select_one("#navigation") is not None


@pytest.mark.parametrize("path", ["?a=%00", "?a=%ff", "/nothing%00"])
async def test_what_is_no_text_is_a_page(operator: ConsoleBrowser, path: str) -> None:
    assert (await operator.get(f"/console{path}")).status in {200, 400, 404}


async def test_a_body_that_is_no_form_is_refused(operator: ConsoleBrowser) -> None:
    answer = await operator.session.post(f"{operator.url}/console/sign-out", json={"csrf": "x"})
    assert answer.status == 400


async def test_a_form_of_ten_megabytes_is_a_page_that_refuses_it(operator: ConsoleBrowser) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"x" * 100_000

    for body in (io.BytesIO(b"x" * 10_000_000), pieces()):
        answer = await operator.session.post(
            f"{operator.url}/console/sign-out", data=body, headers={"Content-Type": FORM_TYPE}
        )
        assert (answer.status, answer.content_type) == (413, "text/html")
        assert "The body is over 1048576 bytes." in await answer.text()


async def test_no_header_of_a_client_is_in_a_page_or_an_address(operator: ConsoleBrowser) -> None:
    elsewhere = {"Host": "elsewhere.test", "X-Forwarded-Host": "elsewhere.test",
                 "X-Forwarded-Proto": "https", "Forwarded": "host=elsewhere.test",
                 "X-Original-URL": "/elsewhere", "Referer": "https://elsewhere.test"}  # fmt: skip
    for path in ("/console", "/console/nothing", "/console/keys"):
        answer = await operator.session.get(operator.url + path, headers=elsewhere)
        assert "elsewhere" not in await answer.text()
    operator.session.cookie_jar.clear()
    answer = await operator.session.get(
        f"{operator.url}/console/keys", headers=elsewhere, allow_redirects=False
    )
    assert answer.headers["Location"] == "/console/sign-in?return=%2Fconsole%2Fkeys"


@pytest.mark.parametrize("method", ["OPTIONS", "TRACE", "PUT", "DELETE", "PATCH"])
async def test_another_method_is_refused(operator: ConsoleBrowser, method: str) -> None:
    for path in ("/console", KEYS, "/console/sign-in", "/console/nothing"):
        answer = await operator.session.request(method, operator.url + path)
        assert answer.status == 405, path


async def test_pages_may_load_nothing_from_elsewhere_and_run_nothing(
    operator: ConsoleBrowser,
) -> None:
    page = await operator.get("/console")
    policy = page.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'self'; img-src 'self'; form-action")
    assert "frame-ancestors 'none'" in policy
    assert "script-src" not in policy
    assert page.headers["Cache-Control"] == "no-store"
    assert page.soup.find_all(["script", "style", "iframe", "img"]) == []
    assert page.soup.select("[style], [onclick]") == []


async def test_the_style_sheet_is_cached_by_its_address(operator: ConsoleBrowser) -> None:
    page = await operator.get("/console")
    style = await operator.get(str(page.one("link[rel=stylesheet]")["href"]))
    assert style.status == 200
    assert style.headers["Content-Type"].startswith("text/css")
    assert "public" in style.headers["Cache-Control"]
