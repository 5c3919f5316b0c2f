"""What stands for an erased organization, and how its payloads are recognized."""

from __future__ import annotations

from uuid import UUID

from shared.erasure import rules

ID = UUID("01a2069d-5ade-7000-8000-000000000001")


def test_an_erased_organization_is_named_by_its_id() -> None:
    assert rules.pseudonym(ID) == "erased 01a2069d-5ade-7000-8000-000000000001"


def test_a_payload_is_recognized_by_the_id_and_by_each_customer_as_whole_json_strings() -> None:
    assert rules.needles(ID, ["cus_1", "cus_2"]) == [f'"{ID}"', '"cus_1"', '"cus_2"']
    assert rules.needles(ID, []) == [f'"{ID}"']
