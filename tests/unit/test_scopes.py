"""Sets of scopes, as people write them and as keys have them."""

from __future__ import annotations

from uuid import UUID

import pytest

from api.endpoints import OPERATIONS
from shared.access.model import (
    SESSION_SCOPES,
    WRITE_SCOPES,
    Caller,
    Scope,
    parse_scopes,
    scopes_text,
)

ONE, TWO = UUID(int=1), UUID(int=2)
# What a key with one scope alone may ask for. `write` is the sum of the first five; `admin` may
# ask for everything.
READS = """
    getBilling getCredits getCreditTransaction getGrant getHold getNoCapReminder getOrganization
    getTransaction getTransactionReceipt getUsage explainTransaction listCreditHistory listGrants
    listHolds listOrganizations listOrganizationTransactions listRechargeAttempts
    listRequiredActions listTransactions quoteUsage searchTransactions exportTransactions getAlerts
    getBudget getPriceBook getStatement getUsageDimensions listBudgets listPriceBooks reportUsage
"""
ALLOWED = {
    "usage": """
        createCreditTransaction createCreditTransactions createHold captureHold extendHold
        releaseHold createUsage createUsageBatch quoteUsage getCredits getHold listHolds
    """,
    "purchases": "createCheckout createPortalSession setUpPaymentMethod topUp completeLocal",
    "grants": "createCreditTransaction createCreditTransactions createGrant voidGrant",
    "billing": """
        getBilling changeBilling changeOrganization dismissNoCapReminder resumeAutoRecharge
        cancelRechargeAttempt createBudget getBudget changeBudget listBudgets removeBudget
        getAlerts putAlerts changeUsageDimensions
    """,
    "read": READS,
}
BY_SEVERAL = {"createSession"}  # billing, read and purchases together
OF_ADMIN_ALONE = {
    "createOrganization", "listWebhookEndpoints", "putWebhookEndpoint", "removeWebhookEndpoint",
    "createPriceBook", "activatePriceBook",
}  # fmt: skip


def let_in(*scopes: Scope) -> set[str]:
    """Return the operations that a key with these scopes may ask for."""
    caller = Caller(key_id=ONE, scopes=frozenset(scopes), organization_id=None, name="k")
    return {operation.name for operation in OPERATIONS if operation.allows(caller)}


@pytest.mark.parametrize("scope", Scope)
def test_r3_each_scope_alone_lets_in_to_its_own_operations_and_to_no_other(scope: Scope) -> None:
    every = {operation.name for operation in OPERATIONS}
    allowed = every if scope is Scope.ADMIN else {*ALLOWED[scope].split()}
    assert let_in(scope) == allowed


def test_r3_write_is_the_sum_of_its_scopes_and_the_rest_is_for_admin() -> None:
    every = {operation.name for operation in OPERATIONS}
    assert let_in(*WRITE_SCOPES) == every - OF_ADMIN_ALONE
    alone = set[str]().union(*(let_in(scope) for scope in WRITE_SCOPES))
    assert let_in(*WRITE_SCOPES) - alone == BY_SEVERAL
    assert let_in(*SESSION_SCOPES) == let_in(Scope.READ) | let_in(Scope.PURCHASES)


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
    let_in = {operation.name for operation in OPERATIONS if operation.allows(reader)}
    writes = {
        operation.name
        for operation in OPERATIONS
        if operation.method != "GET" and operation.name not in {"searchTransactions", "quoteUsage"}
    }
    assert let_in & writes == set()
