"""The parts of console pages: charts, payload trees, cursors, signatures, texts."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest

from console.framework import charts, formatting, paging
from console.framework.charts import Series, Shape
from console.framework.payload_tree import NODES_MAX, Node, tree
from console.framework.signing import Signer
from shared.errors import InvalidRequestError

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
ID = UUID(int=7)


def nodes(node: Node) -> int:
    return 1 + sum(map(nodes, node.children))


def test_a_payload_of_ten_megabytes_is_a_page_of_bounded_size() -> None:
    payload = {"text": "x" * 5_000_000, "list": [{"n": n} for n in range(300_000)]}
    shown = tree(payload)
    assert nodes(shown) <= NODES_MAX + 1
    text, items = shown.children
    assert text.text.endswith("… (5,000,000 characters)")
    assert items.text == "300,000 items"
    assert items.left_out == 300_000 - len(items.children)


def test_a_payload_that_is_nested_deeply_is_cut() -> None:
    value = json.loads("[" * 900 + "]" * 900)
    assert nodes(tree(value)) < 20


def test_a_tree_shows_each_kind_of_value() -> None:
    shown = tree({"a": None, "b": True, "c": 1.5, "d": "x", "e": {}, "f": []})
    assert [(n.name, n.kind, n.text) for n in shown.children] == [
        ("a", "null", "null"),
        ("b", "boolean", "true"),
        ("c", "number", "1.5"),
        ("d", "text", "x"),
        ("e", "object", "0 fields"),
        ("f", "list", "0 items"),
    ]


@pytest.mark.parametrize("shape", Shape)
@pytest.mark.parametrize(
    "values", [[], [0], [5], [-3, 4], [1e-9, 2e-9], [10**12, 1], [Decimal("0.5")] * 3]
)
def test_a_chart_of_any_values_fits_into_its_frame(shape: Shape, values: list[float]) -> None:
    points = [(NOW + timedelta(minutes=n), value) for n, value in enumerate(values)]
    drawn = charts.chart("Title", [Series("s", points)], shape=shape)
    assert len(drawn.rows) == len(values)
    assert all(0 <= tick.position <= drawn.height for tick in drawn.ticks_y)
    assert 2 <= len(drawn.ticks_y) <= 7
    for bar in drawn.drawings[0].bars:
        assert 0 <= bar.x <= bar.x + bar.width <= drawn.width
        assert 0 <= bar.y <= bar.y + bar.height <= drawn.height


def test_a_chart_draws_at_most_six_series_of_500_points() -> None:
    points = [(NOW + timedelta(minutes=n), n) for n in range(2_000)]
    drawn = charts.chart("Title", [Series(str(n), points) for n in range(9)])
    assert len(drawn.drawings) == 6
    assert len(drawn.rows) == 500


@pytest.mark.parametrize(
    ("value", "labels"),
    [
        (8_000, ["0", "2,000", "4,000", "6,000", "8,000"]),
        (20_000, ["0", "5,000", "10k", "15k", "20k"]),
        (2_000_000, ["0", "500k", "1M", "1.5M", "2M"]),
        (-40_000_000_000, ["-40B", "-20B", "0"]),
        (4 * 10**12, ["0", "1T", "2T", "3T", "4T"]),
    ],
)
def test_the_labels_of_an_axis_fit_into_its_margin(value: int, labels: list[str]) -> None:
    drawn = charts.chart("T", [Series("s", [(NOW, value)])])
    assert [tick.label for tick in drawn.ticks_y] == labels


def test_a_chart_of_less_than_four_minutes_has_seconds() -> None:
    points = [(NOW, 1), (NOW + timedelta(minutes=2), 2)]
    labels = [tick.label for tick in charts.chart("T", [Series("s", points)]).ticks_x]
    assert len(set(labels)) == len(labels) == 5
    assert all(re.fullmatch(r"\d\d:\d\d:\d\d", label) for label in labels)


def test_steps_hold_a_value_until_the_next() -> None:
    points = [(NOW, 1), (NOW + timedelta(hours=1), 2)]
    (drawing,) = charts.chart("T", [Series("s", points)], shape=Shape.STEPS).drawings
    assert re.fullmatch(r"M[\d.]+ [\d.]+ H[\d.]+ V[\d.]+", drawing.path)


def test_a_cursor_returns_the_position_that_made_it() -> None:
    cursor = paging.encode(NOW, ID, 3, "x")
    assert paging.decode({"cursor": cursor}, datetime, UUID, int, str) == (NOW, ID, 3, "x")
    assert paging.decode({}, datetime, UUID) is None


@pytest.mark.parametrize(
    "cursor",
    [
        "x",
        "=",
        "é",
        paging.encode(NOW),
        paging.encode(ID, NOW),
        paging.encode(NOW.replace(tzinfo=None), ID),
        paging.encode("0001-01-01T00:00:00+23:59", ID),
        paging.encode("9999-12-31T23:59:59-23:59", ID),
        paging.encode(2**70),
        "A" * 401,
    ],
)
def test_any_other_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(InvalidRequestError, match="not a cursor of this list"):
        paging.decode({"cursor": cursor}, datetime, UUID)


@pytest.mark.parametrize("cursor", [paging.encode("a\0b"), paging.encode(["x"])])
def test_a_text_that_postgresql_cannot_compare_is_refused(cursor: str) -> None:
    with pytest.raises(InvalidRequestError):
        paging.decode({"cursor": cursor}, str)


@pytest.mark.parametrize("seq", [2**63 - 1, -(2**63), 2**64])
def test_a_number_that_a_statement_could_not_add_to_is_refused(seq: int) -> None:
    with pytest.raises(InvalidRequestError):
        paging.decode({"cursor": paging.encode(seq)}, int)


def test_a_page_keeps_its_filters_and_knows_whether_another_follows() -> None:
    query = {"state": "dead & gone", "empty": "", "cursor": "old"}
    page = paging.rows([1, 2, 3], path="/p", query=query, position=lambda n: [n], rows_max=2)
    assert list(page.rows) == [1, 2]
    assert page.first == "/p?state=dead+%26+gone"
    assert page.next == f"/p?state=dead+%26+gone&cursor={paging.encode(2)}"
    last = paging.rows([1], path="/p", query={}, position=lambda n: [n], rows_max=2)
    assert (last.first, last.next) == (None, None)


def test_a_signature_is_of_one_text_purpose_and_secret() -> None:
    signer = Signer("a secret")
    signed = signer.sign("session", "tökén")
    assert signer.verify("session", signed) == "tökén"
    assert Signer("a secret").verify("session", signed) == "tökén"
    assert signer.verify("message", signed) is None
    assert Signer("another").verify("session", signed) is None
    for wrong in ("", ".", "x", f"{signed}A", signed[:-1], "é.é", "A" * 9_000):
        assert signer.verify("session", wrong) is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "now"),
        (-5, "5 s ago"),
        (-150, "2 min ago"),
        (7_300, "in 2 h"),
        (-3 * 86_400, "3 days ago"),
        (-400 * 86_400, "13 months ago"),
    ],
)
def test_a_time_is_shown_relative_to_now(seconds: int, text: str) -> None:
    assert formatting.relative(NOW + timedelta(seconds=seconds), NOW) == text


def test_amounts_are_exact() -> None:
    assert formatting.amount(Decimal("-1234567.890000000")) == "-1,234,567.89"
    assert formatting.amount(Decimal(0)) == "0"
    assert formatting.amount(Decimal("0.000000001")) == "0.000000001"


@pytest.mark.parametrize(
    ("state", "tone"),
    [("applied", "good"), ("dead", "bad"), ("retrying", "warning"), ("armed", "neutral")],
)
def test_a_state_has_a_tone(state: str, tone: str) -> None:
    assert formatting.tone(state) == tone
