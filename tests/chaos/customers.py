"""What customers, banks and the seller do at Stripe: pay, dispute, authenticate, refund."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

import aiohttp

if TYPE_CHECKING:
    import stripe

TAX_PERCENTS = (7, 19, 20)
INQUIRY_SHARE = 0.4  # of disputes
ESCALATED_SHARE = 0.5  # of inquiries
RETURN_URL = "https://app.example/paid"


@dataclass
class Customers:
    """Acts at the simulator, with a key of their own: faults of the product's do not touch them."""

    client: stripe.StripeClient
    http: aiohttp.ClientSession
    random: Random

    async def create(self, organization_id: str) -> str:
        """Create a Stripe customer of an organization, with a card."""
        customers = self.client.v1.customers
        made = await customers.create_async({"metadata": {"organization_id": organization_id}})
        methods = self.client.v1.payment_methods
        card = await methods.attach_async("pm_card_visa", {"customer": made.id})
        await customers.update_async(
            made.id, {"invoice_settings": {"default_payment_method": card.id}}
        )
        return made.id

    async def open_taxed(self, organization_id: str, price_minor: int) -> str:
        """Open a Checkout Session with tax, as a shop of the seller's would."""
        params: Any = {
            "mode": "payment",
            "success_url": RETURN_URL,
            "line_items": [
                {
                    "quantity": 1,
                    "price_data": {
                        "currency": "usd",
                        "unit_amount": price_minor,
                        "product_data": {"name": "Credits"},
                        "tax_behavior": self.random.choice(["exclusive", "inclusive"]),
                    },
                }
            ],
            "automatic_tax": {"enabled": True},
            "metadata": {"organization_id": organization_id},
            "payment_intent_data": {"metadata": {"organization_id": organization_id}},
        }
        return (await self.client.v1.checkout.sessions.create_async(params)).id

    async def pay(self, session_id: str, *, card: str) -> str:
        """Pay a Checkout Session; return its PaymentIntent."""
        form = {"card": card, "authenticate": True, "tax_percent": self.random.choice(TAX_PERCENTS)}
        paid = await self.act(f"checkout/{session_id}/pay", form)
        return str(paid["payment_intent"])

    async def invoice(self, customer: str, organization_id: str, price_minor: int) -> str:
        """Bill a customer, who pays at once, for credits that the invoice states.

        Returns the PaymentIntent.
        """
        params: Any = {"customer": customer, "amount": price_minor, "currency": "usd"}
        await self.client.v1.invoice_items.create_async(params)
        bill: Any = {
            "customer": customer,
            "pending_invoice_items_behavior": "include",
            "metadata": {
                "organization_id": organization_id,
                "prepaid_credits": str(self.random.randint(1, 300)),
            },
        }
        invoice = await self.client.v1.invoices.create_async(bill)
        await self.client.v1.invoices.pay_async(invoice.id)
        paid = await self.client.v1.invoice_payments.list_async({"invoice": invoice.id})
        return str(paid.data[0].payment.payment_intent)

    async def refund(self, payment_intent: str, *, part: bool) -> None:
        """Refund a payment, or a third of it."""
        params: Any = {"payment_intent": payment_intent}
        if part:
            intent = await self.client.v1.payment_intents.retrieve_async(payment_intent)
            params["amount"] = intent.amount_received // 3
        await self.client.v1.refunds.create_async(params)

    async def dispute(self, payment_intent: str) -> None:
        """Dispute a payment, or inquire first; the bank decides at once, or has not yet."""
        intent = await self.client.v1.payment_intents.retrieve_async(payment_intent)
        inquiry = self.random.random() < INQUIRY_SHARE
        opened = await self.act(f"charges/{intent.latest_charge}/dispute", {"inquiry": inquiry})
        if inquiry and self.random.random() < ESCALATED_SHARE:
            await self.act(f"disputes/{opened['id']}/escalate", {})
        outcome = self.random.choice(["won", "lost", None])
        if outcome is not None:
            await self.act(f"disputes/{opened['id']}/close", {"outcome": outcome})

    async def change_card(self, payment_method: str, card: str) -> None:
        """Let a saved card answer charges as another: its money runs out, or it is lost."""
        await self.act(f"payment_methods/{payment_method}/card", {"card": card})

    async def authenticate(self, payment_intent: str) -> None:
        """Confirm a payment that requires authentication, and pass or fail the bank's challenge."""
        intents = self.client.v1.payment_intents
        intent = await intents.retrieve_async(payment_intent)
        if intent.status == "requires_payment_method":
            return
        if intent.status == "requires_confirmation":
            intent = await intents.confirm_async(payment_intent, {"return_url": RETURN_URL})
        if intent.status == "requires_action":
            passed = self.random.random() < 0.8
            await self.act(f"payment_intents/{payment_intent}/authenticate", {"passed": passed})

    async def act(self, path: str, body: dict[str, Any]) -> Any:
        """POST to the simulator's control API; a refusal of Stripe's is a RefusedActError."""
        async with self.http.post(f"/_sim/{path}", json=body) as answer:
            document = await answer.json()
            if answer.status >= 400:
                raise RefusedActError(f"{path}: {document}")
            return document


class RefusedActError(Exception):
    """Stripe refuses what a customer wants, such as a second dispute of a payment."""


def customers_of(client: stripe.StripeClient, http: aiohttp.ClientSession, seed: int) -> Customers:
    """Return the customers of a run."""
    return Customers(client, http, Random(f"customers/{seed}"))  # noqa: S311 - a seed
