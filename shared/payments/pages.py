"""Pages of Stripe's lists, newest first, each object as Stripe has sent it.

Source: https://docs.stripe.com/api/pagination
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from shared.errors import StripeFailedError
from shared.payments.library import stripe
from shared.payments.objects import StripeId
from shared.payments.stripe_requests import account_options, ask

PAGE_ROWS = 100


class _Page(msgspec.Struct, frozen=True):
    data: list[msgspec.Raw]
    has_more: bool = False


class _Listed(msgspec.Struct, frozen=True):
    id: StripeId


@dataclass(frozen=True, slots=True)
class Page:
    """A page: the JSON text of each object, the id of the last, and whether more follow."""

    objects: Sequence[bytes]
    last_id: str | None
    has_more: bool


@dataclass(frozen=True, slots=True)
class StripePages:
    """Reads lists of Stripe page by page, and single objects, with one client."""

    client: stripe.StripeClient

    async def page(
        self, path: str, params: Mapping[str, Any], *, account: str = "", after: str | None = None
    ) -> Page:
        """Return the page of `/v1/{path}` after an object.

        Raises StripeFailedError; StripeForbiddenError where the key lacks a permission.
        """
        wanted = {**params, "limit": PAGE_ROWS}
        if after is not None:
            wanted["starting_after"] = after
        body = await self._get(f"{path}.list", f"/v1/{path}", wanted, account)
        try:
            page = msgspec.json.decode(body, type=_Page)
            last = msgspec.json.decode(page.data[-1], type=_Listed).id if page.data else None
        except msgspec.MsgspecError as error:
            raise StripeFailedError(f"Stripe's list of {path} cannot be read: {error}") from None
        if page.has_more and last is None:
            raise StripeFailedError(f"Stripe has cut the list of {path}.")
        return Page([bytes(each) for each in page.data], last, page.has_more)

    async def retrieve(self, path: str, object_id: str, *, account: str = "") -> bytes:
        """Return the JSON text of `/v1/{path}/{object_id}`; raises also StripeMissingError."""
        return await self._get(
            f"{path.replace('/', '.')}.retrieve", f"/v1/{path}/{object_id}", {}, account
        )

    async def _get(self, method: str, path: str, params: Mapping[str, Any], account: str) -> bytes:
        options: Any = account_options(account)
        request = self.client.raw_request_async("get", path, **params, **options)
        answer: Any = await ask(method, request)
        return str(answer.body).encode()
