"""The HTML of the pay page, one method for each state: no script, no external style or font."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from html import escape

from aiohttp import web

from api.pay import layout
from shared.merchant_settings import MerchantSettings
from shared.money import format_money, plain
from shared.recharge.model import Trigger
from shared.recharge.recovery import Recovery

_GONE = 410


@dataclass(frozen=True, slots=True)
class Pages:
    """The pages of a merchant. What is not from the templates is escaped."""

    merchant: MerchantSettings = field(default_factory=MerchantSettings)

    def ask(self, payment: Recovery, *, bank_origins: str) -> web.Response:
        """Return the page that asks for authentication; its form may post to these origins."""
        return self._page(
            f"{payment.organization_name}: authentication required",
            "<h1>Your bank asks you to confirm a payment</h1>"
            f"<p>{escape(_why(payment))}</p>"
            f"{_facts(payment)}"
            '<form method="post"><button>Continue to your bank</button></form>'
            '<p class="note">You return here afterwards. Nothing is charged before you confirm.'
            "</p>",
            forms_to=bank_origins,
        )

    def paid(self, payment: Recovery) -> web.Response:
        """Return the page of a successful payment."""
        return self._page(
            "Payment complete",
            '<h1 class="good">Thank you, the payment is complete</h1>'
            f"{_facts(payment)}"
            f"<p>{_credits(payment)} will be added shortly. You can close this page.</p>",
        )

    def under_way(self, payment: Recovery) -> web.Response:
        """Return the page of a payment that the bank is processing."""
        return self._page(
            "Payment processing",
            "<h1>The payment is being processed</h1>"
            f"{_facts(payment)}"
            "<p>You have nothing more to do. The credits are added as soon as it succeeds.</p>",
        )

    def not_done(self, payment: Recovery, token: str) -> web.Response:
        """Return the page of a payment that was not authenticated, with a way to retry."""
        return self._page(
            "Payment not complete",
            '<h1 class="bad">The payment is not complete</h1>'
            "<p>Your bank did not confirm that it was you. Nothing was charged.</p>"
            f"{_facts(payment)}"
            f'<a class="button" href="/pay/{escape(token, quote=True)}">Try again</a>',
        )

    def already_paid(self, payment: Recovery) -> web.Response:
        """Return the page of a link whose payment succeeded before."""
        return self._page(
            "Payment already complete",
            '<h1 class="good">This payment is already complete</h1>'
            f"{_facts(payment)}"
            "<p>You have nothing more to do. You can close this page.</p>",
            _GONE,
        )

    def expired(self, payment: Recovery) -> web.Response:
        """Return the page of a link that is too old."""
        return self._page(
            "Link expired",
            "<h1>This link has expired</h1>"
            "<p>Nothing was charged. Ask for a new link.</p>"
            f"{_facts(payment)}",
            _GONE,
        )

    def failed(self, payment: Recovery) -> web.Response:
        """Return the page of a payment that failed and cannot be retried by this link."""
        return self._page(
            "Payment failed",
            '<h1 class="bad">This payment failed</h1>'
            "<p>Nothing was charged, and no credits were added. This link cannot be used again.</p>"
            f"{_facts(payment)}",
            _GONE,
        )

    def canceled(self, payment: Recovery) -> web.Response:
        """Return the page of a payment that was canceled."""
        return self._page(
            "Payment canceled",
            "<h1>This payment was canceled</h1>"
            "<p>Nothing was charged, and no credits were added.</p>"
            f"{_facts(payment)}",
            _GONE,
        )

    def unknown(self) -> web.Response:
        """Return the page of an unknown link."""
        return self._page(
            "Not found",
            "<h1>There is no such payment</h1>"
            "<p>The address may be incomplete. Open the latest link that you received.</p>",
            404,
        )

    def try_later(self, status: int) -> web.Response:
        """Return the page for an unavailable service, Prepaid or Stripe."""
        page = self._page(
            "Try again soon",
            "<h1>This page is not available right now</h1>"
            "<p>Please open the link again in a few minutes. Opening it again never charges you"
            " twice.</p>",
            status,
        )
        page.headers["Retry-After"] = "60"
        return page

    def _page(
        self, title: str, body: str, status: int = 200, *, forms_to: str = ""
    ) -> web.Response:
        return layout.respond(self.merchant, title, body, status, forms_to=forms_to)


def _why(payment: Recovery) -> str:
    """Return why the payment is due now, and what it buys."""
    amount = _credits(payment)
    match payment.trigger:
        case Trigger.TOP_UP:
            cause = f"You are buying {amount}."
        case Trigger.SCHEDULE:
            cause = f"Your scheduled recharge of {amount} is due."
        case Trigger.THRESHOLD if payment.needed is not None:
            were = "was" if payment.needed == 1 else "were"
            cause = (
                f"Your balance did not cover {_number(payment.needed)} that {were} needed, so"
                f" auto-recharge buys {amount}."
            )
        case _:
            threshold = payment.threshold
            below = "the limit that you set" if threshold is None else _number(threshold)
            cause = f"Your balance fell below {below}, so auto-recharge buys {amount}."
    return f"{cause} Your bank asks you to confirm this payment."


def _facts(payment: Recovery) -> str:
    """Return the price, and what it buys for whom."""
    price = escape(format_money(payment.amount_minor, payment.currency))
    facts = [
        ("Credits", plain(payment.credits)),
        ("For", payment.organization_name),
        ("Payment method", payment.method),
    ]
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts)
    return f'<p class="amount">{price}</p><dl>{rows}</dl>'


def _credits(payment: Recovery) -> str:
    return _number(payment.credits)


def _number(credits_: Decimal) -> str:
    return f"{plain(credits_)} credit{'' if credits_ == 1 else 's'}"
