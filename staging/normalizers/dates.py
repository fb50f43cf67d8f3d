"""Birth dates in the usual spellings."""

from datetime import date

import polars as pl

from .text import WORDS, any_of, by_distinct, clean, fold, on_rows

MONTHS = {name: int(month) for month, names in WORDS["months"].items() for name in names}
PLACEHOLDERS = [date.fromisoformat(day) for day in WORDS["placeholders"]["dates"]]
NO_DATE = rf"^(?:{any_of(WORDS['placeholders']['words'])}|[x?.-]+|0+|0000[-/.]00[-/.]00|00[-/.]00[-/.]0000)$"
EARLIEST_YEAR = 1000

TIME = r"(?:[t ,]+[0-9]{1,2}[:.h][0-9]{2}.*)?"
WEEKDAY = r"^(?:[a-z]{2,10}\.?,? )?"
YEAR = r"(?P<y>[0-9]{4}|'?[0-9]{2})"
SPELLINGS = [
    # 1980-03-12, 1980/3/12, 1980.03.12, with or without a time behind
    rf"^(?P<y>[0-9]{{4}})[-/. ](?P<m>[0-9]{{1,2}})[-/. ](?P<d>[0-9]{{1,2}}){TIME}$",
    # 19800312, 19800312T101500
    r"^(?P<y>[0-9]{4})(?P<m>[0-9]{2})(?P<d>[0-9]{2})(?:t[0-9]{4}z?|t?[0-9]{6}z?)?$",
    # 12 Mar 1980, 12th of March, 1980, 12-MAR-80, 12. März 1980, 12mar1980
    rf"{WEEKDAY}(?P<d>[0-9]{{1,2}})(?:st|nd|rd|th|er|o|º|ª)?[-/. ]*(?:of |de |di )?(?P<n>[a-z]{{3,10}})[-/., ]*(?:de |del )?{YEAR}{TIME}$",
    # March 12, 1980
    rf"{WEEKDAY}(?P<n>[a-z]{{3,10}})[-/. ]*(?P<d>[0-9]{{1,2}})(?:st|nd|rd|th)?[-/., ]+{YEAR}{TIME}$",
    # 1980 Mar 12, 1980-MAR-12
    rf"^(?P<y>[0-9]{{4}})[-/., ]*(?P<n>[a-z]{{3,10}})[-/., ]*(?P<d>[0-9]{{1,2}}){TIME}$",
]
# 12/03/1980, 3.12.80: which is the day is not in the value.
TWO_NUMBERS = rf"^(?P<a>[0-9]{{1,2}})[-/. ]+(?P<b>[0-9]{{1,2}})[-/. ]+{YEAR}{TIME}$"
EIGHT_DIGITS = r"^(?P<a>[0-9]{2})(?P<b>[0-9]{2})(?P<y>[0-9]{4})$"


@by_distinct
def normalize_date(values: pl.Series, today: date, day_first: bool = False) -> pl.DataFrame:
    """Columns birth_date (Date) and reason (String), one row per value.

    day_first says how 03/04/1980 is read; 13/04/1980 and 04/13/1980 are read the only way they can be.
    Two-digit years lie in the hundred years before today. A time behind the date is dropped as written.
    """
    # One value at a time: a spelling must not depend on what else the batch holds.
    text = fold(clean(values)).str.strip_chars(".,;'\" ")
    text = on_rows(text, text.str.contains(r"^[0-9]{8}\.0+$"), lambda rows: rows.str.head(8))
    frame = pl.DataFrame({"text": text})
    value, is_spelled = pl.col("text"), pl.lit(False)
    candidates = []
    for pattern in SPELLINGS:
        groups = value.str.extract_groups(pattern)
        named_month = "(?P<n>" in pattern
        month = (
            groups.struct.field("n").replace_strict(MONTHS, default=None)
            if named_month
            else groups.struct.field("m")
        )
        day = groups.struct.field("d")
        candidates.append(_date(groups.struct.field("y"), month, day, today))
        is_spelled |= day.is_not_null() & (month.is_not_null() if named_month else True)
    for pattern in (TWO_NUMBERS, EIGHT_DIGITS):
        groups = value.str.extract_groups(pattern)
        first, second, year = (groups.struct.field(name) for name in ("a", "b", "y"))
        readings = [_date(year, second, first, today), _date(year, first, second, today)]
        candidates.extend(readings if day_first else readings[::-1])
        is_spelled |= first.is_not_null()
    frame = frame.with_columns(
        day=pl.coalesce(_in_range(day, today) for day in candidates),
        other=pl.coalesce(candidates),
        is_spelled=is_spelled,
    )
    day = pl.col("day")
    return frame.select(
        birth_date=pl.when(~pl.col("other").is_in(PLACEHOLDERS) | (day != pl.col("other"))).then(day),
        reason=pl.when(value.is_null()).then(None)
        .when(pl.col("other").is_in(PLACEHOLDERS) | value.str.contains(NO_DATE)).then(pl.lit("placeholder"))
        .when(day.is_not_null()).then(None)
        .when(pl.col("other").is_not_null()).then(pl.lit("out_of_range"))
        .when(pl.col("is_spelled")).then(pl.lit("no_such_day"))
        .when(value.str.contains(r"^(?:[0-9]{4}(?:[-/.][0-9]{1,2})?|[0-9]{1,2}[-/.][0-9]{4}|[a-z]+\.? [0-9]{4})$")).then(pl.lit("incomplete"))
        .otherwise(pl.lit("not_a_date")),
    )  # fmt: skip


def _date(year: pl.Expr, month: pl.Expr, day: pl.Expr, today: date) -> pl.Expr:
    """The date of these numbers, null where the calendar has none."""
    number = year.str.strip_chars("'").cast(pl.Int32)
    century = today.year // 100 * 100
    full_year = (
        pl.when(year.str.strip_chars("'").str.len_bytes() == 4).then(number)
        .when(number + century >= today.year).then(number + century - 100)
        .otherwise(number + century)
    )  # fmt: skip
    iso = pl.format(
        "{}-{}-{}",
        full_year.cast(pl.String).str.zfill(4),
        month.cast(pl.String).str.zfill(2),
        day.str.zfill(2),
    )
    return iso.str.to_date("%Y-%m-%d", strict=False)


def _in_range(day: pl.Expr, today: date) -> pl.Expr:
    return pl.when((day <= today) & (day.dt.year() >= EARLIEST_YEAR)).then(day)
