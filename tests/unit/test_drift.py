"""Drift: ordinary days leave the model in force, another way of writing names does not."""

import polars as pl
import pytest

from matching.drift import add_levels, drift, match_levels, stability_index
from matching.model import read_model
from matching.scoring import score
from matching.training import train
from tests.unit.test_training import people

WRITTEN = read_model()


@pytest.fixture(scope="module")
def trained():
    profiles, pairs, _ = people(1500, seed=5)
    model = train(profiles, pairs, WRITTEN)
    return model, match_levels(score(profiles, pairs, model), model.comparisons)


def test_ten_ordinary_days(trained):
    model, at_training = trained
    days = []
    for day in range(10):
        # Each day has other people, and more or fewer of them than of the day before.
        profiles, pairs, _ = people(150 + 40 * (day % 3), seed=100 + day)
        days.append(match_levels(score(profiles, pairs, model, model.profiles), model.comparisons))
        assert drift(at_training, add_levels(days)) is None
    assert sum(add_levels(days)["given_name"]) >= 1000


def test_given_names_that_become_initials(trained):
    model, at_training = trained
    profiles, pairs, _ = people(2500, seed=6)
    every_second = pl.int_range(pl.len()) % 2 == 0
    given = pl.when(every_second).then(pl.col("given_name").str.slice(0, 1)).otherwise("given_name")
    since = match_levels(score(profiles.with_columns(given_name=given), pairs, model), model.comparisons)
    assert "given_name" in drift(at_training, since)


def test_too_few_pairs_say_nothing():
    assert drift({"phone": [10, 90_000]}, {"phone": [900, 0]}) is None
    assert drift({"phone": [10, 90_000]}, {"phone": [5_000, 0]}) is None
    assert drift({"phone": [10, 90_000]}, {"phone": [9_500, 0]}) is not None
    assert drift({}, {}) is None


def test_the_index_is_that_of_the_textbook():
    # (0.4 - 0.2) ln(0.4 / 0.2) + (0.6 - 0.8) ln(0.6 / 0.8)
    assert stability_index([200_000, 800_000], [400_000, 600_000]) == pytest.approx(0.19617, abs=1e-4)
