"""The chart of a model's weights: whole, well-formed, and silent about people."""

import math
from dataclasses import replace
from xml.etree import ElementTree

from matching.model import read_model
from matching.weights_chart import frequency_range, weights_chart

WRITTEN = read_model()


def texts(svg: str) -> list[str]:
    return [element.text for element in ElementTree.fromstring(svg).iter() if element.tag.endswith("text")]


def test_every_level_has_a_bar_and_a_name():
    svg = weights_chart(WRITTEN, "Weights <of> version 1")
    assert svg.count("<rect") == 1 + sum(len(comparison.levels) for comparison in WRITTEN.comparisons)
    shown = texts(svg)
    assert "Weights <of> version 1" in shown
    for comparison in WRITTEN.comparisons:
        assert comparison.name.replace("_", " ") in shown
    assert "The probabilities written in model.toml: too little data to train on." in shown


def test_a_frequent_value_says_less_than_a_rare_one_and_none_is_shown():
    frequencies = {"featherstone": 0.25, "john *": 0.5}
    given = replace(WRITTEN.comparison("given_name"), frequencies=frequencies, rare_frequency=2**-10)
    assert frequency_range(given, 0) == (math.log2(0.62 / 0.25), math.log2(0.62 * 2**10))
    assert frequency_range(given, 1) == (math.log2(0.08 / 0.5), math.log2(0.08 * 2**10))
    assert frequency_range(given, 2) == ()
    svg = weights_chart(replace(WRITTEN, comparisons=(given,), prior=0.001, household_prior=0.001))
    assert "featherstone" not in svg and "john" not in svg
