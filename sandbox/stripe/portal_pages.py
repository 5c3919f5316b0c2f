"""The Billing Portal's page: cards to add, to prefer, to remove, and the way back."""

from collections.abc import Callable
from html import escape
from typing import Any

from aiohttp import web

from sandbox.stripe import billing_portal, errors, layout
from sandbox.stripe.call import Call
from sandbox.stripe.simulator import Simulator
from sandbox.stripe.store import Json


def add_portal(app: web.Application, simulator: Simulator) -> None:
    """Add the page's routes."""
    portal = Portal(simulator)
    app.router.add_get("/p/session/{id}", portal.show)
    app.router.add_post("/p/session/{id}/add", portal.add)
    app.router.add_post("/p/session/{id}/default", portal.make_default)
    app.router.add_post("/p/session/{id}/remove", portal.remove)


class Portal:
    """Handlers; each act of the customer is one transaction."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator

    async def show(self, request: web.Request) -> web.Response:
        """GET /p/session/{id}: the customer's cards."""
        try:
            return self._page(self._session(request))
        except errors.ApiError as error:
            return layout.message("Nothing here", str(error), error.status)

    async def add(self, request: web.Request) -> web.Response:
        """POST /p/session/{id}/add with `card`: keep it, after 3-D Secure if its bank asks."""
        return await self._act(request, "card", billing_portal.add_card)

    async def make_default(self, request: web.Request) -> web.Response:
        """POST /p/session/{id}/default with `payment_method`."""
        return await self._act(request, "payment_method", billing_portal.make_default)

    async def remove(self, request: web.Request) -> web.Response:
        """POST /p/session/{id}/remove with `payment_method`."""
        return await self._act(request, "payment_method", billing_portal.remove_card)

    async def _act(
        self, request: web.Request, field: str, act: Callable[[Call, Json, str], Any]
    ) -> web.Response:
        """Do what a form asks and show the page again, the bank's, or what was wrong."""
        form = await request.post()
        try:
            session = self._session(request)
        except errors.ApiError as error:
            return layout.message("Nothing here", str(error), error.status)
        try:
            with self._simulator.committed():
                done = act(
                    self._simulator.call(about=session["id"]), session, str(form.get(field, ""))
                )
        except errors.ApiError as error:
            return self._page(session, str(error), error.status)
        if isinstance(done, dict) and done["status"] == "requires_action":
            raise web.HTTPSeeOther(f"/authenticate/{done['id']}")
        raise web.HTTPSeeOther(f"/p/session/{session['id']}")

    def _session(self, request: web.Request) -> Json:
        session_id = request.match_info["id"]
        return self._simulator.call(about=session_id).load(billing_portal.SESSION, session_id)

    def _page(self, session: Json, refusal: str | None = None, status: int = 200) -> web.Response:
        call, base = self._simulator.call(about=session["id"]), f"/p/session/{session['id']}"
        default = billing_portal.default_of(call, session)
        kept = "".join(
            _card(base, method, is_default=method["id"] == default)
            for method in billing_portal.cards_of(call, session)
        )
        back = session["return_url"]
        return layout.page(
            "Billing",
            "<h1>Your cards</h1>"
            + (f'<p class="error" role="alert">{escape(refusal)}</p>' if refusal else "")
            + (kept or "<p>No card is saved.</p>")
            + f'<form method="post" action="{base}/add">'
            '<label>Test card<input name="card" list="cards" inputmode="numeric" required '
            f'autocomplete="off"></label>{layout.test_cards()}<button>Add card</button></form>'
            + (f'<a class="cancel" href="{escape(back, quote=True)}">Back</a>' if back else ""),
            status,
        )


def _card(base: str, method: Json, *, is_default: bool) -> str:
    card = method["card"]
    expiry = f"{card['exp_month']:02d}/{card['exp_year']}"
    name = f"{card['brand']} **** {card['last4']}, {expiry}{', default' if is_default else ''}"
    actions = ("remove", "Remove"), *(() if is_default else (("default", "Make default"),))
    buttons = "".join(
        f'<button class="second" formaction="{base}/{path}">{label}</button>'
        for path, label in actions
    )
    return (
        f'<form method="post"><p>{escape(name)}</p>'
        f'<input type="hidden" name="payment_method" value="{method["id"]}">{buttons}</form>'
    )
