"""Drawings: what each mark is as SVG, and where the round numbers of an axis are."""

import pytest

from gold.drawing import Drawing, ticks


@pytest.mark.parametrize(
    ("low", "high", "whole", "expected"),
    [
        (0, 1, False, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0, 1_080_000, False, [0, 250_000, 500_000, 750_000, 1_000_000]),
        (-9, 33, False, [0, 10, 20, 30]),
        (3, 6, True, [3, 4, 5, 6]),
        (3, 32, True, [10, 20, 30]),
    ],
)
def test_ticks_are_round_and_inside(low, high, whole, expected):
    assert ticks(low, high, whole=whole) == pytest.approx(expected)


def test_marks_are_svg_in_the_colours_of_the_page():
    drawing = Drawing(20)
    drawing.bar(1, 2, 3, 4, "--good")
    drawing.line([(0, 0), (1, 2)], "--line")
    drawing.words(5, 10, "a < b", "end")
    assert drawing.svg("A & B") == (
        '<svg role="img" aria-label="A &amp; B" viewBox="0 0 346 20" xmlns="http://www.w3.org/2000/svg">'
        '<rect x="1.0" y="2.0" width="3.0" height="4.0" fill="var(--good)"/>'
        '<polyline points="0.0,0.0 1.0,2.0" fill="none" stroke="var(--line)" stroke-width="0.6"/>'
        '<text x="5.0" y="13.6" font-size="10" text-anchor="end" fill="var(--ink)">a &lt; b</text></svg>'
    )


def test_a_legend_too_wide_is_made_smaller():
    drawing = Drawing(20)
    drawing.legend([("a" * 40, "--s1"), ("b" * 40, "--s2")], 0, 2)
    assert 'font-size="9.5"' not in drawing.svg("legend")
