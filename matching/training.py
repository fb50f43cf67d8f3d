"""Training of the matching model on the data itself, without labels.

1. Values that many clearly different names share (junk_values) are set aside.
2. Score the candidate pairs with the model so far and join the likely matches into provisional persons.
3. u: draw random pairs of profiles of *different* provisional persons and count the levels; so true matches
   among random pairs, which are most of those that agree on a phone, do not spoil it. Frequencies count
   persons, not records, and are discounted for what is only seen once (absolute discounting, Ney, Essen &
   Kneser 1994).
4. m, the prior and the household's shares by EM over the patterns of levels, u held fixed. The m of an
   attribute is counted only on pairs that a rule without that attribute would have found too, so that
   blocking does not flatter it. Pairs that no rule found are strangers.
5. Levels out of order (m/u must grow with agreement) are pooled.
6. Repeat 2 to 5 a fixed number of rounds.

Sources: Fellegi & Sunter (1969); Winkler (1988, 2000); Enamorado, Fifield & Imai (2019, fastLink).
"""

from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from matching.blocking import parse_term
from matching.comparisons import MISSING, PairBatch, compare, number_values, postal_area
from matching.model import Comparison, Model
from matching.scoring import frequency_column, frequency_key, probabilities, shared_frequencies, weigh

LIKELY_MATCH = 0.9
# Attributes that belong to one person or home, whose value is junk when strangers share it.
OWN_ATTRIBUTES = ("email", "phone", "national_id")
# Tests of a city against a postal code.
ACROSS = ("area_of_city", "outside_city")
NOTHING = pl.Series([None], dtype=pl.String)
MOST_HOMES = 5
MIN_CITY = 5


def train(profiles: pl.DataFrame, pairs: pl.DataFrame, model: Model) -> Model:
    """`model` with all its probabilities estimated from the data.

    profiles: as for scoring.score, with record_count. pairs: left_key, right_key and rules, the blocking
    rules that found the pair as bits (bit n for the n-th rule of model.blocking). With fewer than
    min_training_pairs pairs the written probabilities stay and `notes` says so. The result depends on
    nothing but the arguments.
    """
    settings = model.training
    profiles = profiles.sort("profile_key")
    junk = junk_values(profiles, settings.junk_names, settings.junk_dominant_share)
    model = replace(
        model,
        junk={name: found["value"].to_list() for name, found in junk.items()},
        profiles=profiles.height,
        training_pairs=pairs.height,
    )
    if pairs.height < settings.min_training_pairs:
        note = (
            f"{pairs.height} candidate pairs are too few to train on ({settings.min_training_pairs} needed): "
            "the probabilities written in model.toml are used"
        )
        return replace(model, notes=(note,))
    found_pairs = pairs.height
    pairs = thin(pairs, settings.max_training_pairs)
    batch = PairBatch(profiles, pairs, model.junk)
    levels = compare(batch, model.comparisons)
    strangers = RandomPairs(profiles, model, settings.random_pairs, settings.seed)
    free = free_attributes(pairs["rules"].to_numpy(), model)
    persons = np.arange(profiles.height)
    holders: dict[str, np.ndarray] = {}
    held = number_held_values(profiles, model)
    written = model
    for _ in range(settings.rounds):
        model = estimate_strangers(model, written, profiles, persons, holders, held, strangers)
        patterns = count_patterns(batch, levels, free, model)
        patterns = replace(patterns, counts=patterns.counts * (found_pairs / pairs.height))
        model = expectation_maximisation(
            patterns, model, written, profiles.height * (profiles.height - 1) / 2
        )
        model = in_order(model)
        weights, _, total = weigh(batch, levels, model, profiles.height)
        persons = provisional_persons(batch, probabilities(total) >= LIKELY_MATCH, profiles.height)
        holders = value_holders(batch, levels, weights, persons, model)
        model = replace(model, places=learn_places(profiles, persons))
        batch.read_places(model.places)
        levels |= compare(batch, [model.comparison("city")])
        strangers.read_places(model)
    model = estimate_strangers(model, written, profiles, persons, holders, held, strangers)
    return in_order(model)


