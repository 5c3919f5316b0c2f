"""Sets of scopes, as people write them and as keys have them."""

from __future__ import annotations

from uuid import UUID

import pytest

from api.operations import OPERATIONS
from shared.access.model import (
    SESSION_SCOPES,
    WRITE_SCOPES,
    Caller,
    Scope,
    parse_scopes,
    scopes_text,
)

ONE, TWO = UUID(int=1), UUID(int=2)


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (["read"], "read"), (["read", "usage"], "usage,read"), (["write"], "write"),
        (["usage", "purchases", "grants", "billing", "read"], "write"), (["admin"], "admin"),
        (["read", "admin"], "admin"), (["write", "read"], "write"),
    ],
)  # fmt: skip
def test_a_set_is_written_by_its_shortest_name(names: list[str], text: str) -> None:
    assert scopes_text(parse_scopes(names)) == text
    assert scopes_text(parse_scopes(text.split(","))) == text


@pytest.mark.parametrize("names", [[], [""], ["root"], ["read", "Write"], ["read "]])
def test_an_unknown_scope_and_none_at_all_are_refused(names: list[str]) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_scopes(names)


def test_admin_includes_every_scope_and_write_all_but_admin() -> None:
    admin = Caller(key_id=ONE, scopes=frozenset({Scope.ADMIN}), organization_id=None, name="a")
    write = Caller(key_id=ONE, scopes=WRITE_SCOPES, organization_id=None, name="w")
    assert {scope for scope in Scope if admin.may(scope)} == {*Scope}
    assert {scope for scope in Scope if write.may(scope)} == {*Scope} - {Scope.ADMIN}


def test_the_sessions_of_an_organization_share_one_rate_apart_from_the_key() -> None:
    found = Caller(
        key_id=ONE, scopes=SESSION_SCOPES, organization_id=TWO, name="k", is_session=True
    )
    assert (found.limited_as, found.actor) == (TWO, "session:k")


def test_a_write_needs_more_than_to_read() -> None:
    reader = Caller(key_id=ONE, scopes=frozenset({Scope.READ}), organization_id=None, name="r")
    let_in = {operation.name for operation in OPERATIONS if operation.lets_in(reader)}
    writes = {
        operation.name
        for operation in OPERATIONS
        if operation.method != "GET" and operation.name != "searchTransactions"
    }
    assert let_in & writes == set()
