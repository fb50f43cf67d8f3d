"""Comparison levels for pairs of people, a column at a time.

1. Number the distinct values of an attribute, so that a pair is two numbers and equality is one comparison of
   integers; missing is -1.
2. Line the names up: a record that has one name only, or given and family name in each other's place, is read
   in the order that agrees with the other record.
3. For each attribute try its levels strongest first, each on the pairs that no stronger level took. What a
   test needs of a value (first name, digits, local part) is worked out once per distinct value.

In a level column -1 is missing on either side, 0 is "else", and a higher number is a stronger agreement.
"""

from collections.abc import Callable
from functools import cache

import numpy as np
import polars as pl
from nicknames import name_triplets
from rapidfuzz import fuzz
from rapidfuzz.distance import OSA, JaroWinkler
from rapidfuzz.process import cpdist

MISSING = -1
ATTRIBUTES = (
    "email",
    "phone",
    "given_name",
    "family_name",
    "birth_date",
    "address",
    "city",
    "postal_code",
    "national_id",
)
# A misspelt name is still recognised in the other name's place above this Jaro-Winkler similarity.
MISPLACED_NAME_SIMILARITY = 0.92
FIRST_NAME_SIMILARITY = 0.80
# Shorter local parts (info, mail, kim) say little about who owns the mailbox.
MIN_LOCAL_PART = 5
MIN_MISSPELT = 3
WORKERS = 2


class Values:
    """The distinct values behind the numbers of one attribute, and what tests derive from them."""

    def __init__(self, strings: pl.Series):
        self.strings = strings
        self.objects = strings.to_numpy().astype(object)
        self._derived: dict = {}

    def __len__(self) -> int:
        return len(self.objects)

    def derived(self, make: Callable[["Values"], object]):
        """`make(values)`, worked out once."""
        if make not in self._derived:
            self._derived[make] = make(self)
        return self._derived[make]


def number_values(columns: list[pl.Series]) -> tuple[Values, list[np.ndarray]]:
    """The distinct values of some columns together, and each column as numbers into them (-1 for null)."""
    strings = [column.cast(pl.String) for column in columns]
    distinct = pl.concat([column.rename("") for column in strings]).drop_nulls().unique(maintain_order=True)
    if len(distinct) == 0:
        return Values(distinct), [np.full(len(column), MISSING, dtype=np.int32) for column in strings]
    numbering = pl.Enum(distinct)
    codes = [
        column.cast(numbering).to_physical().cast(pl.Int32).fill_null(MISSING).to_numpy()
        for column in strings
    ]
    return Values(distinct), codes


def rows_of_keys(profiles: pl.DataFrame, keys: pl.Series) -> np.ndarray:
    """The row of `profiles` that each profile key stands in. Raises KeyError for a key that is not there."""
    known = profiles["profile_key"].to_numpy()
    order = np.argsort(known, kind="stable")
    wanted = keys.to_numpy()
    place = np.searchsorted(known, wanted, sorter=order)
    rows = order[np.minimum(place, max(len(known) - 1, 0))] if len(known) else place
    if len(wanted) and (not len(known) or (known[rows] != wanted).any()):
        raise KeyError("pairs name a profile_key that profiles does not have")
    return rows


