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
from concurrent.futures import ThreadPoolExecutor
from functools import cache, cached_property
from threading import RLock

import numpy as np
import polars as pl
from nicknames import name_triplets
from rapidfuzz import fuzz
from rapidfuzz.distance import OSA, JaroWinkler
from rapidfuzz.process import cpdist

from db.sorted_keys import find_keys

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
MOST_WORDS = 8
WORKERS = 2
CHUNK_PAIRS = 1 << 18
LETTERS_VALUES = 1 << 14
# Attributes in words, and the scripts these may be written in; Cyrillic and Greek letters are written in Latin ones by
# then, where they stand for them.
IN_WORDS = ("given_name", "family_name", "address", "city")
SCRIPTS = (
    r"\p{Latin}", r"\p{Greek}", r"\p{Cyrillic}", r"\p{Arabic}", r"\p{Hebrew}", r"\p{Han}", r"\p{Hiragana}\p{Katakana}",
    r"\p{Hangul}",
)  # fmt: skip
# The bit of each byte of a text. Of a character of several bytes the first one stands for all (10xxxxxx are the
# others).
BITS = np.array([1 << (0 if byte >> 6 == 0b10 else byte & 63) for byte in range(256)], dtype=np.uint64)


class Values:
    """The distinct values behind the numbers of one attribute, and what tests derive from them."""

    def __init__(self, strings: pl.Series):
        self.strings = strings
        self._derived: dict = {}
        self._lock = RLock()

    def __len__(self) -> int:
        return len(self.strings)

    def texts(self, codes: np.ndarray) -> np.ndarray:
        """The values with these numbers, as an array of str."""
        return self.strings.gather(codes).to_numpy().astype(object, copy=False)

    def derived(self, make: Callable[["Values"], object]):
        """`make(values)`, worked out once."""
        with self._lock:
            if make not in self._derived:
                self._derived[make] = make(self)
            return self._derived[make]


def number_values(columns: list[pl.Series]) -> tuple[Values, list[np.ndarray]]:
    """The distinct values of some columns together, and each column as numbers into them (-1 for null)."""
    together = columns[0] if len(columns) == 1 else pl.concat([column.rename("") for column in columns])
    # In the order in which they come; polars' own way takes twice the time.
    encoded = together.cast(pl.String).rechunk().to_arrow().dictionary_encode()
    codes = pl.Series(encoded.indices).fill_null(MISSING).to_numpy()
    ends = np.cumsum([len(column) for column in columns])
    return Values(pl.Series(encoded.dictionary, dtype=pl.String)), np.split(codes, ends[:-1])


