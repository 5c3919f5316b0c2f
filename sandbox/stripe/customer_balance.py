"""A customer's balance: what is below zero pays invoices, what is above is added to them.

https://docs.stripe.com/billing/customer/balance
"""

from typing import Final

from sandbox.stripe import currencies, customers, events, lists, objects
from sandbox.stripe.call import Call
from sandbox.stripe.params import Kind, Params, Shape, merge_metadata
from sandbox.stripe.store import Json

TRANSACTION: Final = "customer_balance_transaction"
CREATE: Final[Shape] = {
    "amount": Kind.INTEGER,
    "currency": Kind.TEXT,
    "description": Kind.TEXT,
    "expand": Kind.TEXTS,
    "metadata": Kind.METADATA,
}
LIST: Final[Shape] = lists.SHAPE


def create(call: Call, params: Params, customer_id: str) -> Json:
    """POST /v1/customers/{id}/balance_transactions: a negative amount is the customer's credit."""
    customer = customers.load(call, customer_id)
    values = {
        "currency": currencies.check_currency(params["currency"]),
        "description": params.get("description") or None,
        "metadata": merge_metadata({}, params.get("metadata")),
    }
    return move(call, customer, params["amount"], values)


def list_all(call: Call, params: Params, customer_id: str) -> Json:
    """GET /v1/customers/{id}/balance_transactions."""
    url = f"/v1/customers/{customer_id}/balance_transactions"
    return lists.page(call, params, TRANSACTION, url, equal={"customer": customer_id})


def move(call: Call, customer: Json, amount: int, values: Json) -> Json:
    """Change a customer's balance and store the transaction of it."""
    previous = {"balance": customer["balance"]}
    customer["balance"] += amount
    call.store.save(customer)
    events.emit(call, "customer.updated", customer, previous)
    transaction = objects.new(
        TRANSACTION,
        {
            "id": call.ids.new("cbtxn"),
            "amount": amount,
            "created": call.now,
            "customer": customer["id"],
            "ending_balance": customer["balance"],
            **values,
        },
    )
    return call.store.add(transaction)


def apply(call: Call, invoice: Json) -> int:
    """Settle an invoice's total against the balance; returns what is left to be paid.

    A negative total becomes credit. A rest that no card can pay is added to the balance and paid
    with a later invoice: https://docs.stripe.com/invoicing/customer/balance
    """
    customer = customers.load(call, invoice["customer"])
    balance, total = customer["balance"], invoice["total"]
    due: int = max(0, total + balance)
    minimum = currencies.MINIMUM.get(invoice["currency"], currencies.MINIMUM_DEFAULT)
    if due < minimum:
        due = 0
    ending = balance + total - due
    invoice |= {"ending_balance": ending, "starting_balance": balance}
    if ending != balance:
        values = {
            "currency": invoice["currency"],
            "invoice": invoice["id"],
            "type": "applied_to_invoice",
        }
        move(call, customer, ending - balance, values)
    return due