class PairBatch:
    """Pairs of profiles as numbers: `left[attribute]` and `right[attribute]` point into `values[attribute]`.

    profiles: profile_key and the attributes of ATTRIBUTES (and email_mailbox), null for missing.
    pairs: left_key, right_key. ignored: attribute -> values that are nobody's own and count as missing.
    places: city -> postal areas that belong to it. `rows` are the rows of `profiles` that the pairs name.
    """

    def __init__(
        self,
        profiles: pl.DataFrame,
        pairs: pl.DataFrame,
        ignored: dict[str, list[str]] | None = None,
        places: dict[str, list[str]] | None = None,
    ):
        self.rows = (rows_of_keys(profiles, pairs["left_key"]), rows_of_keys(profiles, pairs["right_key"]))
        self.profiles, self._used = self._only_used(profiles)
        self.ignored = ignored or {}
        self.values: dict[str, Values] = {}
        self.left: dict[str, np.ndarray] = {}
        self.right: dict[str, np.ndarray] = {}
        self._number_names()
        for attribute in (*ATTRIBUTES, "email_mailbox"):
            if attribute not in ("given_name", "family_name"):
                values, (codes,) = number_values([self.profiles[attribute]])
                self._keep(attribute, values, self._without_ignored(attribute, values, codes))
        self._cities = self.left["city"], self.right["city"]
        self.read_places(places or {})

    def __len__(self) -> int:
        return len(self.rows[0])

    def _only_used(self, profiles: pl.DataFrame) -> tuple[pl.DataFrame, tuple[np.ndarray, np.ndarray]]:
        """The profiles that the pairs name, and the rows of both sides among these.

        So few pairs of many profiles do not cost what many pairs do.
        """
        used = np.zeros(profiles.height, dtype=bool)
        used[self.rows[0]] = used[self.rows[1]] = True
        if used.all():
            return profiles, self.rows
        place = np.cumsum(used) - 1
        return profiles.filter(pl.Series(used)), (place[self.rows[0]], place[self.rows[1]])

    def read_places(self, places: dict[str, list[str]]) -> None:
        """Where one side has only a city and the other only a postal code: does the one belong to the other?

        `across` are the pairs that can be told, `in_area` those that belong together. Both their sides then
        point to the city.
        """
        left, right = self._cities
        left_postal, right_postal = self.left["postal_code"], self.right["postal_code"]
        city = np.maximum(left, right)
        cities, postal_codes = self.values["city"], self.values["postal_code"]
        areas, area_of = postal_codes.derived(postal_areas)
        number = {text: code for code, text in enumerate(areas.objects)}
        belongs = [
            (code, number[area])
            for code, text in enumerate(cities.objects)
            for area in places.get(text, ())
            if area in number
        ]
        told = np.append(np.fromiter((text in places for text in cities.objects), bool, len(cities)), False)
        self.across = ((left >= 0) != (right >= 0)) & ((left_postal >= 0) != (right_postal >= 0))
        self.across &= ((left >= 0) == (right_postal >= 0)) & told[city]
        rows = np.flatnonzero(self.across)
        area = area_of[np.maximum(left_postal, right_postal)[rows]] if len(rows) else rows
        known = np.sort(np.array([code * len(areas) + area for code, area in belongs], dtype=np.int64))
        self.in_area = np.zeros(len(self), dtype=bool)
        self.in_area[rows] = contains(known, city[rows].astype(np.int64) * len(areas) + area)
        self.left["city"] = np.where(self.across, city, left)
        self.right["city"] = np.where(self.across, city, right)

    def _keep(self, attribute: str, values: Values, codes: np.ndarray) -> None:
        self.values[attribute] = values
        self.left[attribute], self.right[attribute] = codes[self._used[0]], codes[self._used[1]]

    def _without_ignored(self, attribute: str, values: Values, codes: np.ndarray) -> np.ndarray:
        ignored = self.ignored.get(attribute)
        if not ignored or not len(values):
            return codes
        junk = np.append(values.strings.is_in(ignored).to_numpy(), True)  # the last answers for code -1
        return np.where(junk[codes], MISSING, codes).astype(np.int32)

    def _number_names(self) -> None:
        """Numbers given and family names together and reads misplaced names in the order that agrees."""
        values, (given, family) = number_values([self.profiles["given_name"], self.profiles["family_name"]])
        self._keep("given_name", values, given)
        self._keep("family_name", values, family)
        left_given, left_family = self.left["given_name"], self.left["family_name"]
        right_given, right_family = self.right["given_name"], self.right["family_name"]
        both_full = (left_given >= 0) & (left_family >= 0) & (right_given >= 0) & (right_family >= 0)
        apart = (left_given != right_given) & (left_family != right_family)
        crossed = shares_letter(values, left_family, right_given) | shares_letter(
            values, left_given, right_family
        )
        rows = np.flatnonzero(both_full & apart & crossed)
        left_given, left_family = left_given[rows], left_family[rows]
        right_given, right_family = right_given[rows], right_family[rows]
        straight = same_or_similar(values, left_given, right_given, MISPLACED_NAME_SIMILARITY)
        straight |= same_or_similar(values, left_family, right_family, MISPLACED_NAME_SIMILARITY)
        left_is_swapped = same_or_similar(values, left_given, right_family, MISPLACED_NAME_SIMILARITY)
        left_is_swapped &= compatible_first_names(values, left_family, right_given)
        right_is_swapped = same_or_similar(values, left_family, right_given, MISPLACED_NAME_SIMILARITY)
        right_is_swapped &= compatible_first_names(values, left_given, right_family)
        swapped = ~straight & (left_is_swapped | right_is_swapped)
        self.swapped = np.zeros(len(self), dtype=bool)
        self.swapped[rows[swapped]] = True
        # The name that agrees best is the family name; where both do, the later one in the alphabet.
        later = values.derived(alphabetical_ranks)
        turn_left = left_is_swapped & (~right_is_swapped | (later[left_given] > later[left_family]))
        _exchange(self.left["given_name"], self.left["family_name"], rows[swapped & turn_left])
        _exchange(self.right["given_name"], self.right["family_name"], rows[swapped & ~turn_left])

        # One name only: it may stand in either place. It is moved to where the other record agrees with it.
        for given, family, other_given, other_family in (
            (
                self.left["given_name"],
                self.left["family_name"],
                self.right["given_name"],
                self.right["family_name"],
            ),
            (
                self.right["given_name"],
                self.right["family_name"],
                self.left["given_name"],
                self.left["family_name"],
            ),
        ):
            alone = np.flatnonzero(
                ((given >= 0) != (family >= 0)) & ((other_given >= 0) | (other_family >= 0))
            )
            in_given = given[alone] >= 0
            name = np.where(in_given, given[alone], family[alone])
            here = np.where(in_given, other_given[alone], other_family[alone])
            there = np.where(in_given, other_family[alone], other_given[alone])
            move = same_or_similar(values, name, there, MISPLACED_NAME_SIMILARITY) & ~same_or_similar(
                values, name, here, MISPLACED_NAME_SIMILARITY
            )
            _exchange(given, family, alone[move])


