"""The HTML of the pay page, one method for each state: no script, no external style or font."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from api.pay import layout
from api.pay.layout import in_credits
from shared.merchant_settings import MerchantSettings
from shared.recharge.model import Trigger
from shared.recharge.recovery import Recovery

_GONE = 410


@dataclass(frozen=True, slots=True)
class Pages:
    """The pages of a merchant, from templates that escape what they are given."""

    merchant: MerchantSettings = field(default_factory=MerchantSettings)

    def ask(self, payment: Recovery, *, bank_origins: str) -> web.Response:
        """Return the page that asks for authentication; its form may post to these origins."""
        return self._page("ask.html", payment=payment, cause=_cause(payment), forms_to=bank_origins)

    def paid(self, payment: Recovery) -> web.Response:
        """Return the page of a successful payment."""
        return self._page("paid.html", payment=payment)

    def under_way(self, payment: Recovery) -> web.Response:
        """Return the page of a payment that the bank is processing."""
        return self._page("under_way.html", payment=payment)

    def not_done(self, payment: Recovery, token: str) -> web.Response:
        """Return the page of a payment that was not authenticated, with a way to retry."""
        return self._page("not_done.html", payment=payment, token=token)

    def already_paid(self, payment: Recovery) -> web.Response:
        """Return the page of a link whose payment succeeded before."""
        return self._page("already_paid.html", payment=payment, status=_GONE)

    def expired(self, payment: Recovery) -> web.Response:
        """Return the page of a link that is too old."""
        return self._page("expired.html", payment=payment, status=_GONE)

    def failed(self, payment: Recovery) -> web.Response:
        """Return the page of a payment that failed and cannot be retried by this link."""
        return self._page("failed.html", payment=payment, status=_GONE)

    def canceled(self, payment: Recovery) -> web.Response:
        """Return the page of a payment that was canceled."""
        return self._page("canceled.html", payment=payment, status=_GONE)

    def unknown(self) -> web.Response:
        """Return the page of an unknown link."""
        return self._page("unknown.html", status=404)

    def try_later(self, status: int) -> web.Response:
        """Return the page for an unavailable service, Prepaid or Stripe."""
        page = self._page("try_later.html", status=status)
        page.headers["Retry-After"] = "60"
        return page

    def _page(
        self, template: str, *, status: int = 200, forms_to: str = "", **values: Any
    ) -> web.Response:
        return layout.respond(self.merchant, template, status=status, forms_to=forms_to, **values)


def _cause(payment: Recovery) -> str:
    """Return why the payment is due now, and what it buys."""
    amount = in_credits(payment.credits)
    match payment.trigger:
        case Trigger.TOP_UP:
            return f"You are buying {amount}."
        case Trigger.SCHEDULE:
            return f"Your scheduled recharge of {amount} is due."
        case Trigger.THRESHOLD if payment.needed is not None:
            were = "was" if payment.needed == 1 else "were"
            return (
                f"Your balance did not cover {in_credits(payment.needed)} that {were} needed, so"
                f" auto-recharge buys {amount}."
            )
        case _:
            threshold = payment.threshold
            below = "the limit that you set" if threshold is None else in_credits(threshold)
            return f"Your balance fell below {below}, so auto-recharge buys {amount}."
