"""The page of benchmarks shows what its run measured, and nothing else."""

from __future__ import annotations

import pytest

from bench import page, pictures, record
from bench.curves import Curve

RECORD = record.read(page.RECORD)


def test_the_table_and_the_pictures_are_those_of_the_recorded_run() -> None:
    text = page.PAGE.read_text(encoding="utf-8")

    assert page.rendered(text, RECORD) == text, "run: python -m bench pictures"


@pytest.mark.parametrize("curve", page.curves(RECORD), ids=lambda curve: curve.name)
def test_each_picture_is_drawn_from_the_recorded_run(curve: Curve) -> None:
    drawn = (page.IMAGES / page.picture(curve)).read_text(encoding="utf-8")

    assert drawn == pictures.draw(curve), "run: python -m bench pictures"


def test_a_page_without_the_marks_of_its_generated_parts_is_refused() -> None:
    with pytest.raises(ValueError, match="results"):
        page.rendered("# Benchmarks\n", RECORD)
