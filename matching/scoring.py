"""Match weight, probability and decision of pairs: a pure function of a columnar batch and a model.

1. Find the level of every comparison (comparisons.py); a missing value has weight 0.
2. The weight of a level is log2(m / u). Where the level's value tells (term_frequency), u is the share of
   persons who have that very value, so that Smith counts for little and Featherstonehaugh for much; of a
   level that is not the strongest, the part of them that stands there (Level.at_this_level).
3. A pair that is not one person may be two people of one household, who share some attributes and not others.
   Odds = prior * R / (household_prior * H + 1 - prior - household_prior), where R is the product of all m /
   u and H of (shared * m / u + 1 - shared). As H grows with the same agreements as R, and slower, more
   agreement never lowers the odds.
4. match_weight = log2(odds); probability = odds / (1 + odds); two thresholds make three decisions.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import polars as pl

from matching.blocking import MOST_RULES
from matching.comparisons import (
    WORKERS,
    ComparedPairs,
    NumberedProfiles,
    Values,
    first_tokens,
    local_parts,
    numbers_of,
)
from matching.model import Comparison, Level, Model

DECISIONS = pl.Enum(["REJECT", "FLAG_REVIEW", "AUTO_MERGE"])
# Beyond this the probability is 1 in any reading; it keeps powers of two finite.
MAX_WEIGHT = 100.0
# Scores from 0 to 100 are counted in so many classes.
TWENTIETHS = 20


def frequency_units(test: str, values: Values) -> tuple[Values, np.ndarray | None, str]:
    """What a test's frequencies count: the units, the unit of each value (None: itself), and the mark of such
    a key in Comparison.frequencies.

    "john *" is every given name that begins with john, "kim@example.org *" every address of that mailbox,
    "kim@ *" every address of that local part, "london *" every postal code that belongs to London.
    """
    if test == "same_first_name":
        return *values.derived(first_tokens), " *"
    if test == "same_local_part":
        return *values.derived(local_parts), "@ *"
    return values, None, " *" if test in ("same_mailbox", "area_of_city") else ""


def frequency_column(comparison: Comparison, test: str) -> str:
    """The column of profiles on whose values a test's frequencies are counted."""
    return "email_mailbox" if test in ("same_mailbox", "same_local_part") else comparison.name


class ValueShares(NamedTuple):
    """How frequent some units are: their numbers, and the share of persons who have each."""

    units: np.ndarray
    share: np.ndarray


def known_shares(comparison: Comparison, test: str, values: Values) -> ValueShares:
    """The frequencies that the model holds for a test, of those units that are among these values."""
    units, _, mark = frequency_units(test, values)
    known = (
        pl.DataFrame(
            {"key": list(comparison.frequencies), "frequency": list(comparison.frequencies.values())},
            schema={"key": pl.String, "frequency": pl.Float64},
        )
        .filter(pl.col("key").str.ends_with(mark))
        .with_columns(pl.col("key").str.strip_suffix(mark))
    )
    found = numbers_of(units, known["key"])
    return ValueShares(found[found >= 0], known["frequency"].to_numpy()[found >= 0])