def _exchange(one: np.ndarray, other: np.ndarray, rows: np.ndarray) -> None:
    one[rows], other[rows] = other[rows], one[rows].copy()


# ------------------------------------------------------------------------------- what is derived from values


def first_letters(values: Values) -> np.ndarray:
    """The first letter of each value as its code point, 0 for none."""
    return np.fromiter((ord(text[0]) if text else 0 for text in values.objects), np.int32, len(values))


def alphabetical_ranks(values: Values) -> np.ndarray:
    return values.strings.rank("ordinal").to_numpy()


def without_spaces(values: Values) -> np.ndarray:
    return values.strings.str.replace_all(r"[\s\-]", "").to_numpy().astype(object)


def first_tokens(values: Values) -> tuple[Values, np.ndarray]:
    """The distinct first tokens, and the number of each value's first token."""
    tokens, (codes,) = number_values([values.strings.str.extract(r"^(\S+)").fill_null("")])
    return tokens, codes


def other_initials(values: Values) -> np.ndarray:
    """The initials of all tokens after the first, as one string: "john henry paul" gives "hp"."""
    return (
        values.strings.str.split(" ")
        .list.eval(pl.element().str.slice(0, 1))
        .list.slice(1)
        .list.join("")
        .to_numpy()
        .astype(object)
    )


def token_sets(values: Values) -> np.ndarray:
    """The tokens of each value of at least two letters, as a frozenset; hyphens part tokens too."""
    made = np.empty(len(values), dtype=object)
    for row, text in enumerate(values.objects):
        made[row] = frozenset(token for token in text.replace("-", " ").split() if len(token) > 1)
    return made


def local_parts(values: Values) -> tuple[Values, np.ndarray]:
    local, (codes,) = number_values([values.strings.str.extract(r"^(.+)@")])
    return local, codes


def postal_area(codes: pl.Series) -> pl.Series:
    """All but the last three characters, at least two: cr0 4dt -> cr0, 90210 -> 90, 3579 -> 35."""
    kept = pl.max_horizontal(pl.col("code").str.len_chars().cast(pl.Int64) - 3, pl.lit(2, pl.Int64))
    return codes.to_frame("code").select(pl.col("code").str.slice(0, kept).str.strip_chars_end()).to_series()


