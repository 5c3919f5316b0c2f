"""Who may look at what the simulator answers and sends, before it leaves."""

from collections.abc import Callable
from typing import Protocol

from sandbox.stripe.store import Json, Store


class Observer(Protocol):
    """A test passes one in; what it sees it must not change."""

    def answered(self, method: str, path: str, status: int, body: bytes) -> None:
        """See the answer to an API request."""

    def sent(self, event: Json) -> None:
        """See an event as an endpoint is sent it, at each attempt."""


class Nobody:
    """The observer of a simulator outside of tests."""

    def __init__(self, _store: Store) -> None:
        """Need nothing."""

    def answered(self, method: str, path: str, status: int, body: bytes) -> None:
        """Look away."""

    def sent(self, event: Json) -> None:
        """Look away."""


MakeObserver = Callable[[Store], Observer]
