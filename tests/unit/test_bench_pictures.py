"""The pictures of the benchmark's curves: valid SVG whose points stand where the axes say."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from bench.curves import Curve, Series
from bench.pictures import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, draw

NAMESPACE = "{http://www.w3.org/2000/svg}"


def curve(*points: tuple[float, float], x_base: int | None = None) -> Curve:
    return Curve("c", "Rate < latency", "clients", "a second", (Series("a & b", points),), x_base)


def elements(picture: str, name: str) -> list[ET.Element]:
    return list(ET.fromstring(picture).iter(NAMESPACE + name))  # noqa: S314 - our own


def places(picture: str) -> list[tuple[float, float]]:
    circles = elements(picture, "circle")
    return [(float(c.attrib["cx"]), float(c.attrib["cy"])) for c in circles]


def labels(picture: str) -> list[str]:
    return [element.text or "" for element in elements(picture, "text")]


def test_values_stand_where_the_axes_say() -> None:
    picture = draw(curve((0, 0), (50, 500), (100, 1_000)))

    middle = ((LEFT + WIDTH - RIGHT) / 2, (TOP + HEIGHT - BOTTOM) / 2)
    assert places(picture) == [(LEFT, HEIGHT - BOTTOM), middle, (WIDTH - RIGHT, TOP)]
    assert {"0", "200", "1,000", "20", "100"} <= set(labels(picture))


def test_a_logarithmic_axis_has_equal_steps_for_equal_factors() -> None:
    picture = draw(curve((1, 5), (8, 5), (64, 5), x_base=2))

    (first, _), (second, _), (third, _) = places(picture)
    assert second - first == pytest.approx(third - second, abs=0.2)
    assert {"1", "2", "4", "8", "16", "32", "64"} <= set(labels(picture))


def test_each_figure_is_a_tooltip_and_texts_are_escaped() -> None:
    picture = draw(curve((1, 0.25), (2, 12_345)))

    assert [title.text for title in elements(picture, "title")] == [
        "Rate < latency",
        "a & b: 1, 0.25",
        "a & b: 2, 12,345",
    ]
    assert "prefers-color-scheme: dark" in picture
