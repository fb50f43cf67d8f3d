"""Training of the matching model on the data itself, without labels.

1. Values that many clearly different names share (junk_values) are set aside.
2. Score the candidate pairs with the model so far and join the likely matches into provisional persons.
3. u: draw random pairs of profiles of *different* provisional persons and count the levels; so true matches
   among random pairs, which are most of those that agree on a phone, do not spoil it. Frequencies count
   persons, not records, and are discounted for what is only seen once (absolute discounting with one left
   out, Ney, Essen & Kneser 1994).
   What an attribute tells of another (told_by) is believed until the persons say otherwise.
4. m, the prior and the household's shares by EM over the patterns of levels, u held fixed. The m of an
   attribute is counted only on pairs that a rule without that attribute would have found too, so that
   blocking does not flatter it. Pairs that no rule found are strangers.
5. Levels out of order (m/u must grow with agreement) are pooled.
6. Repeat 2 to 5 a fixed number of rounds.

Sources: Fellegi & Sunter (1969); Winkler (1988, 2000); Enamorado, Fifield & Imai (2019, fastLink).
"""

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from scipy.sparse import coo_matrix, csr_matrix
from scipy.sparse.csgraph import connected_components

from matching.blocking import parse_term
from matching.comparisons import (
    CHUNK_PAIRS,
    MISSING,
    WORKERS,
    ComparedPairs,
    NumberedProfiles,
    Values,
    numbers_of,
    postal_areas,
    sorted_distinct,
)
from matching.model import Comparison, Model
from matching.scoring import Frequencies, ValueShares, frequency_column, frequency_units

LIKELY_MATCH = 0.9
# Attributes that belong to one person or home, whose value is junk when strangers share it.
OWN_ATTRIBUTES = ("email", "phone", "national_id")
# Tests that mean that it is the same one, however it is written.
SAME_VALUE = ("exact", "same_mailbox")
# Tests of a city against a postal code.
ACROSS = ("area_of_city", "outside_city")
# A frequency below 2^-RAREST counts as that in the patterns of EM.
RAREST = 31
LARGEST = np.iinfo(np.int64).max
MOST_HOMES = 5
# An attribute tells another where two persons who agree on the one agree on the other this often, spellings and slips
# allowed for. Of fewer pairs nothing is concluded, and of about so many records enough.
TOLD, FEW_ALIKE, MOST_ASKED = 0.75, 20, 200_000
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
    numbered = NumberedProfiles(profiles, junk)
    return train_and_compare(numbered, *numbered.rows(pairs), pairs["rules"].to_numpy(), model, junk)[0]


