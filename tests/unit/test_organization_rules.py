"""What is refused of an organization: each field with the reason."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from shared.errors import ValidationError
from shared.organizations.rules import MAX, NIL, check, check_change

SLUG = "1 to 100 of a-z, 0-9 and -, not - at an end"
NAME = "1 to 200 printable characters"
EMAIL = "an address such as jo@example.com"
FIELDS: dict[str, Any] = {"slug": "acme", "name": "Acme", "currency": "usd"}


def problem(field: str, message: str) -> dict[str, Any]:
    return {"loc": ["body", field], "msg": message, "type": "value_error"}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"slug": "a"},
        {"slug": "a-1" + "b" * 97},
        {"name": "n"},
        {"name": "n" * 200},
        {"name": "Ä & Söhne"},
        {"name": "می\u200cخواهم"},  # noqa: RUF001 - Persian, with a zero-width non-joiner
        {"name": "Rocket \N{MAN}\N{ZERO WIDTH JOINER}\N{ROCKET}"},
        {"email": "jo@example.com"},
        {"email": f"{'a' * 64}@{'b' * 190}"},
        {"organization_id": UUID(int=1)},
        {"currency": "jpy", "credits_per_unit": Decimal("0.000000001")},
    ],
)
def test_what_an_organization_may_be(changes: dict[str, Any]) -> None:
    check(**FIELDS | changes)


@pytest.mark.parametrize(
    ("changes", "field", "message"),
    [
        ({"organization_id": NIL}, "id", "must not be all zeros"),
        ({"organization_id": MAX}, "id", "must not be all ones"),
        ({"slug": ""}, "slug", SLUG),
        ({"slug": "Acme"}, "slug", SLUG),
        ({"slug": "-a"}, "slug", SLUG),
        ({"slug": "a-"}, "slug", SLUG),
        ({"slug": "a" * 101}, "slug", SLUG),
        ({"slug": UUID(int=1).hex}, "slug", "must not look like an id"),
        (
            {"currency": "USD"},
            "currency",
            "an ISO 4217 code in lower case, such as usd",
        ),
        (
            {"credits_per_unit": Decimal("0.00000001")},
            "currency",
            (
                "the rate PREPAID_CREDITS_PER_UNIT is too fine: credits have 9 decimals, and 0.01"
                " USD would buy a part of the last. Set it to a multiple of 0.0000001."
            ),
        ),
        ({"name": ""}, "name", NAME),
        ({"name": " \u3000"}, "name", NAME),
        ({"name": "n" * 201}, "name", NAME),
        ({"name": "a\nb"}, "name", NAME),
        ({"name": " "}, "name", NAME),
        ({"name": "\u200c\u200d"}, "name", NAME),
        ({"name": "Acme \N{RIGHT-TO-LEFT OVERRIDE}txt.exe"}, "name", NAME),
        ({"email": "example.com"}, "email", EMAIL),
        ({"email": f"{'a' * 65}@b"}, "email", EMAIL),
        ({"email": f"a@{'b' * 191}"}, "email", EMAIL),
        ({"email": "a\0@b"}, "email", EMAIL),
    ],
)
def test_a_field_that_is_wrong_is_named_with_the_reason(
    changes: dict[str, Any], field: str, message: str
) -> None:
    with pytest.raises(ValidationError) as raised:
        check(**FIELDS | changes)
    assert raised.value.errors == [problem(field, message)]
    assert raised.value.detail == f"{field}: {message}"


def test_all_wrong_fields_are_named_at_once() -> None:
    with pytest.raises(ValidationError) as raised:
        check(slug="", name="", currency="", email="", organization_id=NIL)
    errors = raised.value.errors or []
    assert [error["loc"][1] for error in errors] == ["id", "slug", "currency", "name", "email"]
    assert raised.value.detail.startswith(f"id: must not be all zeros; slug: {SLUG}; currency: ")


def test_an_update_may_leave_name_and_address_as_they_are() -> None:
    check_change(name=None, email=None)
    check_change(name="Acme", email="jo@example.com")


def test_an_update_names_all_its_wrong_fields() -> None:
    with pytest.raises(ValidationError) as raised:
        check_change(name="", email="jo")
    assert raised.value.errors == [problem("name", NAME), problem("email", EMAIL)]
