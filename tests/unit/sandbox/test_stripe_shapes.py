"""The simulator's parameters and examples are Stripe's; the check of shapes finds what is not."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import pytest
from stripe.params import CustomerCreateParams, CustomerModifyParams
from stripe.params.checkout import SessionCreateParams

from sandbox.stripe import objects
from sandbox.stripe.routes import ROUTES, Route
from tests.fixtures.stripe_shapes import accepted, problems

# The shapes are of 2026-08-26.dahlia; the pinned client speaks a later version, which added these.
ADDED: dict[tuple[str, str], type] = {
    ("POST", "/v1/checkout/sessions"): SessionCreateParams,
    ("POST", "/v1/customers"): CustomerCreateParams,
    ("POST", "/v1/customers/{id}"): CustomerModifyParams,
}
KINDS = sorted(
    json.loads(files("sandbox.stripe").joinpath("fixtures.json").read_text())["resources"]
)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_a_route_takes_no_parameter_that_stripe_lacks(route: Route) -> None:
    names = accepted(route.method, route.path)
    assert names is not None, "Stripe has no such operation"
    if newer := ADDED.get((route.method, route.path)):
        names |= newer.__annotations__.keys()
    # `expand` may be sent with every request: https://docs.stripe.com/api/expanding_objects
    assert route.shape.keys() - names - {"expand"} == set()
    assert set(route.required) <= names


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "event"])
def test_an_example_of_the_simulator_has_the_shape_of_its_kind(kind: str) -> None:
    assert problems(objects.new(kind, {})) == []


def customer(**changes: Any) -> dict[str, Any]:
    return objects.new("customer", changes)


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (customer(invoice="in_1"), "customer.invoice: no such field"),
        (customer(created="yesterday"), "customer.created: no integer: 'yesterday'"),
        (customer(livemode=None), "customer.livemode: null"),
        (customer(livemode=0), "customer.livemode: no boolean: 0"),
        (customer(balance=True), "customer.balance: no integer: True"),
        (customer(tax_exempt="never"), "customer.tax_exempt: 'never' is not one of"),
        (customer(metadata={"a": 1}), "customer.metadata.a: no string: 1"),
        (customer(address={"planet": "Mars"}), "customer.address.planet: no such field"),
        ({"object": "customer", "id": "cus_1"}, "customer.created: missing"),
        ({"object": "hold", "id": "hold_1"}, ": no kind of Stripe's: hold"),
        ({"object": "list", "data": []}, ": a list with ['data', 'object']"),
        (objects.listed([customer(plan=1)], "/v1/customers"), "customer.plan: no such field"),
        ({"error": {"type": "rude_error"}}, ".error.type: 'rude_error' is not one of"),
        ({"object": "coupon", "id": "c", "deleted": True, "name": "x"}, ": deleted, with"),
    ],
)
def test_what_stripe_would_not_answer_is_named(answer: dict[str, Any], problem: str) -> None:
    assert any(found.startswith(problem) for found in problems(answer)), problems(answer)


def test_an_expanded_object_is_held_against_its_own_kind() -> None:
    charge = objects.new("charge", {"customer": customer(plan=1)})
    assert problems(charge) == ["charge.customer.plan: no such field"]


def test_an_event_is_checked_with_its_object_and_what_was_before() -> None:
    data = {"object": customer(plan=1), "previous_attributes": {"email": None, "mood": "good"}}
    event = objects.new("event", {"type": "customer.updated", "data": data})
    assert problems(event) == [
        "customer.updated data: customer.plan: no such field",
        "customer.updated data: previous_attributes.mood: no such field",
    ]
