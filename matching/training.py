"""Training of the matching model on the data itself, without labels.

1. Values that many clearly different names share (junk_values) are set aside.
2. Score the candidate pairs with the model so far and join the likely matches into provisional persons.
3. u: draw random pairs of profiles of *different* provisional persons and count the levels; so true matches
   among random pairs, which are most of those that agree on a phone, do not spoil it. Frequencies count
   persons, not records, and are discounted for what is only seen once (absolute discounting with one left
   out, Ney, Essen & Kneser 1994).
4. m, the prior and the household's shares by EM over the patterns of levels, u held fixed. The m of an
   attribute is counted only on pairs that a rule without that attribute would have found too, so that
   blocking does not flatter it. Pairs that no rule found are strangers.
5. Levels out of order (m/u must grow with agreement) are pooled.
6. Repeat 2 to 5 a fixed number of rounds.

Sources: Fellegi & Sunter (1969); Winkler (1988, 2000); Enamorado, Fifield & Imai (2019, fastLink).
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from matching.blocking import parse_term
from matching.comparisons import MISSING, WORKERS, ComparedPairs, NumberedProfiles, postal_areas
from matching.model import Comparison, Model
from matching.scoring import Frequencies, frequency_column, frequency_units

LIKELY_MATCH = 0.9
# Attributes that belong to one person or home, whose value is junk when strangers share it.
OWN_ATTRIBUTES = ("email", "phone", "national_id")
# Tests that mean that it is the same one, however it is written.
SAME_VALUE = ("exact", "same_mailbox")
# Tests of a city against a postal code.
ACROSS = ("area_of_city", "outside_city")
# A frequency below 2^-RAREST counts as that in the patterns of EM.
RAREST = 31
MOST_HOMES = 5
MIN_CITY = 5


def train(
    profiles: pl.DataFrame, pairs: pl.DataFrame, model: Model, junk: dict[str, list[str]] | None = None
) -> Model:
    """`model` with all its probabilities estimated from the data; see `train_and_compare`.

    profiles: as for scoring.score, with record_count. junk: by default the values to set aside are found here.
    """
    profiles = profiles.sort("profile_key")
    if junk is None:
        settings = model.training
        found = junk_values(profiles, settings.junk_names, settings.junk_dominant_share)
        junk = {name: values["value"].to_list() for name, values in found.items()}
    return train_and_compare(NumberedProfiles(profiles, junk), pairs, model, junk)[0]


def train_and_compare(
    numbered: NumberedProfiles, pairs: pl.DataFrame, model: Model, junk: dict[str, list[str]]
) -> tuple[Model, ComparedPairs]:
    """`model` with all its probabilities estimated from the data, and the pairs as it compares them.

    numbered: the profiles, in order of their keys, without junk. pairs: left_key, right_key and rules, the blocking
    rules that found the pair as bits (bit n for the n-th rule of model.blocking); pairs of a profile with
    itself are compared and not trained on. junk: attribute -> values to set aside. With fewer than
    min_training_pairs pairs the written probabilities stay and `notes` says so. The result depends on nothing but
    the arguments.
    """
    settings = model.training
    left, right = numbered.rows(pairs["left_key"]), numbered.rows(pairs["right_key"])
    counted = left != right
    model = replace(model, junk=junk, profiles=len(numbered), training_pairs=int(counted.sum()))
    with ThreadPoolExecutor(1) as aside:
        beginning = aside.submit(Strangers, numbered, model)
        compared = ComparedPairs(numbered, left, right, model.comparisons)
    if model.training_pairs < settings.min_training_pairs:
        note = (
            f"{model.training_pairs} candidate pairs are too few to train on ({settings.min_training_pairs} "
            "needed): the probabilities written in model.toml are used"
        )
        return replace(model, notes=(note,)), compared
    strangers = beginning.result()
    free = free_attributes(pairs["rules"].to_numpy(), model)
    # At first every profile is a person.
    model = strangers.estimated_at_first
    for _ in range(settings.rounds):
        patterns, of_pair = count_patterns(compared, counted, free, model)
        model = in_order(
            expectation_maximisation(
                patterns, model, strangers.written, len(numbered) * (len(numbered) - 1) / 2
            )
        )
        ratios, probability = match_patterns(patterns, model)
        persons = join_rows(compared, (probability >= LIKELY_MATCH)[of_pair])
        holders = value_holders(compared, ratios, of_pair, persons, model)
        model = replace(model, places=learn_places(numbered, persons))
        compared.read_places(model.places)
        strangers.pairs.read_places(model.places)
        model = strangers.estimate(model, persons, holders)
    return in_order(model), compared


def join_rows(compared: ComparedPairs, match: np.ndarray) -> np.ndarray:
    """A person number per profile row: the connected components of the likely matches."""
    return _components(len(compared.profiles), compared.rows[0][match], compared.rows[1][match])


def _components(count: int, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    graph = coo_matrix((np.ones(len(left), dtype=np.int8), (left, right)), shape=(count, count))
    return connected_components(graph, directed=False)[1]


def value_holders(
    compared: ComparedPairs, ratios: np.ndarray, of_pair: np.ndarray, persons: np.ndarray, model: Model
) -> dict[str, np.ndarray]:
    """Persons as the holders of an own attribute (email, phone, national id) are counted.

    Two records with the same mailbox and nothing else to compare are not proof that strangers share
    mailboxes. So provisional persons who agree on the value are one holder, unless the rest of their
    records speaks against it. ratios: m / u of each comparison (a row each) and pattern.
    """
    everything = ratios.prod(0)
    holders = {}
    for place, comparison in enumerate(model.comparisons):
        if comparison.name in OWN_ATTRIBUTES:
            not_against = everything >= ratios[place]
            agreeing = [level.test in SAME_VALUE for level in reversed(comparison.levels)] + [False]
            same = np.array(agreeing)[compared.levels[comparison.name]] & not_against[of_pair]
            left, right = persons[compared.rows[0][same]], persons[compared.rows[1][same]]
            holders[comparison.name] = _components(persons.max() + 1, left, right)[persons]
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


class Strangers:
    """What is told by profiles of different persons: the u of every level and the frequencies of values.

    Random pairs of profiles are compared once, the values that several profiles hold are numbered once, and both
    are used in every round. estimated_at_first: the model where every profile is a person of its own.
    """

    def __init__(self, profiles: NumberedProfiles, written: Model):
        self.profiles, self.written = profiles, written
        settings = written.training
        count = min(settings.random_pairs, len(profiles) * (len(profiles) - 1) // 2)
        draw = np.random.default_rng(settings.seed).integers(0, max(len(profiles), 1), size=(2, count))
        left, right = draw[:, draw[0] != draw[1]]
        self.pairs = ComparedPairs(profiles, left, right, written.comparisons)
        self.held = number_held_values(profiles, written)
        self.estimated_at_first = self.estimate(written, np.arange(len(profiles)), {})

    def level_counts(self, comparison: Comparison, persons: np.ndarray) -> np.ndarray:
        """How many random pairs of different persons stand at each level (index = level number)."""
        level = self.pairs.levels[comparison.name]
        left, right = self.pairs.rows
        kept = level[(level != MISSING) & (persons[left] != persons[right])]
        return np.bincount(kept, minlength=len(comparison.levels))

    def estimate(self, model: Model, persons: np.ndarray, holders: dict[str, np.ndarray]) -> Model:
        """The model with the u of every level and the frequencies of values among different persons.

        persons: the number of each profile's person. holders: as value_holders gives them.
        """

        def estimated(comparison: Comparison) -> Comparison:
            counts = self.level_counts(comparison, persons).astype(float)
            expected = np.array(
                [level.u for level in reversed(self.written.comparison(comparison.name).levels)]
            )
            # As if one pair had been seen before, in as many as the written u needs for it (Gamma prior).
            u = (counts + 1) / (counts.sum() + 1 / expected)
            frequencies, rare, by_chance = value_shares(
                comparison, self.profiles, holders.get(comparison.name, persons), self.held, model
            )
            strongest = comparison.levels[0].test
            if strongest in by_chance:
                u[-1] = by_chance[strongest]
            u /= u.sum()
            levels = tuple(
                replace(
                    level,
                    u=float(chance),
                    # A level of frequent and rare values together has the u that was counted.
                    at_this_level=float(min(1.0, chance / by_chance.get(level.test, chance))),
                )
                for level, chance in zip(comparison.levels, reversed(u), strict=True)
            )
            return replace(comparison, levels=levels, frequencies=frequencies, rare_frequency=rare)

        with ThreadPoolExecutor(WORKERS) as pool:
            return replace(model, comparisons=tuple(pool.map(estimated, model.comparisons)))


@dataclass(frozen=True)
class HeldValues:
    """The values that a test's frequencies count: those of several profiles, and how many are of one."""

    keys: pl.Series  # under which Comparison.frequencies holds them
    profile: np.ndarray  # rows of the profiles that have a value which others have too
    value: np.ndarray  # its number
    once: int  # values that one profile only has


