"""The API's page in a browser: to browse it, and to try an operation with a key."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from playwright.async_api import ConsoleMessage, Locator, Page, Request, expect

from api.endpoints import OPERATIONS
from shared.organizations.model import Organization
from tests.fixtures.api import ApiClient

ORGANIZATION = "/v1/organizations/{organizationId}"


@dataclass
class Visit:
    """The page, what went wrong on it, and where its requests went."""

    page: Page
    problems: list[str] = field(default_factory=list)
    origins: set[str] = field(default_factory=set)

    def listen(self) -> None:
        """Note all that follows; what the page's own policy forbids is told on the console."""
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("console", self._console)
        self.page.on("request", self._request)

    def operation(self, method: str, path: str) -> Locator:
        """Return the block of an operation."""
        return self.page.locator(
            f".opblock-{method.lower()}", has=self.page.locator(f'[data-path="{path}"]')
        )

    def _console(self, said: ConsoleMessage) -> None:
        if said.type in {"error", "warning"}:
            self.problems.append(said.text)

    def _request(self, request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme != "data":
            self.origins.add(f"{parts.scheme}://{parts.netloc}")


@pytest_asyncio.fixture
async def visit(api_client: ApiClient, browser_page: Page) -> AsyncIterator[Visit]:
    """Open the page by another name than the one that the document gives."""
    url = api_client.url.replace("127.0.0.1", "localhost")
    assert url != api_client.api.settings.public_url
    opened = Visit(browser_page)
    opened.listen()
    await browser_page.goto(f"{url}/docs")
    await expect(browser_page.get_by_role("heading", name="Prepaid", level=1)).to_be_visible()
    yield opened
    assert opened.problems == []
    assert opened.origins == {url}


async def test_the_page_lists_every_operation_and_opens_one(visit: Visit) -> None:
    # The webhook endpoint is in the document too.
    await expect(visit.page.locator(".opblock")).to_have_count(len(OPERATIONS) + 1)
    for operation in OPERATIONS:
        await expect(visit.operation(operation.method, operation.path)).to_be_visible()
    await expect(visit.page.get_by_text("OAS 3.1")).to_be_visible()
    shown = visit.operation("GET", ORGANIZATION)
    await shown.locator(".opblock-summary-control").click()
    await expect(shown.get_by_text("Requires a key with the scope")).to_be_visible()
    await expect(shown.locator("tr[data-code='404']")).to_contain_text("not_found_error")


@pytest.mark.parametrize("scheme", ["bearer", "apiKey"])
async def test_an_operation_is_tried_with_a_key(
    visit: Visit, api_client: ApiClient, organization: Organization, scheme: str
) -> None:
    assert api_client.key is not None
    await visit.page.locator("button.authorize").first.click()
    form = visit.page.locator(".auth-container", has_text=scheme)
    await form.get_by_role("textbox").fill(api_client.key)
    await form.get_by_role("button", name="Apply credentials").click()
    await form.get_by_role("button", name="Close").click()
    tried = visit.operation("GET", ORGANIZATION)
    await tried.locator(".opblock-summary-control").click()
    await tried.get_by_role("button", name="Try it out").click()
    await tried.get_by_placeholder("organizationId").fill(organization.slug)
    await tried.get_by_role("button", name="Execute").click()
    answer = tried.locator(".live-responses-table .response")
    await expect(answer.locator(".response-col_status")).to_have_text("200")
    await expect(answer).to_contain_text(str(organization.id))
