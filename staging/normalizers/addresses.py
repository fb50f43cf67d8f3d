"""Postal codes, streets and cities, lower case and folded, in one spelling."""

import polars as pl

from .text import EMAIL, SCIENTIFIC, WORDS, any_of, by_distinct, clean, fold, on_rows, settled

NO_VALUE = any_of(WORDS["placeholders"]["words"] + WORDS["placeholders"]["places"])
PLACEHOLDER = rf"^(?:(?:{NO_VALUE}[ ,]*)+|x+|[^\p{{L}}\p{{N}}]+)$"
MARKUP = r"[<>{}\\=]"

PLACEHOLDER_CODE = r"^(?:0+|9+|x+)$"
POSTAL_FORMS = [
    (r"^([a-z]{1,2}[0-9][a-z0-9]?|gir)([0-9][a-z]{2})$", "$1 $2"),  # United Kingdom
    (r"^([a-z][0-9][a-z])([0-9][a-z][0-9])$", "$1 $2"),  # Canada
    (r"^([1-9][0-9]{3})([a-z]{2})$", "$1 $2"),  # Netherlands
    (r"^([0-9]{5})[0-9]{4}$", "$1"),  # United States, ZIP+4
]
# D-80331, LV1010, CA 90210-1234; NL-1012 AB
COUNTRY_BEFORE_CODE = (
    "^(?:"
    + "|".join(
        f"{any_of(prefixes)}(?P<digits{digits}>[0-9]{{{digits}}})"
        for digits, prefixes in WORDS["postal_prefixes"].items()
    )
    + f"|{any_of(WORDS['postal_states']['states'])}(?P<zip>[0-9]{{5}}(?:[0-9]{{4}})?)"
    + "|nl(?P<dutch>[0-9]{4}[a-z]{2}))$"
)
CODE_ALONE = "".join(f"${{digits{digits}}}" for digits in WORDS["postal_prefixes"]) + "${zip}${dutch}"


@by_distinct
def normalize_postal_code(values: pl.Series) -> pl.DataFrame:
    """Columns postal_code and reason (String), one row per value.

    Lower case without inner punctuation; one space where the United Kingdom ('cr0 4dt'), Canada ('k1a 0b1')
    and the Netherlands ('1012 ab') write one; a ZIP+4 is its first five digits. Known letters of a country or
    a state before digits go.
    """
    text = fold(clean(values))
    text = on_rows(text, text.str.contains(r"^[0-9]+\.0$"), lambda rows: rows.str.replace(r"\.0$", ""))
    code = on_rows(
        text, text.str.contains(r"[^a-z0-9]"), lambda rows: rows.str.replace_all(r"[^\p{L}\p{N}]+", "")
    )
    code = on_rows(
        code,
        code.str.contains(COUNTRY_BEFORE_CODE),
        lambda rows: rows.str.replace(COUNTRY_BEFORE_CODE, CODE_ALONE),
    )
    frame = pl.DataFrame({"text": text, "compact": code})
    for pattern, form in POSTAL_FORMS:
        code = on_rows(
            code, code.str.contains(pattern), lambda rows, p=pattern, f=form: rows.str.replace(p, f)
        )
    postal_code, length = pl.col("code"), pl.col("compact").str.len_chars()
    reason = (
        pl.when(pl.col("text").is_null()).then(None)
        .when(pl.col("compact").str.contains(PLACEHOLDER_CODE)).then(pl.lit("placeholder"))
        .when(pl.col("text").str.contains(PLACEHOLDER)).then(pl.lit("placeholder"))
        .when(pl.col("text").str.contains(SCIENTIFIC)).then(pl.lit("scientific_notation"))
        .when(~postal_code.str.contains("[0-9]")).then(pl.lit("no_digits"))
        .when(length < 3).then(pl.lit("too_short"))
        .when(length > 10).then(pl.lit("too_long"))
        .otherwise(None)
    )  # fmt: skip
    return settled(frame.with_columns(code=code), reason, postal_code=postal_code)