def postal_areas(values: Values) -> tuple[Values, np.ndarray]:
    areas, (codes,) = number_values([postal_area(values.strings)])
    return areas, codes


def date_digits(values: Values) -> np.ndarray:
    """ISO dates as rows of their eight digits, yyyymmdd."""
    joined = "".join(text.replace("-", "")[-8:].rjust(8, "0") for text in values.objects)
    return np.frombuffer(joined.encode("ascii"), dtype=np.uint8).reshape(len(values), 8) - ord("0")


def contains(known: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Which of `wanted` are in the sorted `known`."""
    if not len(known):
        return np.zeros(len(wanted), dtype=bool)
    return known[np.minimum(np.searchsorted(known, wanted), len(known) - 1)] == wanted


# ------------------------------------------------------------------------------------------ string closeness


def similarity(left: np.ndarray, right: np.ndarray, scorer, cutoff: float) -> np.ndarray:
    return cpdist(left, right, scorer=scorer, score_cutoff=cutoff, dtype=np.float32, workers=WORKERS)


def same_or_similar(values: Values, left: np.ndarray, right: np.ndarray, at_least: float) -> np.ndarray:
    """Which pairs of value numbers are equal or Jaro-Winkler similar; missing is neither."""
    alike = (left == right) & (left >= 0)
    rows = np.flatnonzero(~alike & (left >= 0) & (right >= 0))
    text = values.derived(without_spaces)
    alike[rows] = (
        similarity(text[left[rows]], text[right[rows]], JaroWinkler.normalized_similarity, at_least)
        >= at_least
    )
    return alike


def shares_letter(values: Values, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """A cheap filter: which pairs begin with the same letter."""
    letters = np.append(values.derived(first_letters), -1)
    return letters[left] == letters[right]


@cache
def nickname_pairs() -> pl.DataFrame:
    """Pairs of names one person may go by: a name and its diminutive, or two diminutives of one name."""
    listed = pl.DataFrame(
        [(row.name1, row.name2) for row in name_triplets()], schema=["name", "nickname"], orient="row"
    ).unique()
    siblings = listed.join(listed, on="name").select(name="nickname", nickname="nickname_right")
    both = pl.concat([listed, siblings])
    return (
        pl.concat([both, both.select(name="nickname", nickname="name")])
        .filter(pl.col("name") != pl.col("nickname"))
        .unique()
        .sort("name", "nickname")
    )


def nickname_codes(values: Values) -> np.ndarray:
    """Sorted numbers `left * count + right` of the first tokens that are nicknames of one another."""
    tokens, _ = values.derived(first_tokens)
    numbered = pl.DataFrame({"name": tokens.strings, "code": np.arange(len(tokens), dtype=np.int64)})
    return (
        nickname_pairs()
        .join(numbered, on="name")
        .join(numbered, left_on="nickname", right_on="name", suffix="_other")
        .select(pl.col("code") * len(tokens) + pl.col("code_other"))
        .to_series()
        .sort()
        .to_numpy()
    )


def are_nicknames(values: Values, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Which pairs of value numbers have first names that one person may go by."""
    tokens, first = values.derived(first_tokens)
    return contains(values.derived(nickname_codes), first[left].astype(np.int64) * len(tokens) + first[right])


def is_initial(values: Values, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Which pairs have a first name of a single letter on one side, with which the other's begins."""
    tokens, first = values.derived(first_tokens)
    short = tokens.strings.str.len_chars().to_numpy() == 1
    return (short[first[left]] | short[first[right]]) & shares_letter(values, left, right)


def compatible_first_names(values: Values, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Which pairs may be the first names of one person: equal or similar, a nickname, an initial."""
    tokens, first = values.derived(first_tokens)
    return (
        same_or_similar(tokens, first[left], first[right], FIRST_NAME_SIMILARITY)
        | are_nicknames(values, left, right)
        | is_initial(values, left, right)
    )


# ---------------------------------------------------------------------------------------------------- tests
# Each takes the batch, the attribute, the rows of pairs to look at (both sides present, not equal), and
# `at_least`; and answers with a mask over those rows.


def _sides(batch: PairBatch, attribute: str, rows: np.ndarray) -> tuple[Values, np.ndarray, np.ndarray]:
    return batch.values[attribute], batch.left[attribute][rows], batch.right[attribute][rows]


def exact(batch, attribute, rows, at_least):
    _, left, right = _sides(batch, attribute, rows)
    return left == right


def similar(batch, attribute, rows, at_least):
    """Jaro-Winkler similarity of at least `at_least`."""
    values, left, right = _sides(batch, attribute, rows)
    return same_or_similar(values, left, right, at_least)


def misspelt(batch, attribute, rows, at_least):
    """Jaro-Winkler similar, or one typing error apart."""
    values, left, right = _sides(batch, attribute, rows)
    return _misspelt(values, left, right, at_least)


def misspelt_first_name(batch, attribute, rows, at_least):
    """First names Jaro-Winkler similar, or one typing error apart."""
    values, left, right = _sides(batch, attribute, rows)
    tokens, first = values.derived(first_tokens)
    return _misspelt(tokens, first[left], first[right], at_least)


def _misspelt(values, left, right, at_least):
    alike = same_or_similar(values, left, right, at_least)
    size = values.strings.str.len_chars().to_numpy()
    # Short names one letter apart are mostly different names (Tim, Jim), except with neighbours exchanged.
    rows = np.flatnonzero(~alike & (np.minimum(size[left], size[right]) >= MIN_MISSPELT))
    one, other = values.objects[left[rows]], values.objects[right[rows]]
    edit = similarity(one, other, OSA.distance, 1) <= 1
    short = np.minimum(size[left[rows]], size[right[rows]]) == MIN_MISSPELT
    edit[short] &= np.array(
        [sorted(name) == sorted(another) for name, another in zip(one[short], other[short], strict=True)],
        dtype=bool,
    )
    alike[rows] = edit
    return alike


def one_edit(batch, attribute, rows, at_least):
    """One character wrong, missing or too many, or two neighbours exchanged."""
    values, left, right = _sides(batch, attribute, rows)
    return similarity(values.objects[left], values.objects[right], OSA.distance, 1) <= 1


def same_first_name(batch, attribute, rows, at_least):
    """Equal first names; further names missing on one side, or with agreeing initials."""
    values, left, right = _sides(batch, attribute, rows)
    _, first = values.derived(first_tokens)
    same = first[left] == first[right]
    initials = values.derived(other_initials)
    hits = np.flatnonzero(same)
    same[hits] = [
        one.startswith(other) or other.startswith(one)
        for one, other in zip(initials[left[hits]], initials[right[hits]], strict=True)
    ]
    return same


def nickname(batch, attribute, rows, at_least):
    return are_nicknames(*_sides(batch, attribute, rows))


def initial(batch, attribute, rows, at_least):
    return is_initial(*_sides(batch, attribute, rows))


def shared_token(batch, attribute, rows, at_least):
    values, left, right = _sides(batch, attribute, rows)
    tokens = values.derived(token_sets)
    several = np.fromiter((len(part) > 1 for part in tokens), bool, len(tokens))
    shared = several[left] | several[right]
    hits = np.flatnonzero(shared)
    shared[hits] = [
        not one.isdisjoint(other) for one, other in zip(tokens[left[hits]], tokens[right[hits]], strict=True)
    ]
    return shared


def swapped(batch, attribute, rows, at_least):
    """Given and family name stand in each other's place."""
    return batch.swapped[rows]


def area_of_city(batch, attribute, rows, at_least):
    """A city on one side only, a postal code on the other only, and the one is known to belong to the
    other."""
    return batch.in_area[rows]


def outside_city(batch, attribute, rows, at_least):
    """A city on one side only, a postal code on the other only, and they are not known to belong together."""
    return batch.across[rows] & ~batch.in_area[rows]


def same_mailbox(batch, attribute, rows, at_least):
    _, left, right = _sides(batch, "email_mailbox", rows)
    return (left == right) & (left >= 0)


def same_local_part(batch, attribute, rows, at_least):
    values, left, right = _sides(batch, "email_mailbox", rows)
    local, part = values.derived(local_parts)
    long_enough = np.append(local.strings.str.len_chars().to_numpy() >= MIN_LOCAL_PART, False)
    return (part[left] == part[right]) & long_enough[part[left]]


def same_postal_area(batch, attribute, rows, at_least):
    values, left, right = _sides(batch, attribute, rows)
    _, area = values.derived(postal_areas)
    return area[left] == area[right]


def token_similarity(batch, attribute, rows, at_least):
    """Similar words in any order (rapidfuzz token_sort_ratio)."""
    values, left, right = _sides(batch, attribute, rows)
    scores = similarity(values.objects[left], values.objects[right], fuzz.token_sort_ratio, 100 * at_least)
    return scores >= 100 * at_least


def _digits(batch, rows):
    values, left, right = _sides(batch, "birth_date", rows)
    digits = values.derived(date_digits)
    return digits[left], digits[right]


def day_month_swapped(batch, attribute, rows, at_least):
    left, right = _digits(batch, rows)
    return (
        (left[:, :4] == right[:, :4]).all(1)
        & (left[:, 4:6] == right[:, 6:]).all(1)
        & (left[:, 6:] == right[:, 4:6]).all(1)
    )


def one_digit_off(batch, attribute, rows, at_least):
    """One digit wrong, or two neighbours exchanged; two first-of-Januaries only share a default."""
    left, right = _digits(batch, rows)
    wrong = left != right
    neighbours = np.zeros(len(rows), dtype=bool)
    for place in range(7):
        neighbours |= (
            (left[:, place] == right[:, place + 1])
            & (left[:, place + 1] == right[:, place])
            & wrong[:, place]
            & (wrong.sum(1) == 2)
        )
    first_of_january = np.array([0, 1, 0, 1], dtype=np.uint8)
    default = (left[:, 4:] == first_of_january).all(1) & (right[:, 4:] == first_of_january).all(1)
    return ((wrong.sum(1) == 1) | neighbours) & ~default


def same_year(batch, attribute, rows, at_least):
    left, right = _digits(batch, rows)
    return (left[:, :4] == right[:, :4]).all(1)


def same_month_day(batch, attribute, rows, at_least):
    """Month and day agree and the year does not; the first of January, the usual default, does not count."""
    left, right = _digits(batch, rows)
    first_of_january = (left[:, 4:] == np.array([0, 1, 0, 1], dtype=np.uint8)).all(1)
    return (left[:, 4:] == right[:, 4:]).all(1) & ~first_of_january


TESTS = {
    test.__name__: test
    for test in (
        exact,
        similar,
        misspelt,
        misspelt_first_name,
        one_edit,
        same_first_name,
        nickname,
        initial,
        shared_token,
        swapped,
        area_of_city,
        outside_city,
        same_mailbox,
        same_local_part,
        same_postal_area,
        token_similarity,
        day_month_swapped,
        one_digit_off,
        same_year,
        same_month_day,
    )
}


# Tests of pairs that the batch reads in another way; asked before all others, for they look equal to these.
ASKED_FIRST = ("swapped", "area_of_city", "outside_city")


def compare(batch: PairBatch, comparisons) -> dict[str, np.ndarray]:
    """The level of every pair for every comparison: name -> int8, one per pair.

    comparisons: objects with `name` and `levels` (strongest first, each with `test` and `at_least`; the
    last is "else"), as in matching/model.toml.
    """
    levels = {}
    for comparison in comparisons:
        level = np.zeros(len(batch), dtype=np.int8)
        left, right = batch.left[comparison.name], batch.right[comparison.name]
        present = (left >= 0) & (right >= 0)
        level[~present] = MISSING
        open_rows = np.flatnonzero(present)
        top = len(comparison.levels) - 1
        for place, declared in enumerate(comparison.levels):
            if declared.test in ASKED_FIRST:
                holds = TESTS[declared.test](batch, comparison.name, open_rows, declared.at_least)
                level[open_rows[holds]] = top - place
                open_rows = open_rows[~holds]
        for place, declared in enumerate(comparison.levels[:-1]):
            if not len(open_rows):
                break
            holds = TESTS[declared.test](batch, comparison.name, open_rows, declared.at_least)
            level[open_rows[holds]] = top - place
            open_rows = open_rows[~holds]
        levels[comparison.name] = level
    return levels
