"""The suite's simulators are observed, and the observer says what is not as at Stripe."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from sandbox.stripe import objects
from sandbox.stripe.process import SimulatorProcess
from sandbox.stripe.store import Store
from tests.fixtures.checked_simulator import FILE, ShapeObserver

CUSTOMER = "customer.colour: no such field"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "stripe.sqlite")


@pytest.fixture
def found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "problems"
    file.touch()
    monkeypatch.setenv(FILE, str(file))
    return file


def customer(customer_id: str = "cus_1") -> dict[str, Any]:
    return objects.new("customer", {"id": customer_id, "colour": "red"})


def event(event_id: str = "evt_1") -> dict[str, Any]:
    values = {"id": event_id, "type": "customer.created", "data": {"object": customer()}}
    return objects.new("event", values)


def test_every_simulator_of_the_suite_is_observed(stripe_problems: Path) -> None:
    assert SimulatorProcess.module == "tests.fixtures.checked_simulator"
    assert stripe_problems.exists()


def test_an_answer_and_an_event_that_stripe_would_not_give_are_written_down(
    store: Store, found: Path
) -> None:
    observer = ShapeObserver(store)
    page = objects.listed([customer()], "/v1/customers")
    observer.answered("GET", "/v1/customers", 200, json.dumps(page).encode())
    observer.sent(event())
    assert found.read_text().splitlines() == [
        f"GET /v1/customers 200: {CUSTOMER}",
        f"webhook customer.created: customer.created data: {CUSTOMER}",
    ]


def test_what_a_test_made_up_is_left_alone(store: Store, found: Path) -> None:
    store.add(event(), {"made_up": True})
    store.add(customer(), {"made_up": True})
    observer = ShapeObserver(store)
    observer.sent(event())
    observer.sent(event("evt_2"))
    page = objects.listed([customer()], "/v1/customers")
    for answer in (event(), customer(), page):
        observer.answered("GET", "/v1/events", 200, json.dumps(answer).encode())
    assert found.read_text() == ""


def test_a_state_of_before_connected_accounts_is_the_platforms(tmp_path: Path) -> None:
    file = tmp_path / "old.sqlite"
    with sqlite3.connect(file) as old:
        old.execute(
            "CREATE TABLE objects (seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, "
            "object TEXT NOT NULL, created INTEGER NOT NULL, body TEXT NOT NULL, "
            "hidden TEXT NOT NULL DEFAULT '{}')"
        )
        old.execute(
            "INSERT INTO objects (id, object, created, body) "
            "VALUES ('cus_1', 'customer', 0, '{\"id\": \"cus_1\"}')"
        )
    old.close()
    for _ in range(2):
        store = Store(file)
        assert store.get("cus_1") == {"id": "cus_1"}
        assert store.of("acct_1").get("cus_1") is None
        store.close()