@by_distinct
def normalize_address(values: pl.Series) -> pl.DataFrame:
    """Columns address and reason (String), one row per value: folded words, usual abbreviations settled."""
    text = fold(clean(values))
    words = (
        text.str.replace_all(r"\bp\.? ?o\.? ?box\b", "po box")
        .str.replace_all(r"#+ ?([0-9])", " apt $1")
        .str.replace_all(r"\b(?:no|nr|num|number|n°|nº)\.? ?([0-9])", " $1")
    )
    words = _settle_words(_words(words), WORDS["addresses"])
    words = on_rows(
        words,
        words.str.contains("str"),
        lambda rows: rows.str.replace_all(r"(\S)(?:strasse|straat)\b", "${1}str"),
    )
    # "Unit Apt 4" and "Apt # 4" say it twice.
    words = on_rows(
        words, words.str.contains("apt apt"), lambda rows: rows.str.replace_all(r"\bapt apt\b", "apt")
    )
    frame = pl.DataFrame({"text": text, "address": words})
    address, length = pl.col("address"), pl.col("address").str.len_chars()
    reason = (
        pl.when(pl.col("text").is_null()).then(None)
        .when(pl.col("text").str.contains(PLACEHOLDER)).then(pl.lit("placeholder"))
        .when(pl.col("text").str.contains(EMAIL)).then(pl.lit("email"))
        .when(pl.col("text").str.contains(MARKUP)).then(pl.lit("invalid_characters"))
        .when(~address.str.contains(r"\p{L}")).then(pl.lit("no_letters"))
        .when(length < 3).then(pl.lit("too_short"))
        .when(length > 250).then(pl.lit("too_long"))
        .otherwise(None)
    )  # fmt: skip
    return settled(frame, reason, address=address)


@by_distinct
def normalize_city(values: pl.Series) -> pl.DataFrame:
    """Columns city and reason (String), one row per value: folded words, 'saint' as 'st'."""
    text = fold(clean(values))
    # "80331 München", "Paris 75011", "Springfield (IL)"
    name = on_rows(
        text,
        text.str.contains(r"[0-9(]"),
        lambda rows: (
            rows.str.replace(r"^[a-z]{0,2}-?[0-9]{4,6} +", "")
            .str.replace(r",? +[0-9]{4,6}$", "")
            .str.replace(r"^(.*\S) *\(.*\)$", "$1")
        ),
    )
    name = _settle_words(_words(name), WORDS["cities"])
    frame = pl.DataFrame({"text": text, "city": name})
    city, length = pl.col("city"), pl.col("city").str.len_chars()
    reason = (
        pl.when(pl.col("text").is_null()).then(None)
        .when(pl.col("text").str.contains(PLACEHOLDER)).then(pl.lit("placeholder"))
        .when(pl.col("text").str.contains(EMAIL)).then(pl.lit("email"))
        .when(pl.col("text").str.contains(MARKUP)).then(pl.lit("invalid_characters"))
        .when(~city.str.contains(r"\p{L}")).then(pl.lit("no_letters"))
        .when(length > 100).then(pl.lit("too_long"))
        .otherwise(None)
    )  # fmt: skip
    return settled(frame, reason, city=city)


def _words(text: pl.Series) -> pl.Series:
    """Words with one space between them: apostrophes join, other punctuation parts."""
    unusual = text.str.contains(r"[^a-z0-9 ]|  |^ | $")
    return on_rows(
        text,
        unusual,
        lambda rows: (
            rows.str.replace_all("'", "", literal=True)
            .str.replace_all(r"[^\p{L}\p{M}\p{N}]+", " ")
            .str.strip_chars(" ")
        ),
    )


def _settle_words(text: pl.Series, forms: dict[str, str]) -> pl.Series:
    """Whole words replaced by their settled form."""
    # With two spaces between words, patterns that include the spaces around a word never overlap.
    padded = {f" {word} ": f" {form} " for word, form in forms.items() if word != form}
    spaced = " " + text.str.replace_all(" ", "  ", literal=True) + " "
    return spaced.str.replace_many(padded).str.replace_all("  ", " ", literal=True).str.strip_chars(" ")
