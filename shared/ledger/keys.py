"""The beginnings of the keys that Prepaid makes itself.

A caller who took one could keep a payment, an expiry or a capture from its own row.
"""

from __future__ import annotations

PAYMENT = "stripe:"
INVOICE = "stripe-invoice:"
EXPIRATION = "expiration:"
HEADER = "idempotency-key:"
REQUEST = "request:"
HOLD = "hold:"
GRANT = "grant:"
RESERVED = (PAYMENT, INVOICE, EXPIRATION, HEADER, REQUEST, HOLD, GRANT)
