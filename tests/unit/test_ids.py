from __future__ import annotations

import os
import time
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.ids import new_id, new_request_id, parse_id, transaction_public_id

MOMENTS = st.integers(0, 2**48 - 1)
TAILS = st.binary(min_size=10, max_size=10)


@given(moment=MOMENTS, tail=TAILS)
def test_an_id_is_a_version_7_uuid_that_begins_with_its_moment(moment: int, tail: bytes) -> None:
    found = new_id(moment, tail)
    assert (found.version, found.variant) == (7, "specified in RFC 4122")
    assert found.int >> 80 == moment


@given(one=MOMENTS, two=MOMENTS, tail=TAILS)
def test_ids_are_ordered_by_their_moments(one: int, two: int, tail: bytes) -> None:
    assert (new_id(one, tail) < new_id(two, tail)) == (one < two)


def test_ids_of_one_moment_are_different() -> None:
    assert len({new_id(1) for _ in range(1000)}) == 1000


def test_a_process_and_its_fork_make_different_ids() -> None:
    new_id(1)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, new_id(1).bytes)
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 16) != new_id(1).bytes
    os.close(reading)
    os.close(writing)


def test_an_id_is_of_now() -> None:
    before = time.time_ns() // 1_000_000
    assert before <= new_id().int >> 80 <= time.time_ns() // 1_000_000


@given(value=st.uuids())
def test_an_id_is_read_back_from_each_of_its_forms(value: UUID) -> None:
    forms = [str(value), value.hex, str(value).upper(), f"{{{value}}}"]
    for text in (*forms, transaction_public_id(value)):
        assert parse_id(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "", "acme", "ct_", "ct_acme", "evt_1", str(UUID(int=1)) + "0", "ä" * 32, "\0",
        "0x" + "1" * 30, "+" + "1" * 31, "1_" + "1" * 30, " " + "1" * 31, "1" * 31 + "\n",
        "\u0661" * 32, "\uff11" * 32, "{" + "1" * 32, "urn:uuid:" + "1" * 32,
        "-".join("1" * 32), "ct_ct_" + "1" * 32, "1" * 8 + "-" + "1" * 24,
    ],
)  # fmt: skip
def test_what_is_no_id_is_none(text: str) -> None:
    assert parse_id(text) is None


@given(text=st.text())
def test_no_text_whatever_is_more_than_no_id(text: str) -> None:
    assert parse_id(text) is None or isinstance(parse_id(text), UUID)


def test_request_ids_are_different_and_plain() -> None:
    made = [new_request_id() for _ in range(100)]
    assert len(set(made)) == 100
    assert all(text.startswith("req_") and text.isascii() and len(text) <= 64 for text in made)
