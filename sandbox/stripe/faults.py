"""Faults on request: which API answers and webhooks go wrong, and how often.

They are kept in the state file with their counts, so they act the same way each time, survive a
restart, and one that a rolled-back act used up is there again.
"""

import re
from collections.abc import Callable
from fnmatch import fnmatchcase
from random import Random
from typing import Annotated, Final

import msgspec

from sandbox.stripe import errors
from sandbox.stripe.ids import Ids
from sandbox.stripe.store import Json, Store

ON_ANSWERS: Final = (
    "answer_lost",
    "bad_parameter_400",
    "conflict_409",
    "cut_mid_body",
    "error_500",
    "error_500_after",
    "error_500_stored",
    "forbidden_403",
    "rate_limited",
    "refused",
    "slow",
    "unauthorized_401",
)
ON_WEBHOOKS: Final = ("dropped", "duplicated", "never_generated", "shuffled", "webhook_first")

_Count = Annotated[int, msgspec.Meta(ge=0)]


class Fault(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """One wish: `fault` befalls `times` matching requests or events, after `skip` of them.

    With `share` it befalls that part of them alone, the same ones for the same `seed`.
    In `path` a `*` stands for one segment and `**` for any number; in `event` a `*` for any text.
    With `customer` it befalls alone what is about that customer, so that many tests can share one
    simulator; with `key`, requests with that API key alone.
    """

    fault: str
    method: str = "*"
    path: str | None = None
    event: str | None = None
    customer: str | None = None
    key: str | None = None
    times: Annotated[int, msgspec.Meta(ge=1)] = 1
    skip: _Count = 0
    share: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1.0
    seconds: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    retry_after: _Count | None = None
    seed: int = 0

    def meets_request(self, method: str, path: str, customer: str | None, key: str) -> bool:
        """Tell whether a request is meant."""
        if self.path is None or self.method not in {"*", method}:
            return False
        if self.customer not in {None, customer} or self.key not in {None, key}:
            return False
        parts = re.split(r"(\*\*?)", self.path)
        pattern = "".join({"*": "[^/]+", "**": ".*"}.get(p, re.escape(p)) for p in parts)
        return re.fullmatch(pattern, path) is not None

    def meets_event(self, event_type: str, customer: str | None) -> bool:
        """Tell whether an event is meant."""
        if self.event is None or self.customer not in {None, customer}:
            return False
        return fnmatchcase(event_type, self.event)

    def takes(self, number: int) -> bool:
        """Tell whether the matching request or event of this number is in the share."""
        return self.share == 1 or Random(f"{self.seed}/{number}").random() < self.share  # noqa: S311


class Strike(msgspec.Struct, frozen=True):
    """A fault that befalls something now, for the `number`-th time."""

    fault: Fault
    number: int

    def rank(self) -> float:
        """Return the place among shuffled deliveries: the same for the same seed and number."""
        return Random(f"{self.fault.seed}/{self.number}").random()  # noqa: S311  # no secret


def add(store: Store, ids: Ids, params: Json) -> Json:
    """Keep a wish; refuses with 400 what is no fault or says not what it befalls."""
    try:
        fault = msgspec.convert(params, Fault)
    except msgspec.ValidationError as error:
        raise errors.malformed(str(error)) from error
    if fault.fault not in {*ON_ANSWERS, *ON_WEBHOOKS}:
        known = ", ".join((*ON_ANSWERS, *ON_WEBHOOKS))
        raise errors.malformed(f"Invalid fault: must be one of {known}", param="fault")
    needed, other = ("path", "event") if fault.fault in ON_ANSWERS else ("event", "path")
    if getattr(fault, needed) is None or getattr(fault, other) is not None:
        raise errors.malformed(f"`{fault.fault}` needs `{needed}` alone.", param=needed)
    fault_id = ids.new("fault")
    store.execute(
        "INSERT INTO faults (id, wish) VALUES (?, ?)", (fault_id, msgspec.json.encode(fault))
    )
    return next(kept for kept in list_all(store) if kept["id"] == fault_id)


def list_all(store: Store) -> list[Json]:
    """List every wish with what was skipped and used of it, oldest first."""
    return [
        {
            "id": row["id"],
            **msgspec.to_builtins(_wish(row["wish"])),
            "skipped": row["skipped"],
            "used": row["used"],
        }
        for row in store.execute("SELECT * FROM faults ORDER BY seq")
    ]


def clear(store: Store, fault_id: str | None = None) -> None:
    """Forget every wish, or one; what was struck already stays so."""
    store.execute("DELETE FROM faults WHERE id = coalesce(?, id)", (fault_id,))


def by_customer(store: Store) -> bool:
    """Tell whether any wish names a customer, so that requests must be read to be matched."""
    return any(_wish(row["wish"]).customer for row in store.execute("SELECT wish FROM faults"))


def customer_of(subject: Json) -> str | None:
    """Tell which customer an object is about, if any."""
    named = subject.get("id") if subject.get("object") == "customer" else subject.get("customer")
    return named if isinstance(named, str) else None


def for_request(
    store: Store, method: str, path: str, customer: str | None = None, key: str = ""
) -> Strike | None:
    """Use up and return the oldest wish that means this request."""
    return _take(store, lambda fault: fault.meets_request(method, path, customer, key))


def for_event(store: Store, event_type: str, customer: str | None = None) -> Strike | None:
    """Use up and return the oldest wish that means this event."""
    return _take(store, lambda fault: fault.meets_event(event_type, customer))


def _take(store: Store, meets: Callable[[Fault], bool]) -> Strike | None:
    for row in store.execute("SELECT * FROM faults ORDER BY seq").fetchall():
        fault = _wish(row["wish"])
        if row["used"] >= fault.times or not meets(fault):
            continue
        if row["skipped"] < fault.skip or not fault.takes(row["skipped"] + row["used"]):
            store.execute("UPDATE faults SET skipped = skipped + 1 WHERE seq = ?", (row["seq"],))
            continue
        store.execute("UPDATE faults SET used = used + 1 WHERE seq = ?", (row["seq"],))
        return Strike(fault, row["used"] + 1)
    return None


def _wish(raw: bytes) -> Fault:
    return msgspec.json.decode(raw, type=Fault)
