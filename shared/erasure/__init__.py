"""Erasure of personal data of an organization outside the ledger."""
