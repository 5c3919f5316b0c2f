"""What each method of the clients sends. Both clients share these functions."""

from prepaid_client.requests.buying import (
    activate_price_book,
    auto_recharge,
    checkout,
    complete_checkout,
    create_organization,
    create_price_book,
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
from prepaid_client.requests.request import Amount, Request, exact, exact_all
from prepaid_client.requests.using import (
    capture,
    debit,
    extend,
    get_hold,
    hold,
    quote,
    release,
    usage,
)

__all__ = [
    "Amount",
    "Request",
    "activate_price_book",
    "auto_recharge",
    "balance",
    "capture",
    "checkout",
    "complete_checkout",
    "create_organization",
    "create_price_book",
    "debit",
    "exact",
    "exact_all",
    "explain",
    "extend",
    "get_hold",
    "grant",
    "history",
    "hold",
    "organization",
    "portal",
    "quote",
    "receipt",
    "release",
    "statement",
    "top_up",
    "transactions",
    "usage",
]
