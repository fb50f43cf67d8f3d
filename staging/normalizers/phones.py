"""Telephone numbers in E.164, as the phonenumbers package reads them, at the speed of column operations.

1. Values in usual spellings (digits, punctuation, an extension) are read by rules that are made of the
   package's own metadata: trunk prefix, country code, length and pattern of each country's numbers.
2. Whatever those rules do not settle beyond doubt goes to the package itself, each distinct value once.

A number counts as valid when its length is possible in its country and its digits match the country's
general pattern. Whether its area code is in use today is not asked: that list changes, and two records
with the same mistyped number still belong together.
"""

import re
from dataclasses import dataclass
from functools import cache

import phonenumbers
import polars as pl
from phonenumbers import COUNTRY_CODE_TO_REGION_CODE, NumberParseException, PhoneMetadata, ValidationResult

from .text import SCIENTIFIC, VALUE, WORDS, any_of, applied, by_distinct, clean, on_rows

EXTENSION = r" ?(?:x|ext\.?) ?[0-9]{1,6}$"
PUNCTUATION = [" ", "-", "(", ")", ".", "/"]
NUMBER = r"^\+?[0-9]{7,18}$"
# 030 12345 App. 12
EXTENSION_WORDS = (
    rf"(?i)^([^0-9]*[0-9](?:[^0-9\p{{L}}]*[0-9]){{4,}})[^0-9\p{{L}}]*{any_of(WORDS['phones']['extensions'])}[ .:]*[0-9]"
    r".*$"
)
# 7911 123456 (mobile), 0170 2345678 ab 18 Uhr, 0170 2345678 2. Nummer, and not 1-800-FLOWERS
WORDS_BEHIND = r"^([^0-9]*[0-9](?:[^0-9\p{L}]*[0-9]){6,}?)(?: +[0-9]\.)?[^0-9\p{L}]*\p{L}.*$"
# The same where letters stand between the first digits.
LAST_WORDS = r"^((?:[^0-9]*[0-9]){7}.*?)[^0-9]*\p{L}[^0-9]*$"
ENDS_IN_WORDS = r"\p{L}[^0-9]*$"
# Mexico dialled a 1 before mobile numbers until 2019.
MOBILE_OF_MEXICO = r"52[ ().\-/]*1([ ().\-/]*(?:[0-9][ ().\-/]*){10})$"
SEVERAL_NUMBERS = re.compile(r"\s*[/;,|&]\s*|\s+(?:or|and|und|oder|u\.?|ou|o)\s+", re.IGNORECASE)
COUNTRY_CODE = r"^\+(" + "|".join(str(code) for code in sorted(COUNTRY_CODE_TO_REGION_CODE)) + ")"
FEWEST_DIGITS = 7  # with the country code: the shortest numbers in use, of small islands, have as many

# Fewer numbers of a country are read by the package sooner than its plan is made.
FEWEST_NUMBERS = 20

ONE_DIGIT = "|".join(f"{digit}{{5,}}" for digit in range(10))
COUNTING = any_of(WORDS["placeholders"]["phone_digits"])
NO_PHONE = any_of(WORDS["placeholders"]["words"])
PLACEHOLDER = rf"(?i)^(?:\+?(?:{ONE_DIGIT}|{COUNTING})|{NO_PHONE}|[x?*+]*|0+)$"
PLACEHOLDER_E164 = rf"{COUNTRY_CODE}(?:{ONE_DIGIT}|{COUNTING}|[0-9]*0{{7}})$"

COUNTRY_CODE_FOR_REGION = {
    region: code for code, regions in COUNTRY_CODE_TO_REGION_CODE.items() for region in regions
}