class Frequencies:
    """The frequencies of values for some profiles, looked up once per comparison and test.

    shares: by comparison and test, as training has counted them; None: as the model holds them.
    """

    def __init__(self, profiles: NumberedProfiles, shares: dict[tuple[str, str], ValueShares] | None = None):
        self.profiles, self.shares = profiles, shares
        self._known: dict[tuple[str, str], np.ndarray] = {}

    def of_values(self, comparison: Comparison, level: Level) -> tuple[str, np.ndarray]:
        """The column on whose values a level's frequencies are counted, and for each of them how often strangers
        stand at this level with it; what is not among the frequent ones is as rare as rare_frequency."""
        name = comparison.name, level.test
        column = frequency_column(comparison, level.test)
        if name not in self._known:
            values = self.profiles.values[column]
            units, unit_of, _ = frequency_units(level.test, values)
            frequency = np.full(len(units) + 1, comparison.rare_frequency, dtype=np.float32)
            if self.shares is None:
                known = known_shares(comparison, level.test, values)
            else:
                known = self.shares.get(name, ValueShares([], []))
            frequency[known.units] = known.share
            frequency = frequency[:-1] if unit_of is None else frequency[unit_of]
            self._known[name] = frequency * np.float32(level.at_this_level)
        return column, self._known[name]

    def shared(self, compared: ComparedPairs, comparison: Comparison, level: Level, rows) -> np.ndarray:
        """How often strangers stand at this level with the value that the pairs in `rows` agree on; the
        more frequent value where both sides differ."""
        column, frequency = self.of_values(comparison, level)
        left, right = compared.sides(column, rows)
        return np.maximum(frequency.take(left), frequency.take(right))


def pair_weights(
    compared: ComparedPairs, comparison: Comparison, part: slice, frequencies: Frequencies
) -> np.ndarray:
    """log2(m / u) of each pair of a part at its level, term frequency included; missing is 0 (float32).

    Where Smith itself would say less than a name that is nearly Smith, both are given the middle of the
    two, so that more agreement never lowers the weight.
    """
    level = compared.levels[comparison.name][part]
    fixed = np.array([declared.weight for declared in reversed(comparison.levels)] + [0.0], dtype=np.float32)
    weights = fixed.take(level)  # level -1 takes the last entry, 0
    if comparison.rare_frequency is None:
        return weights
    most = np.full(len(level), np.inf, dtype=np.float32)
    top = len(comparison.levels) - 1
    for place, declared in enumerate(comparison.levels):
        if not declared.term_frequency:
            continue
        number = top - place
        rows = np.flatnonzero((level <= number) & (weights > 0))
        if not len(rows):
            continue
        frequency = frequencies.shared(compared, comparison, declared, rows + part.start)
        by_frequency = np.maximum(np.log2(declared.m / frequency), fixed[0]).astype(np.float32)
        by_frequency = np.maximum(by_frequency, (by_frequency + fixed[number - 1]) / 2)
        own = level.take(rows) == number
        before = most.take(rows)
        most[rows] = least = np.minimum(by_frequency, before)
        # Of a weaker level no more than of any stronger one.
        weights[rows] = np.where(own, least, np.minimum(weights.take(rows), least))
    return weights


def household_weight(
    weights: dict[str, np.ndarray],
    comparisons: tuple[Comparison, ...],
    priors: tuple[float, float],
    pairs: int,
) -> np.ndarray:
    """What the possibility of two people of one household takes from each pair's weight: 0 or less, log2."""
    prior, household_prior = priors
    together = np.zeros(pairs, dtype=np.float32)
    for comparison in comparisons:
        if comparison.shared > 0:
            ratio = np.exp2(np.minimum(weights[comparison.name], MAX_WEIGHT))
            together += np.log2(comparison.shared * ratio + (1 - comparison.shared))
    strangers = 1 - prior - household_prior
    return np.log2(strangers) - np.logaddexp2(
        np.log2(household_prior) + np.minimum(together, MAX_WEIGHT), np.log2(strangers)
    )