def train_and_compare(
    numbered: NumberedProfiles,
    left: np.ndarray,
    right: np.ndarray,
    rules: np.ndarray,
    model: Model,
    junk: dict[str, list[str]],
) -> tuple[Model, ComparedPairs, Frequencies]:
    """`model` with all its probabilities estimated from the data, and the pairs and frequencies as it compares them.

    numbered: the profiles, in order of their keys, without junk. left, right: the rows of the pairs. rules: the
    blocking rules that found each pair as bits (bit n for the n-th rule of model.blocking); pairs of a profile with
    itself are compared and not trained on. junk: attribute -> values to set aside. With fewer than
    min_training_pairs pairs the written probabilities stay and `notes` says so. The result depends on nothing but
    the arguments.
    """
    settings = model.training
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
        return replace(model, notes=(note,)), compared, Frequencies(numbered)
    strangers = beginning.result()
    counted_for = free_attributes(rules, counted, model)
    # At first every profile is a person.
    model, shares = strangers.estimated_at_first
    for _ in range(settings.rounds):
        patterns, of_pair = count_patterns(compared, counted_for, model, Frequencies(numbered, shares))
        model = in_order(
            expectation_maximisation(
                patterns, model, strangers.written, len(numbered) * (len(numbered) - 1) / 2
            )
        )
        ratios, probability = match_patterns(patterns, model)
        persons = join_rows(compared, (probability >= LIKELY_MATCH)[of_pair])
        for comparison in untold(numbered, persons, model):
            model = model_with(model, comparison)
            for pairs in (compared, strangers.pairs):
                pairs.compare_untold(comparison)
        with ThreadPoolExecutor(1) as aside:
            finding = aside.submit(value_holders, compared, ratios, of_pair, persons, model)
            lived_in = homes(numbered, persons)
            model = replace(model, places=learn_places(numbered, *lived_in))
            compared.read_places(model.places)
            strangers.pairs.read_places(model.places)
            holders = finding.result()
        model, shares = strangers.estimate(model, persons, holders, lived_in)
    model = in_order(with_frequencies(model, numbered, shares))
    return model, compared, Frequencies(numbered, shares)


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
            rows = np.flatnonzero(np.array(agreeing)[compared.levels[comparison.name]])
            rows = rows[not_against[of_pair[rows]]]
            left, right = (persons[side[rows]] for side in compared.rows)
            others = left != right
            holders[comparison.name] = _components(persons.max() + 1, left[others], right[others])[persons]
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
        self.estimated_at_first = self.estimate(written, np.arange(len(profiles)), {}, None)

    def estimate(
        self,
        model: Model,
        persons: np.ndarray,
        holders: dict[str, np.ndarray],
        lived_in: tuple[pl.DataFrame, pl.DataFrame] | None,
    ) -> tuple[Model, dict[tuple[str, str], ValueShares]]:
        """The model with the u of every level among different persons, and by comparison and test how frequent values
        are among them.

        persons: the number of each profile's person. holders: as value_holders gives them. lived_in: the homes of
        persons, None where no places are known.
        """
        left, right = self.pairs.rows
        are_strangers = persons[left] != persons[right]

        def estimated(comparison: Comparison) -> tuple[Comparison, dict[str, ValueShares]]:
            # How many random pairs of different persons stand at each level, missing first.
            level = self.pairs.levels[comparison.name][are_strangers] + np.int8(1)
            counts = np.bincount(level, minlength=len(comparison.levels) + 1)[1:].astype(float)
            expected = np.array(
                [level.u for level in reversed(self.written.comparison(comparison.name).levels)]
            )
            # As if one pair had been seen before, in as many as the written u needs for it (Gamma prior).
            u = (counts + 1) / (counts.sum() + 1 / expected)
            shares, rare, by_chance = value_shares(
                comparison, holders.get(comparison.name, persons), self.held, model.training.max_frequencies
            )
            if lived_in is not None and any(level.test == "area_of_city" for level in comparison.levels):
                shares["area_of_city"] = place_shares(self.profiles, lived_in[1], model.places)
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
            return replace(comparison, levels=levels, rare_frequency=rare), shares

        with ThreadPoolExecutor(WORKERS) as pool:
            found = list(pool.map(estimated, model.comparisons))
        model = replace(model, comparisons=tuple(comparison for comparison, _ in found))
        return model, {
            (comparison.name, test): values for comparison, shares in found for test, values in shares.items()
        }


def with_frequencies(
    model: Model, profiles: NumberedProfiles, shares: dict[tuple[str, str], ValueShares]
) -> Model:
    """The model with the frequencies of values by their names."""
    comparisons = []
    for comparison in model.comparisons:
        frequencies = {}
        for level in comparison.levels:
            if (comparison.name, level.test) in shares:
                units, share = shares[comparison.name, level.test]
                values = profiles.values[frequency_column(comparison, level.test)]
                counted, _, mark = frequency_units(level.test, values)
                names = counted.strings.gather(units) + mark
                frequencies |= dict(zip(names.to_list(), share.tolist(), strict=True))
        comparisons.append(replace(comparison, frequencies=frequencies))
    return replace(model, comparisons=tuple(comparisons))


@dataclass(frozen=True)
class HeldValues:
    """The values that a test's frequencies count: those of several profiles, and how many are of one."""

    units: pl.Series  # what is counted, by its number
    profile: np.ndarray  # rows of the profiles that have a value which others have too
    value: np.ndarray  # its number
    once: int  # values that one profile only has


def numbered_units(
    profiles: NumberedProfiles, comparison: Comparison, test: str
) -> tuple[Values, np.ndarray]:
    """What a test looks at, such as local parts: the distinct ones, and the number of each profile's, -1 for none."""
    column = frequency_column(comparison, test)
    units, unit_of, _ = frequency_units(test, profiles.values[column])
    codes = profiles.codes[column]
    if column != comparison.name:
        # The mailbox of an address that is nobody's own.
        codes = np.where(profiles.codes[comparison.name] >= 0, codes, MISSING)
    if unit_of is not None and len(unit_of):
        codes = np.where(codes >= 0, unit_of[codes], MISSING)
    return units, codes


