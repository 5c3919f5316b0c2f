"""The parts of a running simulator that requests share."""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from sandbox.stripe import errors
from sandbox.stripe.call import Call
from sandbox.stripe.clock import Clock
from sandbox.stripe.idempotency import Keys
from sandbox.stripe.ids import Ids
from sandbox.stripe.observer import Observer
from sandbox.stripe.store import Json, Store
from sandbox.stripe.webhooks import Deliverer

REQUESTS_REMEMBERED: Final = 1_000


@dataclass(slots=True, kw_only=True)
class Simulator:
    """What the API, the pages and the control API work on.

    `origin` is the address it listens at; `requests` are the last API requests, oldest first;
    `restricted_keys` the permissions of keys that do not have all.
    """

    store: Store
    clock: Clock
    ids: Ids
    keys: Keys
    deliverer: Deliverer
    account: str
    origin: str
    requests: deque[Json]
    observer: Observer
    restricted_keys: dict[str, frozenset[str]] = field(default_factory=dict)

    def call(
        self,
        request_id: str | None = None,
        key: str | None = None,
        *,
        account: str = "",
        about: str | None = None,
    ) -> Call:
        """Begin an act at this moment: in a connected account, or in that of an object."""
        return Call(
            store=self.store.of(account) if about is None else self.store.about(about),
            ids=self.ids,
            now=int(self.clock.now()),
            account=self.account,
            request_id=request_id,
            idempotency_key=key,
        )

    @contextmanager
    def committed(self) -> Iterator[None]:
        """One transaction for an act from outside the API; wakes the deliveries afterwards.

        An `ApiError` that keeps its effects is raised again after they are committed.
        """
        refusal = None
        with self.store.transaction():
            try:
                yield
            except errors.ApiError as error:
                if not error.keeps_effects:
                    raise
                refusal = error
        self.deliverer.wake()
        if refusal is not None:
            raise refusal