def thin(pairs: pl.DataFrame, limit: int) -> pl.DataFrame:
    """At most about `limit` pairs, chosen by a hash of their keys; all of them where they are fewer."""
    if pairs.height <= limit:
        return pairs
    # Splitmix-like odd multipliers: which pairs stay depends on the pairs alone.
    left = pairs["left_key"].to_numpy().astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    right = pairs["right_key"].to_numpy().astype(np.uint64) * np.uint64(0xC2B2AE3D27D4EB4F)
    mixed = (left ^ (right >> np.uint64(7)) ^ (right << np.uint64(11))) >> np.uint64(11)
    return pairs.filter(pl.Series(mixed < np.uint64(limit / pairs.height * 2**53)))


def provisional_persons(batch: PairBatch, match: np.ndarray, profiles: int) -> np.ndarray:
    """A person number per profile row: the connected components of the likely matches."""
    return _components(profiles, batch.rows[0][match], batch.rows[1][match])


def _components(count: int, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    graph = coo_matrix((np.ones(len(left), dtype=np.int8), (left, right)), shape=(count, count))
    return connected_components(graph, directed=False)[1]


def value_holders(
    batch: PairBatch,
    levels: dict[str, np.ndarray],
    weights: dict[str, np.ndarray],
    persons: np.ndarray,
    model: Model,
) -> dict[str, np.ndarray]:
    """Persons as the holders of an own attribute (email, phone, national id) are counted.

    Two records with the same mailbox and nothing else to compare are not proof that strangers share
    mailboxes. So provisional persons who agree on the value are one holder, unless the rest of their
    records speaks against it.
    """
    everything = sum(weights.values())
    holders = {}
    for attribute in OWN_ATTRIBUTES:
        agree = levels[attribute] == len(model.comparison(attribute).levels) - 1
        rest = everything - weights[attribute]
        same = agree & (rest >= 0)
        joined = _components(persons.max() + 1, persons[batch.rows[0][same]], persons[batch.rows[1][same]])
        holders[attribute] = joined[persons]
    return holders


def junk_values(profiles: pl.DataFrame, names: int, dominant_share: float) -> dict[str, pl.DataFrame]:
    """Values of personal attributes that at least `names` clearly different names share, none of them
    dominating.

    Names are clearly different when the first three letters of their family name (else given name) differ.
    Returns attribute -> value, names, records; most records first.
    """
    name_key = pl.coalesce("family_name", "given_name").str.slice(0, 3)
    junk = {}
    for attribute in OWN_ATTRIBUTES:
        used = (
            profiles.select(pl.col(attribute).alias("value"), name_key.alias("name"), "record_count")
            .drop_nulls()
            .group_by("value", "name")
            .agg(pl.col("record_count").sum())
        )
        junk[attribute] = (
            used.group_by("value")
            .agg(
                names=pl.len(),
                records=pl.col("record_count").sum(),
                top=pl.col("record_count").max(),
            )
            .filter((pl.col("names") >= names) & (pl.col("top") < dominant_share * pl.col("records")))
            .sort(["records", "value"], descending=[True, False])
            .drop("top")
        )
    return junk


class RandomPairs:
    """Random pairs of profiles and their levels, compared once and used in every round."""

    def __init__(self, profiles: pl.DataFrame, model: Model, count: int, seed: int):
        count = min(count, profiles.height * (profiles.height - 1) // 2)
        draw = np.random.default_rng(seed).integers(0, profiles.height, size=(2, count))
        self.left, self.right = draw[:, draw[0] != draw[1]]
        keys = profiles["profile_key"]
        drawn = pl.DataFrame({"left_key": keys[self.left], "right_key": keys[self.right]})
        self.batch = PairBatch(profiles, drawn, model.junk)
        self.levels = compare(self.batch, model.comparisons)

    def read_places(self, model: Model) -> None:
        """Compares the cities again, with the postal areas that the model now knows."""
        self.batch.read_places(model.places)
        self.levels |= compare(self.batch, [model.comparison("city")])

    def level_counts(self, comparison: Comparison, persons: np.ndarray) -> np.ndarray:
        """How many pairs of different persons stand at each level (index = level number)."""
        level = self.levels[comparison.name]
        kept = level[(level != MISSING) & (persons[self.left] != persons[self.right])]
        return np.bincount(kept, minlength=len(comparison.levels))


def estimate_strangers(
    model: Model,
    written: Model,
    profiles: pl.DataFrame,
    persons: np.ndarray,
    holders: dict[str, np.ndarray],
    held: dict,
    strangers: RandomPairs,
) -> Model:
    """The model with the u of every level and the frequencies of values among different persons."""
    comparisons = []
    for comparison in model.comparisons:
        counts = strangers.level_counts(comparison, persons).astype(float)
        expected = np.array([level.u for level in reversed(written.comparison(comparison.name).levels)])
        # As if one pair had been seen before, in as many as the written u needs for it (Gamma prior).
        u = (counts + 1) / (counts.sum() + 1 / expected)
        frequencies, rare = value_shares(
            comparison, profiles, holders.get(comparison.name, persons), held, model
        )
        levels = comparison.levels
        if rare is not None:
            top = len(levels) - 1
            whole = np.array([share for value, share in frequencies.items() if not value.endswith(" *")])
            unseen = max(0.0, 1 - whole.sum())
            u[top] = (whole**2).sum() + unseen * rare
        u /= u.sum()
        levels = tuple(
            replace(level, u=float(u[len(levels) - 1 - place])) for place, level in enumerate(levels)
        )
        comparisons.append(replace(comparison, levels=levels, frequencies=frequencies, rare_frequency=rare))
    return replace(model, comparisons=tuple(comparisons))


def number_held_values(profiles: pl.DataFrame, model: Model) -> dict[tuple[str, str], tuple]:
    """(comparison, test) -> the values that its frequencies count, and each profile's number among them."""
    held = {}
    for comparison in model.comparisons:
        for level in comparison.levels:
            if level.term_frequency and level.test != "area_of_city":
                column = profiles[frequency_column(comparison, level.test)].cast(pl.String)
                junk = column.is_in(model.junk.get(comparison.name, []))
                column = frequency_key(level.test, column.zip_with(~junk.fill_null(False), NOTHING))
                held[comparison.name, level.test] = number_values([column])
    return held


def value_shares(
    comparison: Comparison, profiles: pl.DataFrame, persons: np.ndarray, held: dict, model: Model
) -> tuple[dict[str, float], float | None]:
    """The share of persons who have each value, and the share of one that is seen in one person only."""
    shares, rare = {}, None
    for level in comparison.levels:
        if not level.term_frequency:
            continue
        if level.test == "area_of_city":
            shares |= place_shares(profiles, persons, model.places)
            continue
        values, (codes,) = held[comparison.name, level.test]
        known = np.flatnonzero(codes >= 0)
        if not len(known):
            continue
        once_each = pl.Series(codes[known].astype(np.int64) * len(persons) + persons[known]).unique()
        holders = np.bincount((once_each // len(persons)).to_numpy(), minlength=len(values))
        total = holders.sum()
        once, twice = (holders == 1).sum(), (holders == 2).sum()
        discount = once / (once + 2 * twice + 1) if once else 0.5
        several = np.flatnonzero(holders > 1)
        frequent = (
            pl.DataFrame({"value": values.strings.gather(several), "persons": holders[several]})
            .sort(["persons", "value"], descending=[True, False])
            .head(model.training.max_frequencies)
            .select("value", share=(pl.col("persons") - discount) / total)
        )
        shares |= dict(zip(frequent["value"].to_list(), frequent["share"].to_list(), strict=True))
        if rare is None:
            rare = float((1 - discount) / total)
    return shares, rare


def homes(profiles: pl.DataFrame, persons: np.ndarray) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Which persons have which city, and which postal area; each once."""
    areas = postal_area(profiles["postal_code"])
    return tuple(
        pl.DataFrame({name: column, "person": persons})
        .drop_nulls()
        .unique()
        # Whoever has many places is no single person.
        .filter(pl.len().over("person") <= MOST_HOMES)
        for name, column in (("city", profiles["city"]), ("area", areas))
    )


def learn_places(profiles: pl.DataFrame, persons: np.ndarray) -> dict[str, list[str]]:
    """City -> postal areas that belong to it, learnt from persons who have both, in one record or in several.

    An area belongs to a city when at least two persons have both, and four times as many as chance would
    have.
    """
    cities, areas = homes(profiles, persons)
    both = (
        cities.join(areas, on="person")
        .group_by("city", "area")
        .len("persons")
        .with_columns(
            of_city=pl.col("persons").sum().over("city"),
            of_area=pl.col("persons").sum().over("area"),
            all=pl.col("persons").sum(),
        )
    )
    belonging = both.filter(
        (pl.col("of_city") >= MIN_CITY)
        & (pl.col("persons") >= 2)
        & (pl.col("persons") * pl.col("all") >= 4 * pl.col("of_city") * pl.col("of_area"))
    ).sort("city", "area")
    return dict(belonging.group_by("city", maintain_order=True).agg("area").rows())


def place_shares(
    profiles: pl.DataFrame, persons: np.ndarray, places: dict[str, list[str]]
) -> dict[str, float]:
    """Per city the share of persons with a postal code whose area belongs to it."""
    _, areas = homes(profiles, persons)
    share = areas.group_by("area").agg(share=pl.len() / areas.height)
    return {
        f"{city} *": max(found, 1 / areas.height)
        for city, found in pl.DataFrame(
            {"city": list(places), "area": list(places.values())},
            schema={"city": pl.String, "area": pl.List(pl.String)},
        )
        .explode("area")
        .join(share, on="area")
        .group_by("city", maintain_order=True)
        .agg(pl.col("share").sum())
        .rows()
    }


def free_attributes(rules: np.ndarray, model: Model) -> dict[str, np.ndarray]:
    """Per comparison: which pairs some rule found without looking at that attribute."""
    uses = []
    for rule in model.blocking:
        columns = set()
        for term in rule.key:
            function, column, _ = parse_term(term)
            columns |= {"given_name", "family_name"} if function == "name_tokens" else {column}
        uses.append({"email" if column == "email_mailbox" else column for column in columns})
    return {
        comparison.name: (
            rules & sum(1 << number for number, used in enumerate(uses) if comparison.name not in used)
        )
        != 0
        for comparison in model.comparisons
    }


@dataclass(frozen=True)
class Patterns:
    """Distinct comparison vectors. levels, log_u, free: one row per pattern, one column per comparison."""

    levels: np.ndarray  # int8, -1 missing
    log_u: np.ndarray  # log2 of u at that level and frequency
    free: np.ndarray  # bool: may be counted for m
    counts: np.ndarray  # pairs with this pattern


def count_patterns(batch: PairBatch, levels: dict, free: dict, model: Model) -> Patterns:
    """The pairs as patterns of levels; where frequency tells, u is part of the pattern, to the next power
    of two."""
    columns = {}
    for comparison in model.comparisons:
        level = levels[comparison.name]
        u = np.array([declared.u for declared in reversed(comparison.levels)] + [1.0])
        log_u = np.log2(u)[level]
        if comparison.rare_frequency is not None:
            for place, declared in enumerate(comparison.levels):
                if declared.term_frequency:
                    rows = np.flatnonzero(level == len(comparison.levels) - 1 - place)
                    shared = shared_frequencies(batch, comparison, declared.test, rows)
                    log_u[rows] = np.round(np.log2(shared))
        columns[f"{comparison.name} level"] = level
        columns[f"{comparison.name} log_u"] = log_u
        columns[f"{comparison.name} free"] = free[comparison.name]
    counted = pl.DataFrame(columns).group_by(list(columns), maintain_order=True).len("count")
    names = [comparison.name for comparison in model.comparisons]

    def matrix(part: str) -> np.ndarray:
        return np.column_stack([counted[f"{name} {part}"].to_numpy() for name in names])

    return Patterns(
        matrix("level"), matrix("log_u"), matrix("free"), counted["count"].to_numpy().astype(float)
    )


def expectation_maximisation(patterns: Patterns, model: Model, written: Model, total_pairs: float) -> Model:
    """The model with m, the household's shares and both priors as EM finds them; u stays.

    Three kinds of pairs: one person (m), one household (each attribute shared by chance `shared`, else as
    among strangers), strangers (u). total_pairs: all pairs of profiles; those in no pattern are strangers.
    """
    comparisons = model.comparisons
    width = len(comparisons)
    m = [np.array([level.m for level in reversed(comparison.levels)]) for comparison in comparisons]
    expected = [
        np.array([level.m for level in reversed(written.comparison(comparison.name).levels)])
        for comparison in comparisons
    ]
    shared = np.array([comparison.shared for comparison in comparisons])
    may_share = shared > 0
    present = patterns.levels >= 0
    prior, household_prior = model.priors(model.profiles)
    support = np.zeros(width)
    for _ in range(model.training.iterations):
        log_m = np.column_stack([np.log2(np.append(m[k], 1.0))[patterns.levels[:, k]] for k in range(width)])
        ratio = np.where(present, log_m - patterns.log_u, 0.0)
        likelihood = np.exp2(ratio.clip(-100, 60))
        together = np.where(present & may_share, shared * likelihood + (1 - shared), 1.0)
        person = prior * np.exp2(ratio.sum(1))
        household = household_prior * together.prod(1)
        everything = person + household + (1 - prior - household_prior)
        person_count = patterns.counts * person / everything
        household_count = patterns.counts * household / everything

        before = np.concatenate([*m, shared])
        for k in range(width):
            counted = person_count * patterns.free[:, k] * present[:, k]
            support[k] = counted.sum()
            observed = np.bincount(
                patterns.levels[present[:, k], k], counted[present[:, k]], minlength=len(m[k])
            )
            weight = model.training.prior_pairs
            m[k] = (observed + weight * expected[k]) / (observed.sum() + weight)
            m[k] = by_situation(comparisons[k], m[k])
            if comparisons[k].shared_is_learnt:
                alike = household_count * present[:, k]
                share = shared[k] * likelihood[:, k] / together[:, k]
                # Two pseudo-pairs, one of each kind, keep the share off 0 and 1.
                shared[k] = ((alike * share).sum() + 1) / (alike.sum() + 2)
        prior = max(person_count.sum(), 1.0) / total_pairs
        household_prior = max(household_count.sum(), 1.0) / total_pairs
        if np.abs(np.concatenate([*m, shared]) - before).max() < model.training.tolerance:
            break
    return replace(
        model,
        prior=float(prior),
        household_prior=float(household_prior),
        comparisons=tuple(
            replace(
                comparison,
                shared=float(shared[k]),
                support=float(support[k]),
                levels=tuple(
                    replace(level, m=float(m[k][len(comparison.levels) - 1 - place]))
                    for place, level in enumerate(comparison.levels)
                ),
            )
            for k, comparison in enumerate(comparisons)
        ),
    )


def by_situation(comparison: Comparison, m: np.ndarray) -> np.ndarray:
    """m with the levels of a city against a postal code taken for themselves.

    Which of the two attributes a record has says nothing about whose it is: both kinds of pairs get the share
    among matches that they have among strangers.
    """
    crossed = np.array([level.test in ACROSS for level in reversed(comparison.levels)])
    if not crossed.any():
        return m
    share = sum(level.u for level in comparison.levels if level.test in ACROSS)
    return np.where(crossed, m * share / m[crossed].sum(), m * (1 - share) / m[~crossed].sum())


def in_order(model: Model) -> Model:
    """The model with m/u growing with agreement: neighbouring levels that break the order are pooled."""
    comparisons = []
    for comparison in model.comparisons:
        blocks: list[list[int]] = []
        levels = list(reversed(comparison.levels))  # weakest first

        def ratio(block: list[int]) -> float:
            return sum(levels[n].m for n in block) / sum(levels[n].u for n in block)  # noqa: B023

        for number in range(len(levels)):
            blocks.append([number])
            while len(blocks) > 1 and ratio(blocks[-2]) > ratio(blocks[-1]):
                last = blocks.pop()
                blocks[-1] += last
        for block in blocks:
            pooled = ratio(block)
            for number in block:
                levels[number] = replace(levels[number], m=levels[number].u * pooled)
        comparisons.append(replace(comparison, levels=tuple(reversed(levels))))
    return replace(model, comparisons=tuple(comparisons))
