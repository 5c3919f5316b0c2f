"""The pages that a cardholder sees: pay, authenticate, receipt. They work without JavaScript."""

from html import escape

from aiohttp import web

from sandbox.stripe import checkout_payment, checkout_setup, errors, layout
from sandbox.stripe.currencies import shown
from sandbox.stripe.simulator import Simulator
from sandbox.stripe.store import Json


def add_pages(app: web.Application, simulator: Simulator) -> None:
    """Add the pages' routes."""
    pages = Pages(simulator)
    app.router.add_get("/c/pay/{id}", pages.show_session)
    app.router.add_post("/c/pay/{id}", pages.pay_session)
    app.router.add_get("/authenticate/{id}", pages.show_challenge)
    app.router.add_post("/authenticate/{id}", pages.answer_challenge)
    app.router.add_get("/receipts/{id}", pages.show_receipt)
    app.router.add_get("/invoices/{id}", pages.show_receipt)


class Pages:
    """Handlers; each act of the cardholder is one transaction."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator

    async def show_session(self, request: web.Request) -> web.Response:
        """GET /c/pay/{id}: the amount and a card field."""
        session = self._load("checkout.session", request.match_info["id"])
        if session is None:
            return layout.message("Nothing here", "There is no such Checkout Session.", 404)
        return self._session_page(session, self._last_refusal(session))

    async def pay_session(self, request: web.Request) -> web.Response:
        """POST /c/pay/{id} with `card` and `email`: pay, challenge, or show why not."""
        form = await request.post()
        session_id = request.match_info["id"]
        entered = checkout_payment.Form(
            card=str(form.get("card", "")),
            email=str(form.get("email", "")) or None,
            promotion_code=str(form.get("promotion_code", "")) or None,
        )
        try:
            session = self.pay(session_id, entered)
        except errors.ApiError as error:
            unpaid = self._load("checkout.session", session_id)
            if unpaid is None:
                return layout.message("Nothing here", str(error), error.status)
            return self._session_page(unpaid, str(error), error.status)
        if session["status"] == "complete":
            raise web.HTTPSeeOther(checkout_payment.success_address(session))
        raise web.HTTPSeeOther(f"/authenticate/{self.intent_of(session)}")

    def pay(self, session_id: str, form: checkout_payment.Form) -> Json:
        """Pay in one transaction; a declined card leaves its trace before `ApiError` is raised."""
        with self._simulator.committed():
            return checkout_payment.pay(self._simulator.call(about=session_id), session_id, form)

    def intent_of(self, session: Json) -> str:
        """Return the id of the session's PaymentIntent or SetupIntent; empty before it has one."""
        return checkout_payment.intent_of(self._simulator.call(about=session["id"]), session)

    async def show_challenge(self, request: web.Request) -> web.Response:
        """GET /authenticate/{id}: the issuer's 3-D Secure page."""
        intent = self._intent(request.match_info["id"])
        if intent.get("status") != "requires_action":
            return layout.message("Nothing to do", "This payment waits for no authentication.", 404)
        amount = "Save your card"
        if intent["object"] == "payment_intent":
            amount = escape(shown(intent["amount"], intent["currency"]))
        return layout.page(
            "3-D Secure",
            f'<h1>Your bank asks: is this you?</h1><p class="amount">{amount}</p>'
            '<form method="post">'
            '<button name="answer" value="pass">Complete authentication</button>'
            '<button name="answer" value="fail" class="second">Fail authentication</button></form>',
        )

    async def answer_challenge(self, request: web.Request) -> web.Response:
        """POST /authenticate/{id} with `answer` `pass` or `fail`: then back to where it began."""
        form = await request.post()
        intent_id = request.match_info["id"]
        try:
            self.authenticate(intent_id, passed=form.get("answer") == "pass")
        except errors.ApiError as error:
            if error.status == 404:  # noqa: PLR2004  # not found, as HTTP names it
                return layout.message("Nothing here", str(error), error.status)
        intent = self._intent(intent_id)
        address = checkout_payment.way_back(self._simulator.call(about=intent_id), intent)
        if address is not None:
            raise web.HTTPSeeOther(address)
        if intent["status"] == "succeeded":
            return layout.message("Authenticated", "That went through. You can close this page.")
        why = intent.get("last_payment_error") or intent.get("last_setup_error") or {}
        return layout.message("Refused", why.get("message", "That did not go through."), 402)

    def authenticate(self, intent_id: str, *, passed: bool) -> Json:
        """Answer a challenge in one transaction; raises `ApiError` when the payment fails."""
        with self._simulator.committed():
            call = self._simulator.call(about=intent_id)
            if self._load("setup_intent", intent_id) is not None:
                return checkout_setup.answer(call, intent_id, passed=passed)
            return checkout_payment.answer_challenge(call, intent_id, passed=passed)

    async def show_receipt(self, request: web.Request) -> web.Response:
        """GET /receipts/{charge} and /invoices/{invoice}."""
        receipt_id = request.match_info["id"]
        found = self._simulator.store.about(receipt_id).get(receipt_id)
        if found is None or found["object"] not in {"charge", "invoice"}:
            return layout.message("Nothing here", "There is no such receipt.", 404)
        amount = found["amount"] if found["object"] == "charge" else found["amount_paid"]
        refunded = found.get("amount_refunded", 0)
        rows = [("Paid", shown(amount, found["currency"])), ("Reference", found["id"])]
        if refunded:
            rows.append(("Refunded", shown(refunded, found["currency"])))
        return layout.page(
            "Receipt",
            f'<h1>Receipt</h1><p class="amount">{escape(rows[0][1])}</p>{layout.table(rows[1:])}',
        )

    def _session_page(self, session: Json, refusal: str | None, status: int = 200) -> web.Response:
        if session["status"] != "open":
            return layout.message(
                "Checkout", f"This Checkout Session is {session['status']}.", status
            )
        total, act = "Save your card", "Save card"
        if session["mode"] != "setup":
            total = escape(shown(session["amount_total"], session["currency"]))
            act = f"Pay {total}"
        items = self._simulator.store.hidden(session["id"]).get("line_items", [])
        rows = [
            (
                f"{item['description']} x {item['quantity']}",
                shown(item["amount_subtotal"], item["currency"]),
            )
            for item in items
        ]
        rows += [
            (name, shown(amount, session["currency"])) for name, amount in _parts(session) if amount
        ]
        email = escape((session["customer_details"] or {}).get("email") or "", quote=True)
        cancel = session["cancel_url"]
        return layout.page(
            "Checkout",
            f'<h1>Checkout</h1><p class="amount">{total}</p>{layout.table(rows)}'
            + (f'<p class="error" role="alert">{escape(refusal)}</p>' if refusal else "")
            + '<form method="post">'
            '<label>Email<input name="email" type="email" autocomplete="off" '
            f'value="{email}"></label>'
            + (
                '<label>Promotion code<input name="promotion_code" autocomplete="off"></label>'
                if session["allow_promotion_codes"]
                else ""
            )
            + '<label>Test card<input name="card" list="cards" inputmode="numeric" required '
            'value="4242424242424242" autocomplete="off"></label>'
            f"{layout.test_cards()}<button>{act}</button></form>"
            + (
                f'<a class="cancel" href="{escape(cancel, quote=True)}">Cancel</a>'
                if cancel
                else ""
            ),
            status,
        )

    def _last_refusal(self, session: Json) -> str | None:
        intent = self._intent(self.intent_of(session))
        error = intent.get("last_payment_error") or intent.get("last_setup_error") or {}
        message: str | None = error.get("message")
        return message

    def _intent(self, intent_id: str) -> Json:
        """Read a PaymentIntent or SetupIntent; nothing at all if it is neither."""
        found = self._load("payment_intent", intent_id) or self._load("setup_intent", intent_id)
        return found or {}

    def _load(self, kind: str, object_id: str) -> Json | None:
        found = self._simulator.store.about(object_id).get(object_id)
        return found if found is not None and found["object"] == kind else None


def _parts(session: Json) -> list[tuple[str, int]]:
    """Return what a session's total has besides its lines; their prices may include tax."""
    details = session["total_details"]
    discount, shipping = details["amount_discount"] or 0, details["amount_shipping"] or 0
    parts = (session["amount_subtotal"] or 0) - discount + shipping
    added = (session["amount_total"] or 0) - parts
    return [
        ("Discount", discount),
        ("Shipping", shipping),
        ("Tax", added),
        ("Tax, included", (details["amount_tax"] or 0) - added),
    ]
