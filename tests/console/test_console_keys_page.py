"""The page of the API keys."""

from __future__ import annotations

from uuid import uuid4

from console.framework import paging
from tests.fixtures.console import ConsoleBrowser
from tests.fixtures.many_keys import make_many_keys

KEYS = "/console/keys"


async def test_keys_are_listed_without_their_secrets(operator: ConsoleBrowser) -> None:
    await operator.make_key("usage")
    page = await operator.get(KEYS)
    rows = page.rows("API keys")
    assert [row[1:3] for row in rows] == [["valid", "usage"], ["valid", "admin"]]
    assert all(key["key"] not in page.html for key in operator.keys)


async def test_keys_come_in_pages_and_the_oldest_can_be_revoked(operator: ConsoleBrowser) -> None:
    oldest = operator.keys[0]["id"]
    await make_many_keys(operator.pool, paging.ROWS_MAX)
    page = await operator.get(KEYS)
    assert len(page.rows("API keys")) == paging.ROWS_MAX
    assert oldest not in page.html
    page = await operator.get(str(page.one('a[rel="next"]')["href"]))
    assert [row[1:3] for row in page.rows("API keys")] == [["valid", "admin"]]
    assert f"{KEYS}/{oldest}/revoke" in page.html
    assert page.soup.select('a[rel="next"]') == []


async def test_a_key_is_revoked_with_a_reason(operator: ConsoleBrowser) -> None:
    key = await operator.make_key("usage")
    await operator.get(KEYS)
    page = await operator.submit(f"{KEYS}/{key['id']}/revoke", reason="it leaked")
    assert page.one(".flash").get_text() == f"Key {key['id']} is revoked."
    assert page.rows("API keys")[0][1] == "revoked"
    row = await operator.pool.fetchrow("SELECT * FROM audit_log WHERE action = 'keys.revoke'")
    assert row is not None
    assert (row["actor"], row["reason"]) == ("console:admin key 0", "it leaked")
    assert str(row["key_id"]) == operator.keys[0]["id"]
    assert (await operator.get(KEYS)).soup.select(".flash") == []


async def test_an_act_without_a_reason_is_refused(operator: ConsoleBrowser) -> None:
    key = await operator.make_key("usage")
    await operator.get(KEYS)
    page = await operator.submit(f"{KEYS}/{key['id']}/revoke", reason=" ")
    assert page.status == 422
    assert "Give a reason of 1 to 500 characters" in page.text


async def test_an_unknown_key_is_a_page(operator: ConsoleBrowser) -> None:
    key = await operator.make_key("usage")
    await operator.get(KEYS)
    assert operator.page is not None
    fields = operator.page.form(f"{KEYS}/{key['id']}/revoke") | {"reason": "x"}
    for unknown in (str(uuid4()), "none"):
        assert (await operator.post(f"{KEYS}/{unknown}/revoke", fields)).status == 404


async def test_a_viewer_sees_no_button(viewer: ConsoleBrowser) -> None:
    assert (await viewer.get(KEYS)).soup.select(".act") == []


async def test_html_in_the_name_of_a_key_is_shown_escaped(operator: ConsoleBrowser) -> None:
    await operator.pool.execute("UPDATE api_keys SET name = '<script>alert(1)</script>&\"''x'")
    await operator.get(KEYS)
    assert operator.page is not None
    assert operator.page.soup.find_all("script") == []
    assert "<script>alert(1)</script>&\"'x" in operator.page.rows("API keys")[0][0]