def number_held_values(profiles: NumberedProfiles, model: Model) -> dict[tuple[str, str], HeldValues]:
    """(comparison, test) -> the values that its frequencies count."""
    held = {}
    for comparison in model.comparisons:
        for level in comparison.levels:
            if not level.term_frequency or level.test == "area_of_city":
                continue
            column = frequency_column(comparison, level.test)
            units, unit_of, mark = frequency_units(level.test, profiles.values[column])
            codes = profiles.codes[column]
            if column != comparison.name:
                # The mailbox of an address that is nobody's own.
                codes = np.where(profiles.codes[comparison.name] >= 0, codes, MISSING)
            if unit_of is not None and len(unit_of):
                codes = np.where(codes >= 0, unit_of[codes], MISSING)
            holders = np.bincount(codes[codes >= 0], minlength=len(units))
            several = np.flatnonzero((codes >= 0) & (holders[codes] > 1 if len(units) else False))
            held[comparison.name, level.test] = HeldValues(
                keys=units.strings + mark,
                profile=several,
                value=codes[several].astype(np.int64),
                once=int((holders == 1).sum()),
            )
    return held


def value_shares(
    comparison: Comparison, profiles: NumberedProfiles, persons: np.ndarray, held: dict, model: Model
) -> tuple[dict[str, float], float | None, dict[str, float]]:
    """The share of persons who have each value, the share of one that is seen in one person only, and per test
    the chance that two persons have the same.

    Two strangers who share a value are two of the persons counted. How frequent it is for the second of them
    is told by all others, so one is left out of the count of each value (of the chance, none).
    """
    shares, rare, by_chance = {}, None, {}
    for level in comparison.levels:
        if not level.term_frequency:
            continue
        if level.test == "area_of_city":
            shares |= place_shares(profiles, persons, model.places)
            continue
        values = held[comparison.name, level.test]
        if not values.once and not len(values.profile):
            continue
        once_each = pl.Series(values.value * len(persons) + persons[values.profile]).unique()
        holders = np.bincount((once_each // len(persons)).to_numpy(), minlength=len(values.keys))
        total = values.once + holders.sum()
        once, twice = values.once + (holders == 1).sum(), (holders == 2).sum()
        discount = once / (once + 2 * twice + 1) if once else 0.5
        several = np.flatnonzero(holders > 2)
        frequent = (
            pl.DataFrame({"value": values.keys.gather(several), "persons": holders[several]})
            .sort(["persons", "value"], descending=[True, False])
            .head(model.training.max_frequencies)
            .select("value", share=(pl.col("persons") - 1 - discount) / total)
        )
        shares |= dict(zip(frequent["value"].to_list(), frequent["share"].to_list(), strict=True))
        once_only = float((1 - discount) / total)
        share = (holders[holders > 1] - discount) / total
        by_chance[level.test] = float((share**2).sum() + max(0.0, 1 - share.sum()) * once_only)
        if rare is None:
            rare = once_only
    return shares, rare, by_chance


def homes(profiles: NumberedProfiles, persons: np.ndarray) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Which persons have which city, and which postal area (as numbers); each once."""
    _, area_of = profiles.values["postal_code"].derived(postal_areas)
    postal = profiles.codes["postal_code"]
    areas = np.where(postal >= 0, area_of[postal] if len(area_of) else MISSING, MISSING)
    return tuple(
        pl.DataFrame({name: column, "person": persons})
        .filter(pl.col(name) >= 0)
        .unique()
        # Whoever has many places is no single person.
        .filter(pl.len().over("person") <= MOST_HOMES)
        for name, column in (("city", profiles.codes["city"]), ("area", areas))
    )


def learn_places(profiles: NumberedProfiles, persons: np.ndarray) -> dict[str, list[str]]:
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
    )
    area_names, _ = profiles.values["postal_code"].derived(postal_areas)
    belonging = belonging.select(
        city=profiles.values["city"].strings.gather(belonging["city"]),
        area=area_names.strings.gather(belonging["area"]),
    ).sort("city", "area")
    return dict(belonging.group_by("city", maintain_order=True).agg("area").rows())


def place_shares(
    profiles: NumberedProfiles, persons: np.ndarray, places: dict[str, list[str]]
) -> dict[str, float]:
    """Per city the share of persons with a postal code whose area belongs to it."""
    _, areas = homes(profiles, persons)
    area_names, _ = profiles.values["postal_code"].derived(postal_areas)
    share = areas.group_by("area").agg(share=pl.len() / areas.height)
    share = share.with_columns(area=area_names.strings.gather(share["area"]))
    return {
        f"{city} *": max(found, 1 / areas.height)
        for city, found in pl.DataFrame(
            {"city": list(places), "area": list(places.values())},
            schema={"city": pl.String, "area": pl.List(pl.String)},
        )
        .explode("area")
        .join(share, on="area", maintain_order="left")
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
    free: np.ndarray  # pairs with this pattern that may be counted for m
    counts: np.ndarray  # pairs with this pattern


def count_patterns(
    compared: ComparedPairs, counted: np.ndarray, free: dict[str, np.ndarray], model: Model
) -> tuple[Patterns, np.ndarray]:
    """The pairs as patterns of levels, and the pattern of each pair.

    Where frequency tells, u is part of the pattern, to the next power of two. counted: which pairs count.
    """
    frequencies = Frequencies(compared.profiles)

    def outcomes(comparison: Comparison) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The outcome of each pair, and the level and log2(u) of each outcome."""
        level = compared.levels[comparison.name]
        # A level, or a level and a power of two.
        outcome = (level + 1).astype(np.int16)
        level_of = list(range(-1, len(comparison.levels)))
        log_u = [0.0, *(np.log2(declared.u) for declared in reversed(comparison.levels))]
        if comparison.rare_frequency is not None:
            for place, declared in enumerate(comparison.levels):
                if declared.term_frequency:
                    own = len(comparison.levels) - 1 - place
                    rows = np.flatnonzero(level == own)
                    shared = frequencies.shared(compared, comparison, declared, rows)
                    outcome[rows] = len(level_of) + np.clip(np.rint(-np.log2(shared)), 0, RAREST)
                    level_of += [own] * (RAREST + 1)
                    log_u += [-float(power) for power in range(RAREST + 1)]
        return outcome, np.array(level_of, dtype=np.int8), np.array(log_u)

    of_pair = np.zeros(len(compared), dtype=np.int32)
    levels, log_us = [], []
    with ThreadPoolExecutor(WORKERS) as pool:
        found = list(pool.map(outcomes, model.comparisons))
    for outcome, level_of, log_u in found:
        of_pair = of_pair.astype(np.int64) * len(level_of) + outcome
        seen = np.zeros((of_pair.max(initial=0) + 1), dtype=bool)
        seen[of_pair] = True
        distinct = np.flatnonzero(seen)
        number = np.cumsum(seen, dtype=np.int32) - 1
        of_pair = number[of_pair]
        before, outcome = np.divmod(distinct, len(level_of))
        levels = [column[before] for column in levels] + [level_of[outcome]]
        log_us = [column[before] for column in log_us] + [log_u[outcome]]
    count = len(levels[0])
    patterns = Patterns(
        levels=np.column_stack(levels),
        log_u=np.column_stack(log_us),
        free=np.column_stack(
            [
                np.bincount(of_pair[free[comparison.name] & counted], minlength=count)
                for comparison in model.comparisons
            ]
        ).astype(float),
        counts=np.bincount(of_pair[counted], minlength=count).astype(float),
    )
    return patterns, of_pair


def match_patterns(patterns: Patterns, model: Model) -> tuple[np.ndarray, np.ndarray]:
    """Of each pattern the likelihood ratio m / u by comparison (one row each), and the match probability."""
    m, shared, prior, household_prior = _parameters(model)
    ratios = np.array([_ratio(patterns, k, chances) for k, chances in enumerate(m)])
    person = prior * ratios.prod(0)
    household = household_prior * (shared[:, None] * ratios + (1 - shared)[:, None]).prod(0)
    return ratios, person / (person + household + 1 - prior - household_prior)


def _parameters(model: Model) -> tuple[list[np.ndarray], np.ndarray, float, float]:
    m = [np.array([level.m for level in reversed(comparison.levels)]) for comparison in model.comparisons]
    return m, np.array([comparison.shared for comparison in model.comparisons]), *model.priors(model.profiles)


def _ratio(patterns: Patterns, k: int, m: np.ndarray) -> np.ndarray:
    """m / u of each pattern in its k-th comparison; missing, whose u is 1, is 1."""
    return np.append(m, 1.0)[patterns.levels[:, k]] * np.exp2(-patterns.log_u[:, k])


def expectation_maximisation(patterns: Patterns, model: Model, written: Model, total_pairs: float) -> Model:
    """The model with m, the household's shares and both priors as EM finds them; u stays.

    Three kinds of pairs: one person (m), one household (each attribute shared by chance `shared`, else as
    among strangers), strangers (u). total_pairs: all pairs of profiles; those in no pattern are strangers.
    """
    comparisons = model.comparisons
    m, shared, prior, household_prior = _parameters(model)
    expected = _parameters(written)[0]
    weight = model.training.prior_pairs
    compared = [k for k in range(len(comparisons)) if (patterns.levels[:, k] >= 0).any()]
    learnt = [k for k in compared if comparisons[k].shared_is_learnt]
    support = np.zeros(len(comparisons))
    # Always as many parts, so that sums do not depend on the machine.
    size = -(-len(patterns.counts) // WORKERS)
    outcomes = max(map(len, m)) + 1
    parts = [
        _PatternPart(patterns, compared, outcomes, slice(first, first + size))
        for first in range(0, WORKERS * size, size)
    ]
    with ThreadPoolExecutor(WORKERS) as pool:
        for _ in range(model.training.iterations):
            expectations = [
                pool.submit(part.expect, m, shared, (prior, household_prior), learnt) for part in parts
            ]
            person_count, household_count, observed, alike, together = (
                sum(found)
                for found in zip(*(expectation.result() for expectation in expectations), strict=True)
            )
            before = np.concatenate([*m, shared])
            for place, k in enumerate(compared):
                of_level = observed[place, 1 : len(m[k]) + 1]
                support[k] = of_level.sum()
                m[k] = (of_level + weight * expected[k]) / (of_level.sum() + weight)
                m[k] = by_situation(comparisons[k], m[k])
            for place, k in enumerate(learnt):
                # Two pseudo-pairs, one of each kind, keep the share off 0 and 1.
                shared[k] = (together[place] + 1) / (alike[place] + 2)
            prior = max(person_count, 1.0) / total_pairs
            household_prior = max(household_count, 1.0) / total_pairs
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


class _PatternPart:
    """Some of the patterns, as EM goes through them again and again."""

    def __init__(self, patterns: Patterns, compared: list[int], outcomes: int, part: slice):
        self.compared, self.counts = compared, patterns.counts[part]
        self.inverse_u = [np.exp2(-patterns.log_u[part, k]) for k in compared]
        self.outcome = [patterns.levels[part, k] + np.int64(1) for k in compared]  # 0 is missing
        self.free = [patterns.free[part, k].copy() for k in compared]
        self.outcomes = outcomes

    def expect(
        self, m: list[np.ndarray], shared: np.ndarray, priors: tuple[float, float], learnt: list[int]
    ) -> tuple[float, float, np.ndarray, np.ndarray, np.ndarray]:
        """Expected pairs of one person and of one household; of one person at each level, a row per compared
        attribute, missing first; of one household with a value, and with the same one, per learnt attribute."""
        prior, household_prior = priors
        person = np.full(len(self.counts), prior)
        household = np.full(len(self.counts), household_prior)
        same = {}
        for k, outcome, inverse_u in zip(self.compared, self.outcome, self.inverse_u, strict=True):
            ratio = np.append(1.0, m[k])[outcome]
            ratio *= inverse_u
            person *= ratio
            if shared[k] > 0:
                ratio *= shared[k]
                either = ratio + (1 - shared[k])
                household *= either
                if k in learnt:
                    same[k] = np.divide(ratio, either, out=ratio)
        everything = person + household
        everything += 1 - prior - household_prior
        person /= everything
        household /= everything
        household *= self.counts
        observed = np.zeros((len(self.compared), self.outcomes))
        alike, together = np.zeros(len(learnt)), np.zeros(len(learnt))
        for place, (k, outcome, free) in enumerate(zip(self.compared, self.outcome, self.free, strict=True)):
            observed[place] = np.bincount(outcome, person * free, minlength=self.outcomes)
            if k in learnt:
                of_household = household * (outcome > 0)
                alike[learnt.index(k)] = of_household.sum()
                if k in same:
                    together[learnt.index(k)] = (of_household * same[k]).sum()
        return float((person * self.counts).sum()), float(household.sum()), observed, alike, together


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
