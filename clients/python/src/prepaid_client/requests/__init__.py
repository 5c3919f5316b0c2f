"""What each method of the clients sends. Both clients share these functions."""

from prepaid_client.requests.buying import (
    auto_recharge,
    checkout,
    complete_checkout,
    create_organization,
    grant,
    organization,
    portal,
    top_up,
)
from prepaid_client.requests.reading import (
    balance,
    explain,
    history,
    receipt,
    statement,
    transactions,
)
from prepaid_client.requests.request import Amount, Request, exact
from prepaid_client.requests.using import (
    capture,
    debit,
    extend,
    get_hold,
    hold,
    release,
)

__all__ = [
    "Amount",
    "Request",
    "auto_recharge",
    "balance",
    "capture",
    "checkout",
    "complete_checkout",
    "create_organization",
    "debit",
    "exact",
    "explain",
    "extend",
    "get_hold",
    "grant",
    "history",
    "hold",
    "organization",
    "portal",
    "receipt",
    "release",
    "statement",
    "top_up",
    "transactions",
]
