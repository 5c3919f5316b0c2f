"""Ids and secrets that look like Stripe's: a prefix that names the kind, then base 62."""

import string
from random import Random, SystemRandom
from typing import Final

ALPHABET: Final = string.ascii_letters + string.digits
LENGTH: Final = 24
LENGTHS: Final = {"cus": 14, "req": 14, "prod": 14, "cs_test_a1": 56, "whsec": 32}


class Ids:
    """Makes ids; a seeded source makes the same ones again."""

    def __init__(self, source: Random | None = None) -> None:
        self._source = source or SystemRandom()

    def new(self, prefix: str) -> str:
        """Make an id such as `pi_3Ab…`; the length follows the kind."""
        lead = {"pi": "3", "ch": "3", "re": "3", "txn": "3"}.get(prefix, "1")
        length = LENGTHS.get(prefix)
        if length is None:
            return f"{prefix}_{lead}{self.text(LENGTH - 1)}"
        joint = "" if prefix.startswith("cs_") else "_"
        return f"{prefix}{joint}{self.text(length)}"

    def text(self, length: int) -> str:
        """Make `length` random letters and digits."""
        return "".join(self._source.choices(ALPHABET, k=length))
