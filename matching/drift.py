"""Whether the data has moved away from what the model was trained on.

Measured among the pairs that merge: how they spread over the levels of each comparison, then and since, by the
population stability index, sum of (q - p) ln(q / p) (Siddiqi 2006, Credit Risk Scorecards, section 8). Pairs that
merge are asked, not all pairs: how many candidates are one person, and which attributes a source fills, changes
from day to day and changes no probability of the model.
"""

import numpy as np
import polars as pl

from matching.model import Comparison

# The usual reading of the index: below 0.1 nothing has changed, above 0.25 much has.
MOST_SHIFT = 0.25
# Fewer merged pairs since training that have the attribute say nothing, nor does less than a tenth of what the
# model was trained on: training again would change little, and costs as much as a first run.
MIN_PAIRS = 1_000
MIN_SHARE = 0.1
# Which of city and postal code a record has is the source's way, not the person's.
NOT_COUNTED = ("area_of_city", "outside_city")


def match_levels(scored: pl.DataFrame, comparisons: tuple[Comparison, ...]) -> dict[str, list[int]]:
    """comparison -> pairs at each level (weakest first) among those that merge; missing is not counted.

    scored: as scoring.score gives it.
    """
    merged = scored.filter((pl.col("decision") == "AUTO_MERGE") & (pl.col("left_key") < pl.col("right_key")))
    counts = {}
    for comparison in comparisons:
        level = merged[f"level_{comparison.name}"].to_numpy()
        count = np.bincount(level[level >= 0], minlength=len(comparison.levels))
        kept = [declared.test not in NOT_COUNTED for declared in reversed(comparison.levels)]
        counts[comparison.name] = count[np.array(kept)].tolist()
    return counts


def add_levels(counts: list[dict[str, list[int]]]) -> dict[str, list[int]]:
    """The sums of several `match_levels` of the same comparisons."""
    return {name: np.sum([part[name] for part in counts], axis=0).tolist() for name in (counts or [{}])[0]}


def stability_index(training: list[int], since: list[int]) -> float:
    """The population stability index of two counts of the same levels; half a pair is added to each."""
    p, q = (np.array(counts) + 0.5 for counts in (training, since))
    p, q = p / p.sum(), q / q.sum()
    return float(((q - p) * np.log(q / p)).sum())


def drift(training: dict[str, list[int]], since: dict[str, list[int]]) -> str | None:
    """What has moved, in plain words; None where nothing has, or too little is new to tell."""
    most = max((sum(counts) for counts in training.values()), default=0)
    moved = {
        name: stability_index(training[name], counts)
        for name, counts in since.items()
        if name in training and sum(counts) >= max(MIN_PAIRS, MIN_SHARE * most)
    }
    name = max(moved, key=lambda name: (moved[name], name), default=None)
    if name is None or moved[name] <= MOST_SHIFT:
        return None
    return (
        f"the data has drifted: records of one person agree on {name} otherwise than in training "
        f"(population stability index {moved[name]:.2f}, limit {MOST_SHIFT})"
    )
