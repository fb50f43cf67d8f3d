"""Match weight, probability and decision of pairs: a pure function of a columnar batch and a model.

1. Find the level of every comparison (comparisons.py); a missing value has weight 0.
2. The weight of a level is log2(m / u). Where the level's value tells (term_frequency), u is the share of
   persons who have that very value, so that Smith counts for little and Featherstonehaugh for much.
3. A pair that is not one person may be two people of one household, who share some attributes and not others.
   Odds = prior * R / (household_prior * H + 1 - prior - household_prior), where R is the product of all m /
   u and H of (shared * m / u + 1 - shared). As H grows with the same agreements as R, and slower, more
   agreement never lowers the odds.
4. match_weight = log2(odds); probability = odds / (1 + odds); two thresholds make three decisions.
"""

import numpy as np
import polars as pl

from matching.comparisons import PairBatch, Values, compare
from matching.model import Comparison, Model

DECISIONS = pl.Enum(["REJECT", "FLAG_REVIEW", "AUTO_MERGE"])
# Beyond this the probability is 1 in any reading; it keeps powers of two finite.
MAX_WEIGHT = 100.0


def frequency_key(test: str, strings: pl.Series) -> pl.Series:
    """The key under which Comparison.frequencies holds a value.

    "john *" is every given name that begins with john, "kim@example.org *" every address of that mailbox,
    "kim@ *" every address of that local part, "london *" every postal code that belongs to London.
    """
    if test == "same_first_name":
        return strings.str.extract(r"^(\S+)") + " *"
    if test in ("same_mailbox", "area_of_city"):
        return strings + " *"
    if test == "same_local_part":
        return strings.str.extract(r"^(.+)@") + "@ *"
    return strings


def frequency_column(comparison: Comparison, test: str) -> str:
    """The column of profiles on whose values a test's frequencies are counted."""
    return "email_mailbox" if test in ("same_mailbox", "same_local_part") else comparison.name


def value_frequencies(comparison: Comparison, test: str, values: Values) -> np.ndarray:
    """The frequency of each distinct value, with `rare_frequency` for those the model does not hold."""
    wanted = pl.DataFrame({"value": frequency_key(test, values.strings)})
    known = pl.DataFrame(
        {"value": list(comparison.frequencies), "frequency": list(comparison.frequencies.values())},
        schema={"value": pl.String, "frequency": pl.Float64},
    )
    found = wanted.join(known, on="value", how="left", maintain_order="left")["frequency"]
    return found.fill_null(comparison.rare_frequency).to_numpy()


def shared_frequencies(batch: PairBatch, comparison: Comparison, test: str, rows: np.ndarray) -> np.ndarray:
    """How frequent the value is that the pairs in `rows` agree on; the greater where the two sides differ."""
    column = frequency_column(comparison, test)
    frequency = value_frequencies(comparison, test, batch.values[column])
    return np.maximum(frequency[batch.left[column][rows]], frequency[batch.right[column][rows]])


def pair_weights(batch: PairBatch, comparison: Comparison, level: np.ndarray) -> np.ndarray:
    """log2(m / u) of each pair at its level (int8, one per pair), term frequency included; missing is 0.

    Where Smith itself would say less than a name that is nearly Smith, both are given the middle of the
    two, so that more agreement never lowers the weight.
    """
    fixed = np.array([declared.weight for declared in reversed(comparison.levels)] + [0.0], dtype=np.float32)
    weights = fixed[level]  # level -1 takes the last entry, 0
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
        frequency = shared_frequencies(batch, comparison, declared.test, rows)
        by_frequency = np.maximum(np.log2(declared.m / frequency), fixed[0]).astype(np.float32)
        by_frequency = np.maximum(by_frequency, (by_frequency + fixed[number - 1]) / 2)
        own = level[rows] == number
        weights[rows[own]] = np.minimum(by_frequency[own], most[rows[own]])
        most[rows] = np.minimum(by_frequency, most[rows])
        weights[rows[~own]] = np.minimum(weights[rows[~own]], most[rows[~own]])
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
    batch: PairBatch, levels: dict[str, np.ndarray], model: Model, profiles: int
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """The weights of every comparison, the household's part, and the match weight (log2 odds), one per
    pair."""
    weights = {
        comparison.name: pair_weights(batch, comparison, levels[comparison.name])
        for comparison in model.comparisons
    }
    priors = model.priors(profiles)
    household = household_weight(weights, model.comparisons, priors, len(batch))
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
    batch = PairBatch(profiles, pairs, model.junk, model.places)
    levels = compare(batch, model.comparisons)
    weights, household, total = weigh(batch, levels, model, total_profiles or profiles.height)
    probability = probabilities(total)
    decision = (probability >= model.flag_review).astype(np.uint8) + (probability >= model.auto_merge)
    return pl.DataFrame(
        {
            "left_key": pairs["left_key"],
            "right_key": pairs["right_key"],
            **{f"level_{name}": level for name, level in levels.items()},
            **{f"weight_{name}": weight for name, weight in weights.items()},
            "household_weight": household.astype(np.float32),
            "match_weight": total,
            "match_probability": probability,
            "confidence": 100 * probability,
            "decision": pl.Series(decision, dtype=pl.UInt8).cat.to(DECISIONS),
        }
    )


def self_match(profiles: pl.DataFrame, model: Model, total_profiles: int | None = None) -> pl.DataFrame:
    """Whether two records with the same profile are one person: as `score`, each profile against itself.

    A profile of one common name and nothing else is held by many; below AUTO_MERGE its records stay apart.
    """
    pairs = profiles.select(left_key="profile_key", right_key="profile_key")
    return score(profiles, pairs, model, total_profiles)
