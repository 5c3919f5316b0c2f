"""Turns: transactions of one drain lock rows one after the other, and read beside each other."""

from __future__ import annotations

import asyncio
from typing import Self


class Turn:
    """The turn of one transaction: taken before its first lock, returned after its end.

    A transaction that has no lock yet may wait for it: nobody waits for that transaction.
    """

    def __init__(self, lock: asyncio.Lock | None) -> None:
        """Make the turn of a transaction; without a `lock`, transactions take no turns."""
        self._lock = lock
        self._is_taken = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._lock is not None and self._is_taken:
            self._lock.release()

    async def take(self) -> None:
        """Wait for the turn, unless this transaction has it."""
        if self._lock is not None and not self._is_taken:
            await self._lock.acquire()
            self._is_taken = True
