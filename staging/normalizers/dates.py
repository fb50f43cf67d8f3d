"""Birth dates in the usual spellings."""

from datetime import date

import polars as pl

from .text import WORDS, any_of, by_distinct, clean, fold, on_rows, settled

MONTHS = {name: int(month) for month, names in WORDS["months"].items() for name in names}
PLACEHOLDERS = [date.fromisoformat(day) for day in WORDS["placeholders"]["dates"]]
NO_DATE = rf"^(?:{any_of(WORDS['placeholders']['words'])}|[x?.-]+|0+|0000[-/.]00[-/.]00|00[-/.]00[-/.]0000)$"
EARLIEST_YEAR = 1000

ISO = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"
TIME = r"(?:[t ,]+[0-9]{1,2}[:.h][0-9]{2}.*)?"
WEEKDAY = r"^(?:[a-z]{2,10}\.?,? )?"
ORDINAL = r"(?:st|nd|rd|th|er|o|º|ª)?"
MONTH = r"(?P<n>[a-z]{3,10})"
YEAR = r"(?P<y>[0-9]{4}|'?[0-9]{2})"
SPELLINGS = [
    # 1980-03-12, 1980/3/12, 1980.03.12, with or without a time behind
    rf"^(?P<y>[0-9]{{4}})[-/. ](?P<m>[0-9]{{1,2}})[-/. ](?P<d>[0-9]{{1,2}}){TIME}$",
    # 19800312, 19800312T101500
    r"^(?P<y>[0-9]{4})(?P<m>[0-9]{2})(?P<d>[0-9]{2})(?:t[0-9]{4}z?|t?[0-9]{6}z?)?$",
    # 12 Mar 1980, 12th of March, 1980, 12-MAR-80, 12. März 1980, 12mar1980
    rf"{WEEKDAY}(?P<d>[0-9]{{1,2}}){ORDINAL}[-/. ]*(?:of |de |di )?{MONTH}[-/., ]*(?:del? )?{YEAR}{TIME}$",
    # March 12, 1980
    rf"{WEEKDAY}{MONTH}[-/. ]*(?P<d>[0-9]{{1,2}}){ORDINAL}[-/., ]+{YEAR}{TIME}$",
    # 1980 Mar 12, 1980-MAR-12
    rf"^(?P<y>[0-9]{{4}})[-/., ]*{MONTH}[-/., ]*(?P<d>[0-9]{{1,2}}){TIME}$",
]
INCOMPLETE = r"^(?:[0-9]{4}(?:[-/.][0-9]{1,2})?|[0-9]{1,2}[-/.][0-9]{4}|[a-z]+\.? [0-9]{4})$"
# 12/03/1980, 3.12.80: which is the day is not in the value.
TWO_NUMBERS = rf"^(?P<a>[0-9]{{1,2}})[-/. ]+(?P<b>[0-9]{{1,2}})[-/. ]+{YEAR}{TIME}$"
EIGHT_DIGITS = r"^(?P<a>[0-9]{2})(?P<b>[0-9]{2})(?P<y>[0-9]{4})$"


@by_distinct
def normalize_date(values: pl.Series, today: date, day_first: bool = False) -> pl.DataFrame:
    """Columns birth_date (Date) and reason (String), one row per value.

    day_first says how 03/04/1980 is read; 13/04/1980 and 04/13/1980 are read the only way they can be.
    Two-digit years lie in the hundred years before today. A time behind the date is dropped as written.
    """
    text = fold(clean(values)).str.strip_chars(".,;'\" ")
    text = on_rows(text, text.str.contains(r"^[0-9]{8}\.0+$"), lambda rows: rows.str.head(8))
    day = text.str.to_date("%Y-%m-%d", strict=False).set(~text.str.contains(ISO), None)
    is_date = day.is_not_null()
    other = (~is_date & text.is_not_null()).arg_true()
    if len(other):
        read = _read(text.gather(other), today, day_first)
        day, is_date = day.scatter(other, read["day"]), is_date.scatter(other, read["is_date"])
    frame = pl.DataFrame({"text": text, "day": day, "is_date": is_date})
    day, text = pl.col("day"), pl.col("text")
    reason = (
        pl.when(text.is_null()).then(None)
        .when(day.is_in(PLACEHOLDERS) | text.str.contains(NO_DATE)).then(pl.lit("placeholder"))
        .when(_in_range(day, today)).then(None)
        .when(day.is_not_null()).then(pl.lit("out_of_range"))
        .when(pl.col("is_date")).then(pl.lit("no_such_day"))
        .when(text.str.contains(INCOMPLETE)).then(pl.lit("incomplete"))
        .otherwise(pl.lit("not_a_date"))
    )  # fmt: skip
    return settled(frame, reason, birth_date=day)


def _read(text: pl.Series, today: date, day_first: bool) -> pl.DataFrame:
    """Columns day (the first reading in range, else the first there is) and is_date (spelled like one)."""
    # One value at a time: how it is read must not depend on what else the batch holds.
    value, is_date, readings = pl.col("text"), pl.lit(False), []
    for pattern in SPELLINGS:
        groups = value.str.extract_groups(pattern).struct
        day = groups.field("d")
        month = (
            groups.field("n").replace_strict(MONTHS, default=None) if MONTH in pattern else groups.field("m")
        )
        readings.append(_date(groups.field("y"), month, day, today))
        is_date |= day.is_not_null() & month.is_not_null()
    for pattern in (TWO_NUMBERS, EIGHT_DIGITS):
        first, second, year = (
            value.str.extract_groups(pattern).struct.field(name) for name in ("a", "b", "y")
        )
        both = [_date(year, second, first, today), _date(year, first, second, today)]
        readings += both if day_first else reversed(both)
        is_date |= first.is_not_null()
    in_range = [pl.when(_in_range(reading, today)).then(reading) for reading in readings]
    return text.alias("text").to_frame().select(day=pl.coalesce(*in_range, *readings), is_date=is_date)


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
    return (day <= today) & (day.dt.year() >= EARLIEST_YEAR)
