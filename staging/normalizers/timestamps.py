"""Event timestamps: ISO 8601 and Unix epochs, in UTC."""

from datetime import UTC, datetime, timedelta

import polars as pl

EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
SHORT_ISO = (
    r"^([0-9]{4})-?([0-9]{2})-?([0-9]{2})"
    r"(?:[T ]+([0-9]{2}):?([0-9]{2})(?::?([0-9]{2})(?:[.,]([0-9]{1,9})[0-9]*)?)?)?"
    r" ?(Z|UTC|GMT|[+-][0-9]{2}(?::?[0-9]{2})?)?$"
)
EPOCH = r"^[0-9]{9,19}(?:\.[0-9]*)?$"


def normalize_timestamp(values: pl.Series, fallback: datetime | pl.Series, now: datetime) -> pl.DataFrame:
    """Columns event_ts (Datetime in UTC, microseconds) and reason (String), one row per value.

    Reads ISO 8601, UTC where no zone is given, and epoch seconds to nanoseconds, as text. fallback (aware;
    one for all, or one per row) stands where a value is missing, unreadable ('not_a_timestamp'), or before
    1970 or more than a day after now ('out_of_range').
    """
    text = values.cast(pl.String).str.strip_chars().str.to_uppercase()
    text = text.set(text.str.len_bytes() == 0, None)
    read = _iso(text)
    other = (read.is_null() & text.is_not_null()).arg_true()
    if len(other):
        rest = text.gather(other)
        read = read.scatter(other, _epoch(rest).fill_null(_iso(_long_iso(rest))))
    in_range = read.is_between(EARLIEST, now + timedelta(days=1))
    if not isinstance(fallback, pl.Series):
        fallback = pl.Series([fallback])
    frame = pl.DataFrame({"text": text, "read": read, "in_range": in_range})
    fallback = (
        pl.lit(fallback.cast(read.dtype)) if len(fallback) > 1 else pl.lit(fallback.cast(read.dtype)).first()
    )
    return frame.select(
        event_ts=pl.when("in_range").then("read").otherwise(fallback),
        reason=pl.when(pl.col("text").is_null() | pl.col("in_range")).then(None)
        .when(pl.col("read").is_null()).then(pl.lit("not_a_timestamp"))
        .otherwise(pl.lit("out_of_range")),
    )  # fmt: skip


def _iso(text: pl.Series) -> pl.Series:
    return text.str.to_datetime("%+", time_unit="us", strict=False)


def _long_iso(text: pl.Series) -> pl.Series:
    """Short, basic and spaced forms of ISO 8601 with every part written out; null where it is none."""
    part = [pl.col("part").struct.field(str(group)) for group in range(1, 9)]
    hour, minute, second, fraction = (part[group].fill_null("0") for group in range(3, 7))
    zone = (
        part[7].fill_null("Z").str.replace("^(?:UTC|GMT)$", "Z").str.replace(r"^([+-][0-9]{2})$", "${1}:00")
    )
    written = pl.format(
        "{}-{}-{}T{}:{}:{}.{}{}",
        *part[:3],
        *(field.str.zfill(2) for field in (hour, minute, second)),
        fraction,
        zone,
    )
    return text.str.extract_groups(SHORT_ISO).alias("part").to_frame().select(written).to_series()


def _epoch(text: pl.Series) -> pl.Series:
    """Epoch seconds, milliseconds, microseconds or nanoseconds, told apart by their number of digits."""
    number = pl.when(pl.col("text").str.contains(EPOCH)).then(pl.col("text"))
    digits = number.str.extract(r"^([0-9]+)")
    length, whole = digits.str.len_bytes(), digits.cast(pl.Int64, strict=False)
    microseconds = (
        pl.when(length <= 11).then((number.cast(pl.Float64) * 1_000_000).cast(pl.Int64))
        .when(length <= 14).then(whole * 1_000)
        .when(length <= 17).then(whole)
        .otherwise(whole // 1_000)
    )  # fmt: skip
    return text.alias("text").to_frame().select(microseconds.cast(pl.Datetime("us", "UTC"))).to_series()