def weigh(
    compared: ComparedPairs, model: Model, profiles: int, part: slice, frequencies: Frequencies
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """The weights of every comparison, the household's part, and the match weight (log2 odds), one per pair
    of the part."""

    def weights_of(comparison: Comparison) -> np.ndarray:
        return pair_weights(compared, comparison, part, frequencies)

    with ThreadPoolExecutor(WORKERS) as pool:
        names = [comparison.name for comparison in model.comparisons]
        weights = dict(zip(names, pool.map(weights_of, model.comparisons), strict=True))
    priors = model.priors(profiles)
    household = household_weight(weights, model.comparisons, priors, part.stop - part.start)
    prior_weight = np.float32(np.log2(priors[0] / (1 - priors[0] - priors[1])))
    total = np.clip(prior_weight + sum(weights.values()) + household, -MAX_WEIGHT, MAX_WEIGHT)
    return weights, household, total.astype(np.float64)


def probabilities(match_weight: np.ndarray) -> np.ndarray:
    """log2 odds as probabilities."""
    return 1 / (1 + np.exp2(-match_weight))


def score(
    profiles: pl.DataFrame, pairs: pl.DataFrame, model: Model, total_profiles: int | None = None
) -> pl.DataFrame:
    """Each pair with its levels, weights, probability and decision.

    profiles: profile_key (int64) and the attributes of comparisons.ATTRIBUTES and email_mailbox; null =
    missing. pairs: left_key < right_key (int64). total_profiles: how many there are in all, for an
    untrained model's prior. Returns left_key, right_key; level_<attribute> (int8) and weight_<attribute>
    (log2, float32) per comparison; household_weight, match_weight (log2 odds), match_probability,
    confidence (0 to 100), decision. Raises KeyError for a pair whose profile is not given. Source: Fellegi
    & Sunter (1969); Winkler (2000) for the frequencies.
    """
    numbered = NumberedProfiles(profiles.sort("profile_key"), model.junk)
    compared = ComparedPairs(numbered, *numbered.rows(pairs), model.comparisons, model.places)
    return next(score_in_parts(compared, model, total_profiles or profiles.height, max(1, pairs.height)))


def score_in_parts(
    compared: ComparedPairs,
    model: Model,
    total_profiles: int,
    part_pairs: int,
    frequencies: Frequencies | None = None,
) -> Iterator[pl.DataFrame]:
    """As `score`, of pairs already compared with this model's comparisons, junk and places: `part_pairs` of
    them at a time, in their order; one empty part where there are none. frequencies: the model's, where they are
    at hand."""
    frequencies = frequencies or Frequencies(compared.profiles)
    keys = compared.profiles.keys
    for start in range(0, max(1, len(compared)), part_pairs):
        part = slice(start, min(start + part_pairs, len(compared)))
        weights, household, total = weigh(compared, model, total_profiles, part, frequencies)
        probability = probabilities(total)
        decision = (probability >= model.flag_review).astype(np.uint8) + (probability >= model.auto_merge)
        yield pl.DataFrame(
            {
                "left_key": keys[compared.rows[0][part]],
                "right_key": keys[compared.rows[1][part]],
                **{f"level_{name}": level[part] for name, level in compared.levels.items()},
                **{f"weight_{name}": weight for name, weight in weights.items()},
                "household_weight": household.astype(np.float32),
                "match_weight": total,
                "match_probability": probability,
                "confidence": 100 * probability,
                "decision": pl.Series(decision, dtype=pl.UInt8).cat.to(DECISIONS),
            }
        )


def count_scores(scored: pl.DataFrame, rules: pl.Series) -> np.ndarray:
    """How many of scored pairs there are by first rule (0: of a profile with itself), decision and twentieth of
    the score: an array of MOST_RULES + 1 by DECISIONS by TWENTIETHS.

    scored: as `score` gives it. rules: of each pair, bit n - 1 for rule n.
    """
    shape = MOST_RULES + 1, len(DECISIONS.categories), TWENTIETHS
    bits = rules.to_numpy()
    rule = np.where(bits > 0, np.bitwise_count((bits & -bits) - 1) + np.uint8(1), 0)
    decision = scored["decision"].to_physical().to_numpy()
    twentieth = (scored["confidence"].to_numpy() * (TWENTIETHS / 100)).astype(np.int64)
    place = np.ravel_multi_index((rule, decision, np.minimum(twentieth, TWENTIETHS - 1)), shape)
    return np.bincount(place, minlength=np.prod(shape)).reshape(shape)