PARSE_REASONS = {
    NumberParseException.INVALID_COUNTRY_CODE: "invalid_country_code",
    NumberParseException.NOT_A_NUMBER: "not_a_number",
    NumberParseException.TOO_SHORT_AFTER_IDD: "too_short",
    NumberParseException.TOO_SHORT_NSN: "too_short",
    NumberParseException.TOO_LONG: "too_long",
}
LENGTH_REASONS = {
    ValidationResult.TOO_SHORT: "too_short",
    ValidationResult.TOO_LONG: "too_long",
    ValidationResult.INVALID_LENGTH: "invalid_length",
    ValidationResult.IS_POSSIBLE_LOCAL_ONLY: "no_area_code",
    ValidationResult.INVALID_COUNTRY_CODE: "invalid_country_code",
}


@dataclass(frozen=True)
class NumberingPlan:
    """How the digits of a country's numbers are read; regular expressions and lengths."""

    country_code: str
    trunk_prefix: str | None  # what is dialled before a national number at home
    rewrites_number: bool  # the trunk prefix may change the rest of the number as well
    dials_abroad: str  # what is dialled before a country code
    general: str  # the numbers of this region
    country_general: str  # the numbers of any region with this country code
    lengths: tuple[int, ...]


@cache
def numbering_plan(country_code: int, region: str) -> NumberingPlan:
    """The plan of a country code as dialled from one of its regions ('001' where it belongs to none)."""
    regions = COUNTRY_CODE_TO_REGION_CODE[country_code]
    plans = [PhoneMetadata.metadata_for_region_or_calling_code(country_code, name) for name in regions]
    here, main = PhoneMetadata.metadata_for_region_or_calling_code(country_code, region), plans[0]
    prefix = here.national_prefix_for_parsing
    return NumberingPlan(
        country_code=str(country_code),
        trunk_prefix=f"^(?:{prefix})" if prefix else None,
        rewrites_number=bool(here.national_prefix_transform_rule),
        dials_abroad=f"^(?:{here.international_prefix or 'none'})",
        general=f"^(?:{here.general_desc.national_number_pattern})$",
        country_general="^(?:" + "|".join(plan.general_desc.national_number_pattern for plan in plans) + ")$",
        lengths=tuple(
            sorted(set(here.general_desc.possible_length) & set(main.general_desc.possible_length))
        ),
    )


@by_distinct
def normalize_phone(values: pl.Series, default_region: str) -> pl.DataFrame:
    """Columns phone (E.164, without extension) and reason (String), one row per value.

    default_region is the ISO code of the country whose national spelling is meant where a number has no
    country code. Raises ValueError where there is no such region.
    """
    default_region = default_region.upper()
    if default_region not in phonenumbers.SUPPORTED_REGIONS:
        raise ValueError(f"no telephone numbering plan for region {default_region!r}")
    numbers = without_artefacts(clean(values), default_region)
    alone = without_words(numbers)
    phones = settled_by_plan(alone, default_region)
    open_rows = (phones.is_null() & alone.is_not_null()).arg_true()
    reasons = pl.repeat(None, len(alone), dtype=pl.String, eager=True)
    if len(open_rows):
        rest = _settled_by_package(alone.gather(open_rows), default_region)
        phones = phones.scatter(open_rows, rest["phone"])
        reasons = reasons.scatter(open_rows, rest["reason"])
        # Letters at the end may stand for digits after all.
        spelled = (phones.is_null() & (alone != numbers) & numbers.str.contains(ENDS_IN_WORDS)).arg_true()
        if len(spelled):
            rest = _settled_by_package(numbers.gather(spelled), default_region)
            phones = phones.scatter(spelled, rest["phone"])
    reasons = reasons.set(phones.is_not_null(), None)
    junk = _is_placeholder(alone, phones)
    is_rounded = numbers.str.contains(f"(?i){SCIENTIFIC}").fill_null(False)
    return pl.DataFrame({"phone": phones, "reason": reasons}).select(
        phone=pl.when(~junk & ~is_rounded).then("phone"),
        reason=pl.when(is_rounded).then(pl.lit("scientific_notation"))
        .when(junk).then(pl.lit("placeholder"))
        .otherwise("reason"),
    )  # fmt: skip


