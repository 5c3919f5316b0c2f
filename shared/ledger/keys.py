"""Prefixes of the idempotency keys that Prepaid generates.

A caller that used one could block the row of a payment, an expiration or a capture.
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
