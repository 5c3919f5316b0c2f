"""Lists with cursors, newest first. https://docs.stripe.com/api/pagination."""

from collections.abc import Mapping, Sequence
from typing import Final

from sandbox.stripe import errors, objects
from sandbox.stripe.call import Call
from sandbox.stripe.params import Kind, Params, Shape
from sandbox.stripe.store import Json

LIMIT_DEFAULT: Final = 10
LIMIT_MAX: Final = 100
CURSORS: Final[Shape] = {
    "limit": Kind.INTEGER,
    "starting_after": Kind.TEXT,
    "ending_before": Kind.TEXT,
    "expand": Kind.TEXTS,
}
SHAPE: Final[Shape] = {**CURSORS, "created": Kind.RANGE}


def page(
    call: Call,
    params: Params,
    kind: str,
    url: str,
    *,
    equal: Mapping[str, str] | None = None,
    types: Sequence[str] = (),
) -> Json:
    """Answer one page of a kind; `has_more` says whether another follows in the same direction."""
    limit = params.get("limit", LIMIT_DEFAULT)
    if not 1 <= limit <= LIMIT_MAX:
        bound = "greater than or equal to 1" if limit < 1 else f"less than or equal to {LIMIT_MAX}"
        raise errors.malformed(
            f"This value must be {bound}.", param="limit", code="parameter_invalid_integer"
        )
    after = _place(call, params, kind, "starting_after")
    before = _place(call, params, kind, "ending_before")
    found = call.store.find(
        kind,
        limit + 1,
        equal=equal,
        types=types,
        created=params.get("created"),
        after=after,
        before=before,
    )
    has_more = len(found) > limit
    # One more than asked tells whether there is more; it is the farthest from the cursor.
    shown = found[-limit:] if before is not None else found[:limit]
    return objects.listed(shown, url, has_more=has_more)


def filters(params: Params, *names: str) -> dict[str, str]:
    """Pick the parameters that must equal a field of the same name."""
    return {name: params[name] for name in names if name in params}


def _place(call: Call, params: Params, kind: str, cursor: str) -> tuple[int, int] | None:
    if cursor not in params:
        return None
    place = call.store.place(kind, params[cursor])
    if place is None:
        raise errors.no_such(kind, params[cursor], param=cursor, status=400)
    return place
