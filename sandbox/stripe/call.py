"""What an endpoint gets to work with."""

from dataclasses import dataclass, field

from sandbox.stripe import errors
from sandbox.stripe.ids import Ids
from sandbox.stripe.store import Json, Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One act inside one SQLite transaction.

    `now` is the simulator's time in whole seconds. `request_id` and `idempotency_key` are those of
    the API request; acts of a cardholder or of the clock have none.
    `awaited` are the events whose webhooks must be out before the request is answered.
    """

    store: Store
    ids: Ids
    now: int
    account: str
    request_id: str | None = None
    idempotency_key: str | None = None
    awaited: list[str] = field(default_factory=list)

    def load(
        self,
        kind: str,
        object_id: str,
        *,
        name: str | None = None,
        param: str = "id",
        status: int = 404,
    ) -> Json:
        """Read an object of one kind, or refuse; `name` is the kind's wording.

        Stripe answers 404 for an id in the path and 400 for one in a parameter.
        """
        found = self.store.get(object_id)
        if found is None or found["object"] != kind:
            raise errors.no_such(name or kind, object_id, param=param, status=status)
        return found
