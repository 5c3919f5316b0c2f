"""What every answer carries in its headers, and what none does."""

from __future__ import annotations

from sandbox.product import WebProcess
from tests.fixtures.product import send_raw

ANSWERS = [
    ("GET /healthz HTTP/1.1", b"", 200),
    ("GET /openapi.json HTTP/1.1", b"", 200),
    ("GET /v1/organizations HTTP/1.1", b"", 401),
    ("GET /no/such/path HTTP/1.1", b"", 404),
    ("DELETE /healthz HTTP/1.1", b"", 405),
    ("POST /v1/webhooks/stripe HTTP/1.1", b"", 400),
    ("GET /pay/x HTTP/1.1", b"", 404),
    ("GET /healthz HTTP/1.1", b"Expect: something\r\n", 400),
    ("GET /healthz HTTP/1.1", b"Expect: \xff\r\n", 400),
    ("GET /no/such/path HTTP/1.1", b"Expect: \xff\r\n", 400),
    ("GET /healthz HTTP/1.1", b"Bad Header: x\r\n", 400),
    ("nonsense", b"", 400),
]


async def test_no_answer_is_stored_or_guessed_at_and_none_names_the_software(
    web: WebProcess,
) -> None:
    port = int(web.url.rsplit(":", 1)[1])
    for head, headers, status in ANSWERS:
        answer = await send_raw(port, head, headers=headers)
        assert answer.status == status, head
        assert answer.headers["Cache-Control"] == "no-store", head
        assert answer.headers["X-Content-Type-Options"] == "nosniff", head
        assert answer.headers["Referrer-Policy"] == "no-referrer", head
        assert "Server" not in answer.headers, head


async def test_the_page_of_the_documentation_may_be_stored(web: WebProcess) -> None:
    port = int(web.url.rsplit(":", 1)[1])
    for path, expected in (("/docs", "no-cache"), ("/docs/page.js", "public, max-age=86400")):
        answer = await send_raw(port, f"GET {path} HTTP/1.1")
        assert answer.status == 200
        assert answer.headers["Cache-Control"] == expected
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "Server" not in answer.headers