def without_artefacts(numbers: pl.Series, region: str) -> pl.Series:
    # A spreadsheet took the number for a number.
    numbers = on_rows(
        numbers, numbers.str.contains(r"^\+?[0-9]{7,15}\.0+$"), lambda rows: rows.str.replace(r"\.0+$", "")
    )
    # 00 is how most of the world dials abroad, and is written in countries that dial 011 as well.
    if PhoneMetadata.metadata_for_region(region).international_prefix in ("00", "011"):
        abroad = numbers.str.contains(r"^\(?00[ ().\-/]*[1-9]")
        numbers = on_rows(numbers, abroad, lambda rows: rows.str.replace(r"^\(?00", "+"))
    mobile = rf"^\+{'?' if region == 'MX' else ''}{MOBILE_OF_MEXICO}"
    return on_rows(numbers, numbers.str.contains(mobile), lambda rows: rows.str.replace(mobile, "+52$1"))


def without_words(numbers: pl.Series) -> pl.Series:
    """Numbers without what is said about them behind."""
    return on_rows(
        numbers,
        numbers.str.contains(r"\p{L}"),
        lambda rows: (
            rows.str.replace(EXTENSION_WORDS, "$1")
            .str.replace(WORDS_BEHIND, "$1")
            .str.replace(LAST_WORDS, "$1")
        ),
    )


def settled_by_plan(numbers: pl.Series, region: str) -> pl.Series:
    """E.164 of the numbers whose spelling and digits leave no doubt, null for the rest."""
    extended = numbers.str.contains("[xX]")
    digits = on_rows(numbers, extended, lambda rows: rows.str.to_lowercase().str.replace(EXTENSION, ""))
    digits = _without_punctuation(digits)
    phones = pl.repeat(None, len(numbers), dtype=pl.String, eager=True)

    # A trailing slash or point may be more than punctuation to the package, so the last one is a digit.
    usual = digits.str.contains(NUMBER) & numbers.str.contains(r"[0-9)]$")
    home = COUNTRY_CODE_FOR_REGION[region]
    national = (usual & ~digits.str.starts_with("+")).arg_true()
    if len(national):
        phones = phones.scatter(
            national, _dialled_at_home(digits.gather(national), numbering_plan(home, region))
        )

    codes = digits.str.extract(COUNTRY_CODE).set(~usual, None)
    rows_of_codes = (
        codes.to_frame("code")
        .with_row_index("row")
        .drop_nulls()
        .group_by("code")
        .agg("row")
        .filter(pl.col("row").list.len() >= FEWEST_NUMBERS)
    )
    for code, rows in zip(rows_of_codes["code"], rows_of_codes["row"], strict=True):
        main_region = COUNTRY_CODE_TO_REGION_CODE[int(code)][0]
        subscriber = digits.gather(rows).str.slice(len(code) + 1)
        phones = phones.scatter(
            rows, _dialled_from_abroad(subscriber, numbering_plan(int(code), main_region))
        )
    return phones


def _dialled_from_abroad(digits: pl.Series, plan: NumberingPlan) -> pl.Series:
    return _e164(_without_trunk_prefix(digits, plan), plan)


def _dialled_at_home(digits: pl.Series, plan: NumberingPlan) -> pl.Series:
    """Digits without a plus: a national number, or one with the country code and the plus left out."""
    has_code = digits.str.starts_with(plan.country_code) & ~digits.str.contains(plan.general)
    with_code = digits.filter(has_code)
    national = _without_trunk_prefix(
        digits.set(has_code | digits.str.contains(plan.dials_abroad), None), plan
    )
    return _e164(national.scatter(has_code.arg_true(), _without_country_code(with_code, plan)), plan)


def _without_country_code(digits: pl.Series, plan: NumberingPlan) -> pl.Series:
    national = digits.str.slice(len(plan.country_code))
    unsure = ~national.str.contains(plan.general) | digits.str.contains(plan.dials_abroad)
    if plan.trunk_prefix:
        unsure |= national.str.contains(plan.trunk_prefix)
    return national.set(unsure, None)