class NumberedProfiles:
    """Profiles with every value as a number: `codes[attribute]` points into `values[attribute]`, -1 missing.

    profiles: in order of profile_key (int64, each once), with the attributes of ATTRIBUTES and email_mailbox, null for
    missing. ignored: attribute -> values that are nobody's own and count as missing. Given and family names
    are numbered together.
    """

    def __init__(self, profiles: pl.DataFrame, ignored: dict[str, list[str]] | None = None):
        self.keys = profiles["profile_key"].to_numpy()
        self.values: dict[str, Values] = {}
        self.codes: dict[str, np.ndarray] = {}
        numbered = [("given_name", "family_name")]
        numbered += [(name,) for name in (*ATTRIBUTES, "email_mailbox") if name not in numbered[0]]
        with ThreadPoolExecutor(WORKERS) as pool:
            made = pool.map(lambda names: number_values([profiles[name] for name in names]), numbered)
            for names, (values, codes) in zip(numbered, made, strict=True):
                self.values |= dict.fromkeys(names, values)
                self.codes |= dict(zip(names, codes, strict=True))
        for attribute, junk in (ignored or {}).items():
            if junk and len(self.values[attribute]):
                is_junk = np.append(self.values[attribute].strings.is_in(junk).to_numpy(), True)
                codes = self.codes[attribute]
                self.codes[attribute] = np.where(is_junk[codes], MISSING, codes).astype(np.int32)

    def __len__(self) -> int:
        return len(self.keys)

    def find(self, keys: pl.Series) -> np.ndarray:
        """The row that each profile key stands in (int32), -1 for a key that is not there."""
        return find_keys(self.keys, keys.to_numpy())

    def rows(self, pairs: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """The rows (int32) of the profiles that pairs name as left_key and right_key. Raises KeyError for a key
        that is not there."""
        left, right = (self.find(pairs[side]) for side in ("left_key", "right_key"))
        if min(left.min(initial=0), right.min(initial=0)) < 0:
            raise KeyError("pairs name a profile_key that profiles does not have")
        return left, right


class Places:
    """Which postal areas belong to which city, as numbers; true for a model whose places are city -> areas.

    told: of each city whether its areas are known. together: city * areas + area, sorted, where they belong together.
    """

    def __init__(self, values: dict[str, Values], places: dict[str, list[str]]):
        areas, self.area_of = values["postal_code"].derived(postal_areas)
        self.areas = len(areas)
        belonging = pl.DataFrame(
            {"city": list(places), "area": list(places.values())},
            schema={"city": pl.String, "area": pl.List(pl.String)},
        ).explode("area")
        cities, known_areas = (
            numbers_of(values["city"], belonging["city"]),
            numbers_of(areas, belonging["area"]),
        )
        self.told = np.zeros(len(values["city"]), dtype=bool)
        self.told[cities[cities >= 0]] = True
        known = (cities >= 0) & (known_areas >= 0)
        self.together = np.sort(cities[known] * self.areas + known_areas[known])

    def belong(self, city: np.ndarray, postal: np.ndarray) -> np.ndarray:
        """Which of these cities and postal codes (their numbers) belong together."""
        return contains(self.together, city.astype(np.int64) * self.areas + self.area_of[postal])


class PairBatch:
    """Some pairs of rows of numbered profiles, as tests see them.

    left, right: rows of the profiles. places: None where none are known. Names are lined up and places across are
    told only where a test asks for them.
    """

    def __init__(
        self,
        profiles: NumberedProfiles,
        left: np.ndarray,
        right: np.ndarray,
        places: Places | None = None,
    ):
        self.profiles, self.values = profiles, profiles.values
        self.rows = (left, right)
        self.places = places
        self._sides: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    def __len__(self) -> int:
        return len(self.rows[0])

    def sides(self, attribute: str) -> tuple[np.ndarray, np.ndarray]:
        """The numbers of the values on both sides, as they are compared."""
        if attribute not in self._sides:
            if attribute in ("given_name", "family_name"):
                given, family = self.names[:2]
                self._sides |= {"given_name": given, "family_name": family}
            elif attribute == "city":
                self._sides["city"] = self._cities()
            else:
                self._sides[attribute] = self._plain(attribute)
        return self._sides[attribute]

    def _plain(self, attribute: str) -> tuple[np.ndarray, np.ndarray]:
        codes = self.profiles.codes[attribute]
        return codes.take(self.rows[0]), codes.take(self.rows[1])

    def _cities(self) -> tuple[np.ndarray, np.ndarray]:
        left, right = self._plain("city")
        across, _ = self.across
        city = np.maximum(left, right)
        return np.where(across, city, left), np.where(across, city, right)

    @cached_property
    def across(self) -> tuple[np.ndarray, np.ndarray]:
        """Where one side has only a city and the other only a postal code: does the one belong to the other?

        Two masks: the pairs that can be told, and those that belong together. Both sides of the first point
        to the city.
        """
        in_area = np.zeros(len(self), dtype=bool)
        if self.places is None:
            return in_area, in_area
        left, right = self._plain("city")
        left_postal, right_postal = self._plain("postal_code")
        across = ((left >= 0) != (right >= 0)) & ((left_postal >= 0) != (right_postal >= 0))
        across &= (left >= 0) == (right_postal >= 0)
        rows = np.flatnonzero(across)
        city = np.maximum(left[rows], right[rows])
        across[rows] = self.places.told[city]
        in_area[rows] = self.places.belong(city, np.maximum(left_postal[rows], right_postal[rows]))
        return across, in_area & across

    @cached_property
    def names(self) -> tuple[tuple, tuple, np.ndarray, tuple[np.ndarray, np.ndarray]]:
        """Given and family names of both sides, misplaced ones read in the order that agrees.

        Returns (left, right) of the given names, the same of the family names, which pairs had full names
        swapped, and (left, right) masks of the sides that are read the other way round.
        """
        values = self.values["given_name"]
        (left_given, right_given), (left_family, right_family) = (
            tuple(side.copy() for side in self._plain(name)) for name in ("given_name", "family_name")
        )
        turned = np.zeros(len(self), dtype=bool), np.zeros(len(self), dtype=bool)
        is_swapped = np.zeros(len(self), dtype=bool)
        both_full = (left_given >= 0) & (left_family >= 0) & (right_given >= 0) & (right_family >= 0)
        rows = np.flatnonzero(both_full & (left_given != right_given) & (left_family != right_family))
        crossed = shares_letter(values, left_family[rows], right_given[rows]) | shares_letter(
            values, left_given[rows], right_family[rows]
        )
        rows = rows[crossed]
        sides = left_given[rows], left_family[rows], right_given[rows], right_family[rows]
        left_is_swapped = same_or_similar(values, sides[0], sides[3], MISPLACED_NAME_SIMILARITY)
        right_is_swapped = same_or_similar(values, sides[1], sides[2], MISPLACED_NAME_SIMILARITY)
        some = left_is_swapped | right_is_swapped
        rows, left_is_swapped, right_is_swapped = rows[some], left_is_swapped[some], right_is_swapped[some]
        one_given, one_family, other_given, other_family = (side[some] for side in sides)
        straight = same_or_similar(values, one_given, other_given, MISPLACED_NAME_SIMILARITY)
        straight |= same_or_similar(values, one_family, other_family, MISPLACED_NAME_SIMILARITY)
        left_is_swapped &= compatible_first_names(values, one_family, other_given)
        right_is_swapped &= compatible_first_names(values, one_given, other_family)
        swapped = ~straight & (left_is_swapped | right_is_swapped)
        is_swapped[rows[swapped]] = True
        # The name that agrees best is the family name; where both do, the later one in the alphabet.
        later = values.derived(alphabetical_ranks)
        turn_left = left_is_swapped & (~right_is_swapped | (later[one_given] > later[one_family]))
        turned[0][rows[swapped & turn_left]] = True
        turned[1][rows[swapped & ~turn_left]] = True
        _exchange(left_given, left_family, rows[swapped & turn_left])
        _exchange(right_given, right_family, rows[swapped & ~turn_left])

        # One name only: it may stand in either place. It is moved to where the other record agrees with it.
        left, right = (left_given, left_family), (right_given, right_family)
        for (given, family), (other_given, other_family), mask in (
            (left, right, turned[0]),
            (right, left, turned[1]),
        ):
            alone = np.flatnonzero(
                ((given >= 0) != (family >= 0)) & ((other_given >= 0) | (other_family >= 0))
            )
            in_given = given[alone] >= 0
            name = np.where(in_given, given[alone], family[alone])
            here = np.where(in_given, other_given[alone], other_family[alone])
            there = np.where(in_given, other_family[alone], other_given[alone])
            move = same_or_similar(values, name, there, MISPLACED_NAME_SIMILARITY)
            likely = np.flatnonzero(move)
            move[likely] = ~same_or_similar(values, name[likely], here[likely], MISPLACED_NAME_SIMILARITY)
            _exchange(given, family, alone[move])
            mask[alone[move]] = True
        return (left_given, right_given), (left_family, right_family), is_swapped, turned


def _exchange(one: np.ndarray, other: np.ndarray, rows: np.ndarray) -> None:
    one[rows], other[rows] = other[rows], one[rows].copy()


# ------------------------------------------------------------------------------- what is derived from values


def first_letters(values: Values) -> np.ndarray:
    """A number for the first letter of each value, -1 for none, and one more -1 for missing."""
    _, (codes,) = number_values([values.strings.str.extract(r"^(.)")])
    return np.append(codes, np.int32(MISSING))


def lengths(values: Values) -> np.ndarray:
    return values.strings.str.len_chars().to_numpy().astype(np.int32)


def letters_of(values: Values) -> np.ndarray:
    """Which characters each value without its spaces holds, as bits; different ones may share a bit."""
    held = np.zeros(len(values), dtype=np.uint64)
    for first in range(0, len(values), LETTERS_VALUES):
        text = values.derived(packed)[first : first + LETTERS_VALUES]
        size = text.str.len_bytes().to_numpy().astype(np.int64)
        joined = "".join(text.to_list()).encode()
        filled = size > 0
        if filled.any():
            bits = BITS[np.frombuffer(joined, dtype=np.uint8)]
            starts = (np.cumsum(size) - size)[filled]
            held[first : first + len(text)][filled] = np.bitwise_or.reduceat(bits, starts)
    return held


def packed(values: Values) -> pl.Series:
    """The values without spaces and hyphens."""
    return values.strings.str.replace_all(r"[\s\-]", "")


def scripts_of(values: Values) -> tuple[np.ndarray, bool]:
    """Which of SCRIPTS each value has letters of, as bits, with one more, 0, for missing; and whether values differ in
    that."""
    held = np.zeros(len(values) + 1, dtype=np.uint8)
    is_ascii = values.strings.str.len_bytes() == values.strings.str.len_chars()
    if is_ascii.all():
        return held, False
    held[:-1] = values.strings.str.contains("[a-z]").to_numpy()
    others = np.flatnonzero(~is_ascii.to_numpy())
    for bit, script in enumerate(SCRIPTS):
        found = values.strings.gather(others).str.contains(rf"[{script}]").to_numpy()
        held[others] |= found.astype(np.uint8) << bit
    return held, len(np.unique(held[:-1])) > 1


def alphabetical_ranks(values: Values) -> np.ndarray:
    return values.strings.rank("ordinal").to_numpy()


def without_spaces(values: Values) -> np.ndarray:
    return values.derived(packed).to_numpy().astype(object)


def first_tokens(values: Values) -> tuple[Values, np.ndarray]:
    """The distinct first tokens, and the number of each value's first token."""
    tokens, (codes,) = number_values([values.strings.str.extract(r"^(\S+)").fill_null("")])
    return tokens, codes


def packed_lengths(values: Values) -> np.ndarray:
    """Characters without spaces, at least 1."""
    return values.derived(packed).str.len_chars().to_numpy().astype(np.float32).clip(1)


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


def has_other_initials(values: Values) -> np.ndarray:
    return values.derived(other_initials) != ""


def words(values: Values) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of the words of at least two letters, a row per value, -1 where there are no more; and which
    values have several.

    Hyphens part words too; of a value with very many words the first MOST_WORDS.
    """
    parts = (
        values.strings.str.replace_all("-", " ", literal=True)
        .str.split(" ")
        .list.eval(pl.element().filter(pl.element().str.len_chars() > 1))
        .list.head(MOST_WORDS)
    )
    width = max(1, parts.list.len().max() or 1)
    _, columns = number_values([parts.list.get(place, null_on_oob=True) for place in range(width)])
    return np.column_stack(columns), parts.list.len().to_numpy() > 1


def local_parts(values: Values) -> tuple[Values, np.ndarray]:
    """The distinct parts before the (last) @, and the number of each value's."""
    parts = values.strings.str.split_exact("@", 1).struct
    local, rest = parts.field("field_0"), parts.field("field_1")
    if rest.str.contains("@", literal=True).any():
        local = values.strings.str.extract(r"^(.+)@")
    local = local.to_frame("local").select(pl.when(rest.is_not_null() & (local != "")).then("local"))
    local, (codes,) = number_values([local.to_series()])
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
    digits = values.strings.str.replace_all("-", "", literal=True).str.tail(8).str.pad_start(8, "0")
    joined = "".join(digits.to_list())
    return np.frombuffer(joined.encode("ascii"), dtype=np.uint8).reshape(len(values), 8) - ord("0")


def sorted_distinct(values: np.ndarray) -> np.ndarray:
    """Each of the values once, in order. np.unique would hash them, which takes many times as long."""
    values = np.sort(values)
    return values[np.append(True, values[1:] != values[:-1])[: len(values)]]


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
    rows = rows[_can_be_similar(values, left[rows], right[rows], at_least)]
    text = values.derived(without_spaces)
    alike[rows] = (
        similarity(text[left[rows]], text[right[rows]], JaroWinkler.normalized_similarity, at_least)
        >= at_least
    )
    return alike


def _can_be_similar(values: Values, left: np.ndarray, right: np.ndarray, at_least: float) -> np.ndarray:
    """A cheap filter: which pairs have enough letters in common for a Jaro-Winkler similarity of `at_least`.

    Letters that only one side holds cannot match, so jaro <= (m / size + m / other size + 1) / 3 with at most
    m matches; and the common beginning adds at most 4 times a tenth of what is missing to 1.
    """
    held, size = values.derived(letters_of), values.derived(packed_lengths)
    one, other = held.take(left), held.take(right)
    one_size, other_size = size.take(left), size.take(right)
    matches = np.minimum(
        one_size - np.bitwise_count(one & ~other), other_size - np.bitwise_count(other & ~one)
    )
    most = (matches / one_size + matches / other_size + 1) / 3
    begin_alike = shares_letter(values, left, right)
    return np.where(begin_alike, 0.6 * most + 0.4, most) >= at_least - 1e-6


def within_one_edit(values: Values, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Which pairs of value numbers are one edit apart (optimal string alignment)."""
    size, held = values.derived(lengths), values.derived(letters_of)
    possible = np.abs(size.take(left) - size.take(right)) <= 1
    # One edit takes away at most one kind of character, and adds at most one.
    possible &= np.bitwise_count(held.take(left) ^ held.take(right)) <= 2
    rows = np.flatnonzero(possible)
    possible[rows] = similarity(values.texts(left[rows]), values.texts(right[rows]), OSA.distance, 1) <= 1
    return possible


def numbers_of(values: Values, wanted: pl.Series) -> np.ndarray:
    """The number of each wanted string among `values` (int64), -1 for one that is not there."""
    numbered = pl.DataFrame({"value": values.strings, "code": np.arange(len(values), dtype=np.int64)})
    found = wanted.to_frame("value").join(numbered, on="value", how="left", maintain_order="left")["code"]
    return found.fill_null(-1).to_numpy()


def shares_letter(values: Values, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """A cheap filter: which pairs begin with the same letter."""
    letters = values.derived(first_letters)
    return letters.take(left) == letters.take(right)


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


def nickname_codes(values: Values) -> tuple[np.ndarray, np.ndarray]:
    """Sorted numbers `left * count + right` of the first tokens that are nicknames of one another, and which first
    tokens are a nickname, or have one."""
    tokens, _ = values.derived(first_tokens)
    numbered = pl.DataFrame({"name": tokens.strings, "code": np.arange(len(tokens), dtype=np.int64)})
    codes = (
        nickname_pairs()
        .join(numbered, on="name")
        .join(numbered, left_on="nickname", right_on="name", suffix="_other")
        .select(pl.col("code") * len(tokens) + pl.col("code_other"))
        .to_series()
        .sort()
        .to_numpy()
    )
    # Both ways round, so either side has all.
    has_nickname = np.zeros(len(tokens), dtype=bool)
    has_nickname[codes // max(len(tokens), 1)] = True
    return codes, has_nickname


def are_nicknames(values: Values, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Which pairs of value numbers have first names that one person may go by."""
    tokens, first = values.derived(first_tokens)
    codes, has_nickname = values.derived(nickname_codes)
    one, other = first[left], first[right]
    alike = has_nickname[one] & has_nickname[other]
    rows = np.flatnonzero(alike)
    alike[rows] = contains(codes, one[rows].astype(np.int64) * len(tokens) + other[rows])
    return alike


def is_initial(values: Values, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Which pairs have a first name of a single letter on one side, with which the other's begins."""
    tokens, first = values.derived(first_tokens)
    short = tokens.derived(lengths) == 1
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
    left, right = batch.sides(attribute)
    return batch.values[attribute], left[rows], right[rows]


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
    size = values.derived(lengths)
    # Short names one letter apart are mostly different names (Tim, Jim), except with neighbours exchanged.
    rows = np.flatnonzero(~alike & (np.minimum(size[left], size[right]) >= MIN_MISSPELT))
    edit = within_one_edit(values, left[rows], right[rows])
    short = np.flatnonzero(edit & (np.minimum(size[left[rows]], size[right[rows]]) == MIN_MISSPELT))
    edit[short] = [
        sorted(name) == sorted(another)
        for name, another in zip(
            values.texts(left[rows[short]]), values.texts(right[rows[short]]), strict=True
        )
    ]
    alike[rows] = edit
    return alike


def one_edit(batch, attribute, rows, at_least):
    """One character wrong, missing or too many, or two neighbours exchanged."""
    return within_one_edit(*_sides(batch, attribute, rows))


def same_first_name(batch, attribute, rows, at_least):
    """Equal first names; further names missing on one side, or with agreeing initials."""
    values, left, right = _sides(batch, attribute, rows)
    _, first = values.derived(first_tokens)
    same = first[left] == first[right]
    initials = values.derived(other_initials)
    some = values.derived(has_other_initials)
    hits = np.flatnonzero(same & some[left] & some[right])
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
    """A word of at least two letters in common, where one side has several; hyphens part words too."""
    values, left, right = _sides(batch, attribute, rows)
    words_of, has_several = values.derived(words)
    shared = np.zeros(len(rows), dtype=bool)
    several = np.flatnonzero(has_several[left] | has_several[right])
    ours, theirs = words_of[left[several]], words_of[right[several]]
    for one in ours.T:
        for other in theirs.T:
            shared[several] |= (one == other) & (one >= 0)
    return shared


def swapped(batch, attribute, rows, at_least):
    """Given and family name stand in each other's place."""
    return batch.names[2][rows]


def area_of_city(batch, attribute, rows, at_least):
    """A city on one side only, a postal code on the other only, and the one is known to belong to the
    other."""
    return batch.across[1][rows]


def outside_city(batch, attribute, rows, at_least):
    """A city on one side only, a postal code on the other only, and they are not known to belong together."""
    across, in_area = batch.across
    return across[rows] & ~in_area[rows]


def same_mailbox(batch, attribute, rows, at_least):
    _, left, right = _sides(batch, "email_mailbox", rows)
    return (left == right) & (left >= 0)


def same_local_part(batch, attribute, rows, at_least):
    values, left, right = _sides(batch, "email_mailbox", rows)
    local, part = values.derived(local_parts)
    long_enough = np.append(local.derived(lengths) >= MIN_LOCAL_PART, False)
    return (part[left] == part[right]) & long_enough[part[left]]


def same_postal_area(batch, attribute, rows, at_least):
    values, left, right = _sides(batch, attribute, rows)
    _, area = values.derived(postal_areas)
    return area[left] == area[right]


def token_similarity(batch, attribute, rows, at_least):
    """Similar words in any order (rapidfuzz token_sort_ratio)."""
    values, left, right = _sides(batch, attribute, rows)
    texts = values.texts(left), values.texts(right)
    scores = similarity(*texts, fuzz.token_sort_ratio, 100 * at_least)
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

# Tests that mean something for some attributes only.
OF_ATTRIBUTES = {
    **dict.fromkeys(
        ("misspelt_first_name", "same_first_name", "nickname", "initial", "swapped"),
        ("given_name", "family_name"),
    ),
    **dict.fromkeys(("area_of_city", "outside_city"), ("city",)),
    **dict.fromkeys(("same_mailbox", "same_local_part"), ("email",)),
    **dict.fromkeys(("day_month_swapped", "one_digit_off", "same_year", "same_month_day"), ("birth_date",)),
    "same_postal_area": ("postal_code",),
}
TAKE_AT_LEAST = ("similar", "misspelt", "misspelt_first_name", "token_similarity")

# Tests of pairs that the batch reads in another way; asked before all others, for they look equal to these.
ASKED_FIRST = ("swapped", "area_of_city", "outside_city")


def compare(batch: PairBatch, comparisons) -> dict[str, np.ndarray]:
    """The level of every pair for every comparison: name -> int8, one per pair.

    comparisons: objects with `name`, `levels` (strongest first, each with `test` and `at_least`; the last is "else")
    and `told_by`, as in matching/model.toml.
    """
    levels = {}
    for comparison in comparisons:
        level = np.zeros(len(batch), dtype=np.int8)
        left, right = batch.sides(comparison.name)
        present = (left >= 0) & (right >= 0)
        level[~present] = MISSING
        open_rows = np.flatnonzero(present)
        top = len(comparison.levels) - 1
        for place, declared in enumerate(comparison.levels):
            if declared.test in ASKED_FIRST:
                holds = TESTS[declared.test](batch, comparison.name, open_rows, declared.at_least)
                level[open_rows.compress(holds)] = top - place
                open_rows = open_rows.compress(~holds)
        for place, declared in enumerate(comparison.levels[:-1]):
            if not len(open_rows):
                break
            holds = TESTS[declared.test](batch, comparison.name, open_rows, declared.at_least)
            level[open_rows.compress(holds)] = top - place
            open_rows = open_rows.compress(~holds)
        if comparison.name in IN_WORDS:
            level[_in_other_scripts(batch, comparison.name, level)] = MISSING
        levels[comparison.name] = level
    told = []
    for comparison in comparisons:
        name, top = comparison.name, len(comparison.levels) - 1
        if comparison.told_by:
            told.append((name, _told(levels, comparison.told_by, comparisons)))
        for place, level in enumerate(comparison.levels):
            if level.told_by:
                rows = _told(levels, level.told_by, comparisons)
                told.append((name, rows & (levels[name] == top - place)))
    for name, rows in told:
        levels[name][rows] = MISSING
    return levels


def _in_other_scripts(batch: PairBatch, attribute: str, level: np.ndarray) -> np.ndarray:
    """The pairs that differ and have no script in common: nothing can be compared there."""
    values, left, right = batch.values[attribute], *batch.sides(attribute)
    scripts, differ = values.derived(scripts_of)
    if not differ:
        return np.empty(0, dtype=np.int64)
    differing = np.flatnonzero(level == 0)
    ours, theirs = scripts.take(left[differing]), scripts.take(right[differing])
    return differing[(ours & theirs == 0) & (ours > 0) & (theirs > 0)]


def _told(levels: dict[str, np.ndarray], tellers: tuple[str, ...], comparisons) -> np.ndarray:
    """The pairs that all of these attributes find at their strongest levels; none where one of them is not compared."""
    if not all(teller in levels for teller in tellers):
        return np.zeros(len(next(iter(levels.values()))), dtype=bool)
    strongest = {comparison.name: len(comparison.levels) - 1 for comparison in comparisons}
    return np.logical_and.reduce([levels[teller] == strongest[teller] for teller in tellers])


class ComparedPairs:
    """Pairs of profiles with their levels: `levels[comparison]` (int8, one per pair).

    left, right: rows of the profiles. comparisons, places: as in a model. Compared once, in chunks on two
    threads; what is kept is the rows (`rows`, int32) and the levels, so that training and scoring need not
    compare again.
    """

    def __init__(
        self,
        profiles: NumberedProfiles,
        left: np.ndarray,
        right: np.ndarray,
        comparisons,
        places: dict[str, list[str]] | None = None,
    ):
        self.profiles, self.comparisons = profiles, tuple(comparisons)
        self.rows = left.astype(np.int32, copy=False), right.astype(np.int32, copy=False)
        self.levels = {comparison.name: np.empty(len(self), dtype=np.int8) for comparison in self.comparisons}
        self.turned = np.zeros(len(self), dtype=bool), np.zeros(len(self), dtype=bool)
        self.places = Places(profiles.values, places) if places else None
        with ThreadPoolExecutor(WORKERS) as pool:
            list(pool.map(self._compare_chunk, range(0, len(self), CHUNK_PAIRS)))

    def __len__(self) -> int:
        return len(self.rows[0])

    def _compare_chunk(self, start: int) -> None:
        part = slice(start, start + CHUNK_PAIRS)
        batch = PairBatch(self.profiles, self.rows[0][part], self.rows[1][part], self.places)
        # Every other chunk begins at the other end, so that two threads do not wait for the same derived values.
        is_odd = start // CHUNK_PAIRS % 2
        for name, level in compare(batch, self.comparisons[:: -1 if is_odd else 1]).items():
            self.levels[name][part] = level
        for side, turned in enumerate(batch.names[3]):
            self.turned[side][part] = turned

    def sides(self, attribute: str, rows) -> tuple[np.ndarray, np.ndarray]:
        """The numbers of the values of both sides of some pairs, as they were compared.

        Where only one side has a value and the pair has a level all the same, it stands on both.
        """
        other = {"given_name": "family_name", "family_name": "given_name"}.get(attribute, attribute)
        codes, turned_codes = self.profiles.codes[attribute], self.profiles.codes[other]
        sides = []
        for side in (0, 1):
            row = self.rows[side][rows]
            code = codes[row]
            if other != attribute:
                turned = np.flatnonzero(self.turned[side][rows])
                code[turned] = turned_codes[row[turned]]
            sides.append(code)
        left, right = sides
        alone = np.flatnonzero((left < 0) != (right < 0))
        left[alone] = right[alone] = np.maximum(left[alone], right[alone])
        return left, right

    def compare_untold(self, comparison) -> None:
        """Compares an attribute again, as this comparison has it, where others were to tell it."""
        found = np.flatnonzero(self.levels[comparison.name] == MISSING)
        codes = self.profiles.codes[comparison.name]
        if comparison.name not in ("given_name", "family_name"):
            # Where a side has none, nothing was told.
            found = found[(codes[self.rows[0][found]] >= 0) & (codes[self.rows[1][found]] >= 0)]
        for start in range(0, len(found), CHUNK_PAIRS):
            rows = found[start : start + CHUNK_PAIRS]
            batch = PairBatch(self.profiles, *(side[rows] for side in self.rows), self.places)
            self.levels[comparison.name][rows] = compare(batch, [comparison])[comparison.name]

    @cached_property
    def mixed(self) -> np.ndarray:
        """The pairs of which one side has a city and no postal code, the other a postal code and no city."""
        city, postal = self.profiles.codes["city"] >= 0, self.profiles.codes["postal_code"] >= 0
        only = np.where(city != postal, np.where(city, np.int8(1), np.int8(2)), np.int8(0))
        left, right = self.rows
        # Of 0, 1 and 2 only 1 and 2 make 3.
        return np.flatnonzero((only[left] ^ only[right]) == 3)

    def read_places(self, places: dict[str, list[str]]) -> None:
        """Compares cities with postal codes again, by the areas that are now known."""
        self.places = Places(self.profiles.values, places) if places else None
        left, right = (side[self.mixed] for side in self.rows)
        batch = PairBatch(self.profiles, left, right, self.places)
        for comparison in self.comparisons:
            if comparison.name == "city":
                self.levels["city"][self.mixed] = compare(batch, [comparison])["city"]
