"""Verifying the ledger: each row against the row before it, what is derived against the rows.

Every check is a statement of its own over a page of rows or of organizations, and so is its
snapshot: no transaction is open for longer than one page takes, whatever the size of the ledger.
"""

from shared.ledger.verification.anchors import Anchor, anchor, verify_heads
from shared.ledger.verification.model import Verification
from shared.ledger.verification.service import verify, verify_day

__all__ = ["Anchor", "Verification", "anchor", "verify", "verify_day", "verify_heads"]