def number_held_values(profiles: NumberedProfiles, model: Model) -> dict[tuple[str, str], HeldValues]:
    """(comparison, test) -> the values that its frequencies count."""
    held = {}
    for comparison in model.comparisons:
        for level in comparison.levels:
            if not level.term_frequency or level.test == "area_of_city":
                continue
            units, codes = numbered_units(profiles, comparison, level.test)
            holders = np.bincount(codes[codes >= 0], minlength=len(units))
            several = np.flatnonzero((codes >= 0) & (holders[codes] > 1 if len(units) else False))
            held[comparison.name, level.test] = HeldValues(
                units=units.strings,
                profile=several,
                value=codes[several].astype(np.int64),
                once=int((holders == 1).sum()),
            )
    return held


def value_shares(
    comparison: Comparison, persons: np.ndarray, held: dict[tuple[str, str], HeldValues], most: int
) -> tuple[dict[str, ValueShares], float | None, dict[str, float]]:
    """Per test the share of persons who have each of up to `most` values, the share of one that is seen in one person
    only, and per test the chance that two persons have the same.

    Two strangers who share a value are two of the persons counted. How frequent it is for the second of them
    is told by all others, so one is left out of the count of each value (of the chance, none).
    """
    shares, rare, by_chance = {}, None, {}
    for level in comparison.levels:
        values = held.get((comparison.name, level.test))
        if values is None or (not values.once and not len(values.profile)):
            continue
        # Who holds which, each once.
        held_by = sorted_distinct(values.value * len(persons) + persons[values.profile])
        holders = np.bincount(held_by // len(persons), minlength=len(values.units))
        total = values.once + holders.sum()
        once, twice = values.once + (holders == 1).sum(), (holders == 2).sum()
        discount = once / (once + 2 * twice + 1) if once else 0.5
        frequent = np.flatnonzero(holders > 2)
        if len(frequent) > most:
            by_name = pl.DataFrame({"unit": frequent, "persons": holders[frequent]}).with_columns(
                value=values.units.gather(frequent)
            )
            by_name = by_name.sort(["persons", "value"], descending=[True, False])
            frequent = by_name["unit"].head(most).to_numpy()
        shares[level.test] = ValueShares(frequent, (holders[frequent] - 1 - discount) / total)
        once_only = float((1 - discount) / total)
        share = (holders[holders > 1] - discount) / total
        by_chance[level.test] = float((share**2).sum() + max(0.0, 1 - share.sum()) * once_only)
        if rare is None:
            rare = once_only
    return shares, rare, by_chance


def untold(profiles: NumberedProfiles, persons: np.ndarray, model: Model) -> list[Comparison]:
    """The comparisons of which the data do not bear out that others tell them, or one of their levels, without that."""
    found = []
    for comparison in model.comparisons:
        codes = profiles.codes[comparison.name]
        changed = comparison
        if not is_told(profiles, persons, comparison.told_by, codes):
            changed = replace(changed, told_by=())
        for level in comparison.levels:
            if level.told_by:
                _, numbers = numbered_units(profiles, comparison, level.test)
                if not is_told(profiles, persons, level.told_by, numbers):
                    levels = (replace(each, told_by=()) if each is level else each for each in changed.levels)
                    changed = replace(changed, levels=tuple(levels))
        if changed is not comparison:
            found.append(changed)
    return found


def is_told(
    profiles: NumberedProfiles, persons: np.ndarray, tellers: tuple[str, ...], told: np.ndarray
) -> bool:
    """Whether attributes tell another: of the pairs of persons who agree on all of those, TOLD agree on this one.

    told: the number of its value for each profile, -1 for none.
    """
    if not tellers:
        return True
    codes = [profiles.codes[teller] for teller in tellers]
    rows = np.flatnonzero(np.logical_and.reduce([code >= 0 for code in (*codes, told)]))
    teller = _mixed([code[rows] for code in codes])
    # Of many, those who agree on some values.
    kept = np.flatnonzero(teller % np.uint64(len(rows) // MOST_ASKED + 1) == 0)
    teller, rows = teller[kept], rows[kept]
    # A person counts once per value.
    _, first = np.unique(_mixed([persons[rows], teller]), return_index=True)
    teller, told = teller[first], told[rows[first]]
    alike = _pairs_of_equal(teller)
    return alike < FEW_ALIKE or _pairs_of_equal(_mixed([teller, told])) >= TOLD * alike


def _mixed(columns: list[np.ndarray]) -> np.ndarray:
    """A hash of each combination of numbers (uint64): multiplied, and its bits folded, for each column."""
    mixed = np.zeros(len(columns[0]), dtype=np.uint64)
    for column in columns:
        mixed = (mixed ^ column.astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(32)
    return mixed


def _pairs_of_equal(numbers: np.ndarray) -> int:
    """How many pairs of them are equal."""
    _, counts = np.unique(numbers, return_counts=True)
    return int((counts * (counts - 1) // 2).sum())


def model_with(model: Model, changed: Comparison) -> Model:
    """The model with a comparison in place of the one of its name."""
    return replace(
        model,
        comparisons=tuple(changed if old.name == changed.name else old for old in model.comparisons),
    )


def homes(profiles: NumberedProfiles, persons: np.ndarray) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Which persons have which city, and which postal area (as numbers); each once."""
    _, area_of = profiles.values["postal_code"].derived(postal_areas)
    postal = profiles.codes["postal_code"]
    areas = np.where(postal >= 0, area_of[postal] if len(area_of) else MISSING, MISSING)
    found = []
    for name, place in (("city", profiles.codes["city"]), ("area", areas)):
        rows = np.flatnonzero(place >= 0)
        size = place.max(initial=0) + 1
        person, place = np.divmod(sorted_distinct(persons[rows] * np.int64(size) + place[rows]), size)
        # Whoever has many places is no single person.
        few = np.bincount(person)[person] <= MOST_HOMES
        found.append(pl.DataFrame({name: place[few], "person": person[few]}))
    return tuple(found)


def learn_places(
    profiles: NumberedProfiles, cities: pl.DataFrame, areas: pl.DataFrame
) -> dict[str, list[str]]:
    """City -> postal areas that belong to it, learnt from persons who have both, in one record or in several.

    An area belongs to a city when at least two persons have both, and four times as many as chance would
    have. cities, areas: as `homes` gives them.
    """
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
    profiles: NumberedProfiles, areas: pl.DataFrame, places: dict[str, list[str]]
) -> ValueShares:
    """Per city (its number) the share of persons with a postal code whose area belongs to it.

    areas: of persons, as `homes` gives them.
    """
    area_names, _ = profiles.values["postal_code"].derived(postal_areas)
    share = areas.group_by("area").agg(share=pl.len() / areas.height)
    share = share.with_columns(area=area_names.strings.gather(share["area"]))
    of_city = (
        pl.DataFrame(
            {"city": list(places), "area": list(places.values())},
            schema={"city": pl.String, "area": pl.List(pl.String)},
        )
        .explode("area")
        .join(share, on="area", maintain_order="left")
        .group_by("city", maintain_order=True)
        .agg(pl.col("share").sum())
    )
    return ValueShares(
        numbers_of(profiles.values["city"], of_city["city"]),
        np.maximum(of_city["share"].to_numpy(), 1 / max(areas.height, 1)),
    )


@dataclass(frozen=True)
class CountedFor:
    """For which attributes each pair may be counted. kind: a number per pair. of_kind: whether, a row per kind, a
    column per comparison, and a last one for pairs that count at all."""

    kind: np.ndarray
    of_kind: np.ndarray


def free_attributes(rules: np.ndarray, counted: np.ndarray, model: Model) -> CountedFor:
    """Per comparison: which pairs some rule found without looking at that attribute."""
    uses = []
    for rule in model.blocking:
        columns = set()
        for term in rule.key:
            function, column, _ = parse_term(term)
            columns |= {"given_name", "family_name"} if function == "name_tokens" else {column}
        uses.append({"email" if column == "email_mailbox" else column for column in columns})
    kind = counted.astype(np.int16) << len(model.comparisons)
    for place, comparison in enumerate(model.comparisons):
        without = sum(1 << number for number, used in enumerate(uses) if comparison.name not in used)
        free = (rules & without) != 0
        free &= counted
        kind |= free.astype(np.int16) << place
    kinds = np.flatnonzero(np.bincount(kind))
    number = np.zeros(kinds.max(initial=0) + 1, dtype=np.int16)
    number[kinds] = np.arange(len(kinds))
    bits = np.arange(len(model.comparisons) + 1)
    return CountedFor(number[kind], (kinds[:, None] >> bits & 1).astype(bool))


@dataclass(frozen=True)
class Patterns:
    """Distinct comparison vectors. levels, log_u, free: one row per pattern, one column per comparison."""

    levels: np.ndarray  # int8, -1 missing
    log_u: np.ndarray  # log2 of u at that level and frequency
    free: np.ndarray  # pairs with this pattern that may be counted for m
    counts: np.ndarray  # pairs with this pattern


class Outcomes:
    """What one comparison may say of a pair: a level, or a level and a power of two of the frequency of its value.

    level, log_u: of each outcome, by its number; the first one is missing.
    """

    def __init__(self, comparison: Comparison, compared: ComparedPairs, frequencies: Frequencies):
        self.comparison, self.compared = comparison, compared
        level = [*range(MISSING, len(comparison.levels))]
        log_u = [0.0, *(np.log2(declared.u) for declared in reversed(comparison.levels))]
        # The number of a level; its first outcome; column and powers of its values.
        self.by_value: list[tuple[int, int, str, np.ndarray]] = []
        for place, declared in enumerate(comparison.levels):
            if declared.term_frequency and comparison.rare_frequency is not None:
                number = len(comparison.levels) - 1 - place
                column, frequency = frequencies.of_values(comparison, declared)
                powers = np.clip(np.rint(-np.log2(frequency)), 0, RAREST).astype(np.int16)
                self.by_value.append((number, len(level), column, powers))
                level += [number] * (RAREST + 1)
                log_u += [-float(power) for power in range(RAREST + 1)]
        self.level, self.log_u = np.array(level, dtype=np.int8), np.array(log_u)

    def __len__(self) -> int:
        return len(self.level)

    def of(self, part: slice) -> np.ndarray:
        """The outcome of each pair of a part, as a number."""
        level = self.compared.levels[self.comparison.name][part]
        outcome = level.astype(np.int16) + np.int16(1)
        for number, first, column, powers in self.by_value:
            rows = np.flatnonzero(level == number)
            left, right = self.compared.sides(column, rows + part.start)
            # Of two values the more frequent one.
            outcome[rows] = first + np.minimum(powers.take(left), powers.take(right))
        return outcome


def count_patterns(
    compared: ComparedPairs, counted_for: CountedFor, model: Model, frequencies: Frequencies
) -> tuple[Patterns, np.ndarray]:
    """The pairs as patterns of levels, and the pattern of each pair.

    Where frequency tells, u is part of the pattern, to the next power of two. A pattern is found as a number, the
    digits of which are outcomes of comparisons: of as many at a time as an integer holds.
    """
    with ThreadPoolExecutor(WORKERS) as pool:
        waiting = list(
            pool.map(lambda comparison: Outcomes(comparison, compared, frequencies), model.comparisons)
        )
    of_pair, count = np.zeros(len(compared), dtype=np.int32), 1
    levels: list[np.ndarray] = []
    log_us: list[np.ndarray] = []
    while waiting:
        digits: list[Outcomes] = []
        while waiting and count * math.prod(map(len, [*digits, waiting[0]])) < LARGEST:
            digits.append(waiting.pop(0))
        distinct, counts = _number_distinct(of_pair, digits, counted_for)
        found = []
        for outcomes in reversed(digits):
            distinct, digit = np.divmod(distinct, len(outcomes))
            found.insert(0, (outcomes.level[digit], outcomes.log_u[digit]))
        levels = [column[distinct] for column in levels] + [level for level, _ in found]
        log_us = [column[distinct] for column in log_us] + [log_u for _, log_u in found]
        count = len(distinct)
    patterns = Patterns(
        levels=np.column_stack(levels), log_u=np.column_stack(log_us), free=counts[:-1].T, counts=counts[-1]
    )
    return patterns, of_pair


def _number_distinct(
    of_pair: np.ndarray, digits: list[Outcomes], counted_for: CountedFor
) -> tuple[np.ndarray, np.ndarray]:
    """The distinct numbers that the pairs have with these digits added, and for what their pairs count, a row for each
    column of CountedFor.of_kind; puts the place among them into of_pair."""
    kinds = len(counted_for.of_kind)

    def number(part: slice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        code = of_pair[part].astype(np.int64)
        for outcomes in digits:
            code *= len(outcomes)
            code += outcomes.of(part)
        codes, place = np.unique(code, return_inverse=True)
        of_kind = np.bincount(
            counted_for.kind[part] * np.int64(len(codes)) + place, minlength=len(codes) * kinds
        )
        of_kind = of_kind.reshape(kinds, len(codes))
        # No product of matrices: its sums, and the threads it takes, depend on the machine.
        counted = np.array([of_kind[some].sum(0) for some in counted_for.of_kind.T])
        return codes, place.astype(np.int32), counted

    parts = [slice(first, first + CHUNK_PAIRS) for first in range(0, len(of_pair), CHUNK_PAIRS)]
    with ThreadPoolExecutor(WORKERS) as pool:
        found = list(pool.map(number, parts))
    distinct = sorted_distinct(np.concatenate([np.empty(0, dtype=np.int64), *(codes for codes, *_ in found)]))
    counts = np.zeros((counted_for.of_kind.shape[1], len(distinct)))
    for part, (codes, place, counted) in zip(parts, found, strict=True):
        number_of = np.searchsorted(distinct, codes)
        of_pair[part] = number_of[place]
        counts[:, number_of] += counted
    return distinct, counts


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
    # Always as many parts, so that sums do not depend on the machine.
    size = -(-len(patterns.counts) // WORKERS)
    support = np.zeros(len(comparisons))
    with ThreadPoolExecutor(WORKERS) as pool:
        parts = list(
            pool.map(
                lambda first: _PatternPart(patterns, compared, slice(first, first + size)),
                range(0, WORKERS * size, size),
            )
        )
        for _ in range(model.training.iterations):
            # A row per compared attribute: missing, whose m is 1, then its levels.
            chances = np.ones((len(compared), max(map(len, m)) + 1))
            for place, k in enumerate(compared):
                chances[place, 1 : len(m[k]) + 1] = m[k]
            known = chances, shared[compared], prior, household_prior
            expectations = [pool.submit(part.expect, *known) for part in parts]
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
                if comparisons[k].shared_is_learnt:
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
    """Some of the patterns, as EM goes through them again and again.

    What a pattern says of an attribute is one of few cases: a level and the u of it. What EM makes of an attribute is
    made once per case, and cases and patterns are two sides of a sparse matrix, in which each pattern has one case
    of each compared attribute.
    """

    def __init__(self, patterns: Patterns, compared: list[int], part: slice):
        self.counts = patterns.counts[part]
        # Of each case the place of its attribute in `compared`, its level plus 1 (0 is missing), and 1 / u.
        place_of, outcomes, inverse_u, columns = [], [], [], []
        for place, k in enumerate(compared):
            log_u, u_number = np.unique(patterns.log_u[part, k], return_inverse=True)
            code = (patterns.levels[part, k] + np.int64(1)) * len(log_u) + u_number
            cases, case = np.unique(code, return_inverse=True)
            columns.append(case + sum(map(len, outcomes)))
            place_of.append(np.full(len(cases), place))
            outcomes.append(cases // max(len(log_u), 1))
            inverse_u.append(np.exp2(-log_u[cases % max(len(log_u), 1)]))
        self.place_of, self.outcome = np.concatenate(place_of), np.concatenate(outcomes)
        self.inverse_u = np.concatenate(inverse_u)
        shape = len(self.counts), len(self.outcome)
        of_pattern = np.column_stack(columns).ravel()
        starts = np.arange(len(self.counts) + 1) * len(compared)
        self.cases = csr_matrix((np.ones(len(of_pattern)), of_pattern, starts), shape)
        free = patterns.free[part][:, compared].ravel()
        self.patterns_of, self.free_of = self.cases.T, csr_matrix((free, of_pattern, starts), shape).T

    def expect(
        self, m: np.ndarray, shared: np.ndarray, prior: float, household_prior: float
    ) -> tuple[float, float, np.ndarray, np.ndarray, np.ndarray]:
        """Expected pairs of one person and of one household; of one person at each level, a row per compared
        attribute, missing first; of one household with a value, and with the same one, per compared attribute.

        m: by attribute and outcome. shared: by attribute.
        """
        ratio = m[self.place_of, self.outcome] * self.inverse_u
        either = shared[self.place_of] * ratio + (1 - shared[self.place_of])
        same = shared[self.place_of] * ratio / either
        person = prior * np.exp2(self.cases @ np.log2(ratio))
        household = household_prior * np.exp2(self.cases @ np.log2(either))
        everything = person + household
        everything += 1 - prior - household_prior
        person /= everything
        household /= everything
        household *= self.counts
        observed = np.zeros(m.shape)
        np.add.at(observed, (self.place_of, self.outcome), self.free_of @ person)
        with_value = (self.patterns_of @ household) * (self.outcome > 0)
        return (
            float((person * self.counts).sum()),
            float(household.sum()),
            observed,
            np.bincount(self.place_of, with_value, minlength=len(m)),
            np.bincount(self.place_of, with_value * same, minlength=len(m)),
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