def _without_trunk_prefix(digits: pl.Series, plan: NumberingPlan) -> pl.Series:
    """National numbers, null where it takes the package to tell."""
    if plan.trunk_prefix is None:
        return digits
    return on_rows(digits, digits.str.contains(plan.trunk_prefix), lambda rows: _stripped(rows, plan))


def _stripped(digits: pl.Series, plan: NumberingPlan) -> pl.Series:
    stripped = applied(VALUE.str.replace(plan.trunk_prefix, ""), digits)
    stripped = applied(pl.when(_is_number(plan)).then(VALUE), stripped)
    if plan.rewrites_number:
        return stripped.clear(len(stripped))
    # The prefix is part of the number where the number is one with it and none without it.
    is_part = digits.str.contains(plan.general) & stripped.is_null()
    return stripped.zip_with(~is_part, digits)


def _is_number(plan: NumberingPlan, fewest_digits: int = 0) -> pl.Expr:
    """Whether VALUE is a national number of the plan."""
    lengths = [length for length in plan.lengths if length >= fewest_digits]
    return VALUE.str.len_bytes().is_in(lengths) & VALUE.str.contains(plan.country_general)


def _e164(national: pl.Series, plan: NumberingPlan) -> pl.Series:
    is_number = _is_number(plan, FEWEST_DIGITS - len(plan.country_code))
    return applied(pl.when(is_number).then(pl.lit(f"+{plan.country_code}") + VALUE), national)


def _settled_by_package(numbers: pl.Series, region: str) -> pl.DataFrame:
    """The same by the phonenumbers package, which also says what is wrong."""
    distinct = numbers.unique(maintain_order=True)
    phones, reasons = zip(*(_read_first(number, region) for number in distinct), strict=True)
    settled = pl.DataFrame(
        {"number": distinct, "phone": phones, "reason": reasons},
        schema=dict.fromkeys(("number", "phone", "reason"), pl.String),
    )
    return numbers.alias("number").to_frame().join(settled, on="number", how="left", maintain_order="left")


def _read_first(number: str, region: str) -> tuple[str | None, str | None]:
    phone, reason = read_phone(number, region)
    first, *others = SEVERAL_NUMBERS.split(number, maxsplit=1)
    return read_phone(first, region) if reason and others else (phone, reason)


def read_phone(number: str, region: str) -> tuple[str | None, str | None]:
    """One number and its reason, by the phonenumbers package alone."""
    try:
        parsed = phonenumbers.parse(number, region)
    except NumberParseException as error:
        return None, PARSE_REASONS[error.error_type]
    possible = phonenumbers.is_possible_number_with_reason(parsed)
    if possible != ValidationResult.IS_POSSIBLE:
        return None, LENGTH_REASONS[possible]
    national = phonenumbers.national_significant_number(parsed)
    if len(national) + len(str(parsed.country_code)) < FEWEST_DIGITS:
        return None, "too_short"
    plan = numbering_plan(parsed.country_code, COUNTRY_CODE_TO_REGION_CODE[parsed.country_code][0])
    if not re.search(plan.country_general, national):
        return None, "invalid_number"
    return f"+{parsed.country_code}{national}", None


def _without_punctuation(numbers: pl.Series) -> pl.Series:
    return on_rows(
        numbers,
        numbers.str.contains("[ ()./-]"),
        lambda rows: rows.str.replace_many(PUNCTUATION, [""] * len(PUNCTUATION)),
    )


def _is_placeholder(numbers: pl.Series, phones: pl.Series) -> pl.Series:
    """One digit repeated or counting up and down, and words that say there is none."""
    digits = _without_punctuation(numbers)
    return (
        digits.str.contains(PLACEHOLDER) | phones.str.contains(PLACEHOLDER_E164).fill_null(False)
    ).fill_null(False)
