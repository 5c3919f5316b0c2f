"""Sign-in to the console: keys, roles, sessions, links."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from yarl import URL

from console.framework.cookies import SESSION_COOKIE
from console.sign_in import local_path
from shared.access import service as access
from shared.access.console import store
from shared.access.console.model import Identity, Role
from shared.organizations.model import Organization
from tests.fixtures.api import ApiClient
from tests.fixtures.console import ConsoleBrowser, serve_console

SIGN_IN = "/console/sign-in"


async def test_an_admin_key_signs_in_and_operates(stranger: ConsoleBrowser) -> None:
    page = await stranger.sign_in("admin")
    assert (page.status, page.title) == (200, "Overview")
    row = await stranger.pool.fetchrow("SELECT role, actor, key_id FROM console_sessions")
    assert row is not None
    assert (row["role"], row["actor"]) == ("operate", "console:admin key 0")
    assert str(row["key_id"]) == stranger.keys[0]["id"]


async def test_a_read_key_signs_in_and_views(stranger: ConsoleBrowser) -> None:
    assert (await stranger.sign_in("read")).status == 200
    assert await stranger.pool.fetchval("SELECT role FROM console_sessions") == "view"


async def test_a_key_with_neither_scope_is_refused_with_a_sentence(
    stranger: ConsoleBrowser,
) -> None:
    page = await stranger.sign_in("usage,grants")
    assert page.status == 403
    assert "needs the scope admin (to act) or read (to view)" in page.text
    assert await stranger.pool.fetchval("SELECT count(*) FROM console_sessions") == 0


async def test_an_unknown_key_is_refused(stranger: ConsoleBrowser) -> None:
    page = await stranger.sign_in_with(f"{access.KEY_PREFIX}{'x' * 43}")
    assert (page.status, page.title) == (401, "Sign in")
    assert "does not exist, was revoked, or has expired" in page.text


async def test_the_token_of_a_customers_browser_signs_nobody_in(
    stranger: ConsoleBrowser, organization: Organization, api_client: ApiClient
) -> None:
    asked = {"organizationId": str(organization.id)}
    opened = await api_client.post("/v1/billing/sessions", asked)
    assert opened.status == 200
    page = await stranger.sign_in_with(opened.json["token"])
    assert page.status == 403
    assert "needs the scope admin (to act) or read (to view)" in page.text
    assert await stranger.pool.fetchval("SELECT count(*) FROM console_sessions") == 0


async def test_what_is_no_key_is_refused_and_not_repeated(stranger: ConsoleBrowser) -> None:
    page = await stranger.sign_in_with("<script>alert(1)</script>")
    assert page.status == 422
    assert "alert(1)" not in page.html


async def test_failed_sign_ins_are_limited_and_valid_keys_are_not(
    stranger: ConsoleBrowser,
) -> None:
    wrong = {"key": f"{access.KEY_PREFIX}{'y' * 43}"}
    statuses = [(await stranger.post(SIGN_IN, wrong)).status for _ in range(22)]
    assert statuses[0] == 401
    assert statuses[-1] == 429
    assert stranger.page is not None
    assert int(stranger.page.headers["Retry-After"]) >= 1
    assert (await stranger.sign_in()).status == 200


async def test_failed_sign_ins_are_audited_up_to_a_limit(stranger: ConsoleBrowser) -> None:
    refused = (
        "SELECT actor, subject, key_id FROM audit_log WHERE action = 'console.sign_in_refused'"
    )
    await stranger.sign_in("usage")
    (entry,) = await stranger.pool.fetch(refused)
    assert (entry["actor"], entry["subject"]) == ("console:usage key 0", "scope")
    assert str(entry["key_id"]) == stranger.keys[0]["id"]
    wrong = {"key": f"{access.KEY_PREFIX}{'y' * 43}"}
    await stranger.post(SIGN_IN, wrong)
    assert [tuple(row)[:2] for row in await stranger.pool.fetch(refused)][1:] == [
        ("console:-", "unknown key")
    ]
    while stranger.console.audited_refusals.take() == 0:
        pass
    await stranger.post(SIGN_IN, wrong)
    assert len(await stranger.pool.fetch(refused)) == 2


async def test_a_sign_in_takes_no_token_that_the_browser_brings(stranger: ConsoleBrowser) -> None:
    token = store.new_token()
    brought = {SESSION_COOKIE: stranger.console.signer.sign("session", token)}
    stranger.session.cookie_jar.update_cookies(brought, URL(stranger.url))
    assert (await stranger.get("/console/keys")).title == "Sign in"
    await stranger.sign_in()
    (cookie,) = [
        c
        for c in stranger.session.cookie_jar
        if c.key == SESSION_COOKIE and c["path"] == "/console"
    ]
    assert cookie.value != brought[SESSION_COOKIE]
    stored = await stranger.pool.fetchval("SELECT token_sha256 FROM console_sessions")
    assert stored != access.digest(token)


async def test_the_cookie_is_out_of_reach_of_scripts_and_of_other_sites(
    stranger: ConsoleBrowser,
) -> None:
    key = await stranger.make_key()
    await stranger.get(SIGN_IN)
    answer = await stranger.submit(SIGN_IN, follow=False, key=key["key"])
    assert answer.status == 303
    cookie = answer.headers["Set-Cookie"]
    assert cookie.startswith(f"{SESSION_COOKIE}=")
    assert {"HttpOnly", "SameSite=Lax", "Path=/console"} <= set(cookie.split("; "))


async def test_the_cookie_needs_tls_where_browsers_use_it(stranger: ConsoleBrowser) -> None:
    settings = replace(stranger.console.settings, public_url="https://credits.test")
    key = await stranger.make_key()
    async with serve_console(settings, stranger.pool) as (_, url):
        answer = await stranger.post(f"{url}{SIGN_IN}", {"key": key["key"]}, follow=False)
    assert "Secure" in answer.headers["Set-Cookie"].split("; ")


async def test_the_token_is_stored_as_a_digest_alone(operator: ConsoleBrowser) -> None:
    (cookie,) = [c for c in operator.session.cookie_jar if c.key == SESSION_COOKIE]
    token = operator.console.signer.verify("session", cookie.value)
    assert token is not None
    stored = await operator.pool.fetchval("SELECT token_sha256 FROM console_sessions")
    assert stored == access.digest(token)


async def test_a_cookie_with_another_signature_is_no_session(operator: ConsoleBrowser) -> None:
    (cookie,) = [c for c in operator.session.cookie_jar if c.key == SESSION_COOKIE]
    forged = f"{SESSION_COOKIE}={cookie.value[:-2]}AA"
    operator.session.cookie_jar.clear()
    page = await operator.get("/console/keys", Cookie=forged)
    assert page.title == "Sign in"


async def test_an_expired_session_leads_to_the_sign_in_page_and_back(
    operator: ConsoleBrowser,
) -> None:
    operator.clock.moved = timedelta(hours=13)
    page = await operator.get("/console/keys?cursor=")
    assert page.title == "Sign in"
    back = await operator.submit(SIGN_IN, key=operator.keys[0]["key"])
    assert back.url.endswith("/console/keys?cursor=")


async def test_an_idle_session_ends_after_an_hour(operator: ConsoleBrowser) -> None:
    operator.clock.moved = timedelta(minutes=59)
    assert (await operator.get("/console")).title == "Overview"
    operator.clock.moved = timedelta(minutes=118)
    assert (await operator.get("/console")).title == "Overview"
    operator.clock.moved = timedelta(minutes=179)
    assert (await operator.get("/console")).title == "Sign in"


async def test_a_session_ends_with_its_key(operator: ConsoleBrowser) -> None:
    await operator.pool.execute("UPDATE api_keys SET revoked_at = now()")
    assert (await operator.get("/console")).title == "Sign in"


async def test_a_session_ends_when_its_key_expires(operator: ConsoleBrowser) -> None:
    expires_at = operator.clock() + timedelta(minutes=10)
    await operator.pool.execute("UPDATE api_keys SET expires_at = $1", expires_at)
    operator.clock.moved = timedelta(minutes=9)
    assert (await operator.get("/console")).title == "Overview"
    operator.clock.moved = timedelta(minutes=11)
    assert (await operator.get("/console")).title == "Sign in"


async def test_signing_out_ends_the_session(operator: ConsoleBrowser) -> None:
    await operator.get("/console")
    page = await operator.submit("/console/sign-out")
    assert page.title == "Sign in"
    assert await operator.pool.fetchval("SELECT count(*) FROM console_sessions") == 0


async def test_a_sign_in_writes_an_audit_entry(operator: ConsoleBrowser) -> None:
    row = await operator.pool.fetchrow("SELECT actor, action, key_id, request_id FROM audit_log")
    assert row is not None
    assert (row["actor"], row["action"]) == ("console:admin key 0", "console.sign_in")
    assert row["key_id"] is not None
    assert row["request_id"] is not None


@pytest.mark.parametrize(
    "target",
    [
        "https://example.com/console",
        "//example.com/console",
        "/\\example.com",
        "/console\\..",
        "javascript:alert(1)",
        "/v1/organizations",
        "/consoles",
        "/console/sign-in",
        "/console/\r\nX: y",
        "http://[",
        "/console/../v1/organizations",
        "/console/%2e%2e/v1/organizations",
        "/console/..//example.com",
    ],
)
def test_only_pages_of_the_console_are_returned_to(target: str) -> None:
    assert local_path(target) == "/console"


async def link(browser: ConsoleBrowser, organization: Organization | None = None) -> str:
    token = store.new_token()
    identity = Identity(
        actor="console:cli:ops@prepaid",
        role=Role.OPERATE,
        organization_id=organization.id if organization else None,
    )
    async with browser.pool.acquire() as connection:
        await store.create_link(connection, token, identity, now=browser.clock())
    return f"{SIGN_IN}/{token}"


async def test_a_link_signs_in_once(stranger: ConsoleBrowser) -> None:
    path = await link(stranger)
    await stranger.get(path)
    assert (await stranger.submit(path)).title == "Overview"
    stranger.session.cookie_jar.clear()
    await stranger.get(path)
    page = await stranger.submit(path)
    assert page.status == 403
    assert "it works once, for ten minutes" in page.text


async def test_a_preview_of_a_link_does_not_use_it_up(stranger: ConsoleBrowser) -> None:
    path = await link(stranger)
    await stranger.get(path)
    await stranger.get(path)
    assert (await stranger.submit(path)).title == "Overview"


async def test_a_link_expires_after_ten_minutes(stranger: ConsoleBrowser) -> None:
    path = await link(stranger)
    stranger.clock.moved = timedelta(minutes=11)
    await stranger.get(path)
    assert (await stranger.submit(path)).status == 403
