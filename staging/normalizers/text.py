"""Text as every normaliser needs it: cleaned of what cannot be seen, folded to what can be compared."""

import tomllib
from collections.abc import Callable
from functools import wraps
from pathlib import Path

import polars as pl

WORDS = tomllib.loads((Path(__file__).parent / "words.toml").read_text(encoding="utf-8"))

VALUE = pl.col("value")
LONGEST_VALUE = 1_000  # characters looked at; no attribute of a customer is longer
DISTINCT_SHARE = 0.9

EMAIL = r"\w@\w"  # 5 Main St @ 2nd Ave is none
# What a spreadsheet shows of a long number, whose last digits are lost; 1e5 alone may be a code.
SCIENTIFIC = r"^[0-9](?:[.,][0-9]+e\+?|e\+)[0-9]{1,3}$"

APOSTROPHES = "’‘‛ʼʻ′´`＇"
DASHES = "‐‑‒–—―−﹣－"
LOOK_ALIKES = {
    **dict.fromkeys(APOSTROPHES, "'"),
    **dict.fromkeys(DASHES, "-"),
    **{
        digit: str(number)
        for digits in ("٠١٢٣٤٥٦٧٨٩", "۰۱۲۳۴۵۶۷۸۹", "०१२३४५६७८९")
        for number, digit in enumerate(digits)
    },
}

TRANSLITERATED = WORDS["transliterations"]
COMPOSED = {letter: latin for letter, latin in TRANSLITERATED.items() if letter in "йёїўѓќ"}


def any_of(words: list[str]) -> str:
    """A regular expression group of the given literal words, longest first."""
    escaped = [pl.escape_regex(word) for word in sorted(words, key=lambda word: (-len(word), word))]
    return "(?:" + "|".join(escaped) + ")"


def on_rows(values: pl.Series, mask: pl.Series, function: Callable[[pl.Series], pl.Series]) -> pl.Series:
    """The values, with those under the mask replaced by what the function makes of them."""
    if not mask.any():
        return values
    rows = mask.arg_true()
    return values.clone().scatter(rows, function(values.gather(rows)))


def by_distinct(function: Callable[..., pl.DataFrame]) -> Callable[..., pl.DataFrame]:
    """Run a normaliser once per distinct value where values repeat.

    Normalisers look at one value at a time, so the result is the same either way.
    """

    @wraps(function)
    def normalised(values: pl.Series, *args, **kwargs) -> pl.DataFrame:
        values = values.cast(pl.String)
        # Arrow finds each value's place among the distinct ones in one pass; a join would take two.
        numbered = values.to_arrow(compat_level=pl.CompatLevel.oldest()).dictionary_encode("encode")
        distinct = pl.Series(numbered.dictionary)
        if len(distinct) > DISTINCT_SHARE * len(values):
            return function(values, *args, **kwargs)
        return function(distinct, *args, **kwargs)[pl.Series(numbered.indices)]

    return normalised


def clean(values: pl.Series) -> pl.Series:
    """Trimmed text in compatibility form (full-width to ASCII), one space between words, null where blank.

    Apostrophes, dashes and Arabic and Indic digits become the ASCII ones; control characters, and those of
    no width or for writing direction, vanish.
    """
    values = values.cast(pl.String)
    values = on_rows(
        values, values.str.len_bytes() > LONGEST_VALUE, lambda rows: rows.str.head(LONGEST_VALUE)
    )
    unusual = values.str.contains(r"[^\x21-\x7e ]|  |^ | $|^$")
    return on_rows(values, unusual, lambda rows: applied(CLEANED, rows))


def applied(expression: pl.Expr, values: pl.Series) -> pl.Series:
    """What an expression of VALUE makes of the values, all of it at once: each method of a Series is a query."""
    return values.to_frame("value").select(expression).to_series()


CLEANED = (
    VALUE.str.replace_many(LOOK_ALIKES)
    # 5½ and 5² are not 51/2 and 52, which the compatibility form makes of them.
    .str.replace_all(r"(\p{Nd})(\p{No})", "$1 $2")
    .str.normalize("NFKC")
    .str.replace_all(r"[\s\p{Z}]+", " ")
    .str.replace_all(r"[\p{Cc}\p{Cf}\p{Co}\x{FFFD}\x{FE00}-\x{FE0F}]+", "")
    .str.replace_all("  +", " ")
    .str.strip_chars(" ")
    .replace("", None)
)


def fold(values: pl.Series) -> pl.Series:
    """Lower case without accents; Cyrillic and Greek in Latin letters; other scripts as they are."""
    lower = values.str.to_lowercase()
    has_accents = applied(VALUE.str.len_bytes() != VALUE.str.len_chars(), lower)
    return on_rows(lower, has_accents, lambda rows: applied(FOLDED, rows))


# Hangul and kana are decomposed too, hence the composition at the end.
FOLDED = (
    VALUE.str.replace_many(COMPOSED)
    .str.normalize("NFKD")
    .str.replace_all(r"[\x{0300}-\x{036F}\x{0591}-\x{05C7}\x{064B}-\x{065F}]+", "")
    .str.replace_many(TRANSLITERATED, leftmost=True)
    .str.normalize("NFC")
)


def settled(frame: pl.DataFrame, reason: pl.Expr, **values: pl.Expr) -> pl.DataFrame:
    """The values where no reason speaks against them, and the reason, evaluated once."""
    is_valid = pl.col("reason").is_null()
    return frame.with_columns(reason=reason).select(
        *(pl.when(is_valid).then(value).alias(name) for name, value in values.items()), "reason"
    )
