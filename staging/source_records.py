"""From delivered lines to source records: pick the attributes, clean them, keep the latest version.

A pure function of the lines and the mappings of their sources; no database in it. The lines of all sources
are cleaned together: normalisers have their price per call, and what several sources say is settled once.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from operator import attrgetter

import msgspec
import polars as pl

from staging.normalizers import (
    normalize_address,
    normalize_city,
    normalize_date,
    normalize_email,
    normalize_name,
    normalize_national_id,
    normalize_phone,
    normalize_postal_code,
)
from staging.normalizers.text import clean

COLUMNS = {
    "record_key": pl.Int64,
    "object_id": pl.Int32,
    "line_number": pl.Int32,
    "is_deleted": pl.Boolean,
    "event_ts": pl.Datetime("us", "UTC"),
    "birth_date": pl.Date,
    "record_id": pl.String,
    "email": pl.String,
    "email_mailbox": pl.String,
    "phone": pl.String,
    "name": pl.String,
    "given_name": pl.String,
    "family_name": pl.String,
    "address": pl.String,
    "address_key": pl.String,
    "city": pl.String,
    "city_key": pl.String,
    "postal_code": pl.String,
    "national_id": pl.String,
    "issues": pl.String,
}
NAME_PARTS = ("name", "given_name", "family_name")
# Of each attribute, the columns that its normaliser's results become.
SETTLED = {
    "email": {"email": "email", "email_mailbox": "mailbox"},
    "phone": {"phone": "phone"},
    "name": {"name": "name", "given_name": "given_name", "family_name": "family_name"},
    "birth_date": {"birth_date": "birth_date"},
    "address": {"address_key": "address"},
    "city": {"city_key": "city"},
    "postal_code": {"postal_code": "postal_code"},
    "national_id": {"national_id": "national_id"},
}


@dataclass(frozen=True)
class Delivered:
    """Lines of one source.

    source: its row of raw.sources.
    lines: record_key, object_id, line_number, event_ts, is_deleted, is_latest.
    payloads: their JSON objects, one per line.
    """

    source: dict
    lines: pl.DataFrame
    payloads: bytes


def clean_records(
    batch: list[Delivered], *, region: str, today: date, threads: int = 1
) -> list[tuple[dict, pl.DataFrame]]:
    """The source records whose latest version is in the batch, source by source, with the columns COLUMNS.

    region: the country of phone numbers without a country code, of sources that name none. threads: how many
    attributes are cleaned at a time.
    """
    given = pl.concat(
        [given_values(delivered).with_columns(source=pl.lit(i)) for i, delivered in enumerate(batch)],
        how="diagonal",
    )
    sources = [delivered.source for delivered in batch]
    regions = [source["region"] or region for source in sources]
    day_first = [source["day_first"] for source in sources]
    names = given.select(
        pl.col(part) if part in given.columns else pl.lit(None, pl.String).alias(part) for part in NAME_PARTS
    )

    def read_date(values: pl.Series, day_first: bool) -> pl.DataFrame:
        return normalize_date(values, today=today, day_first=day_first)

    # Those that take longest first.
    ways: dict[str, Callable[[pl.Series], pl.DataFrame]] = {
        "name": lambda _: normalize_name(*names.get_columns()),
        "phone": lambda phones: by_setting(normalize_phone, phones, given["source"], regions),
        "email": normalize_email,
        "address": normalize_address,
        "city": normalize_city,
        "postal_code": normalize_postal_code,
        "birth_date": lambda dates: by_setting(read_date, dates, given["source"], day_first),
        "national_id": normalize_national_id,
    }
    values = {attribute: given[attribute] for attribute in ways if attribute in given.columns}
    if any(part in given.columns for part in NAME_PARTS):
        values["name"] = full_names(names)
    with ThreadPoolExecutor(threads) as pool:
        made = {
            attribute: pool.submit(way, values[attribute])
            for attribute, way in ways.items()
            if attribute in values
        }
    settled: dict[str, pl.Series] = {}
    faults: dict[str, tuple[pl.Series, pl.Series]] = {}
    for attribute, columns in SETTLED.items():
        if attribute in made:
            results = made[attribute].result()
            settled |= {column: results[result] for column, result in columns.items()}
            faults[attribute] = values[attribute], results["reason"]
    if "email" in made:
        is_same = settled["email_mailbox"].eq_missing(settled["email"])
        settled["email_mailbox"] = settled["email_mailbox"].set(is_same, None)
    for attribute in ("address", "city"):
        if attribute in made:
            settled[attribute] = shown(values[attribute], settled[f"{attribute}_key"])
    settled["issues"] = issues_of(faults, given.height)

    records = given.with_columns(column.alias(name) for name, column in settled.items())
    records = records.select(
        "source",
        *(
            name if name in settled or name in records.columns else pl.lit(None, kind).alias(name)
            for name, kind in COLUMNS.items()
        ),
    )
    return [(source, records.filter(source=i).drop("source")) for i, source in enumerate(sources)]


def mark_latest(lines: pl.DataFrame, delivery: dict[int, int]) -> pl.DataFrame:
    """The lines with is_latest: whether none of the record is newer by event_ts, delivery, line number.

    delivery: object_id to its place in the order of delivery.
    """
    repeated = lines["record_key"].is_duplicated().arg_true()
    newest = (
        lines[repeated]
        .with_columns(
            row=repeated, delivery=pl.col("object_id").replace_strict(delivery, return_dtype=pl.Int64)
        )
        .sort("event_ts", "delivery", "line_number")
        .unique("record_key", keep="last")
    )
    is_latest = pl.repeat(True, lines.height, eager=True).scatter(repeated, False)
    return lines.with_columns(is_latest=is_latest.scatter(newest["row"], True))


def given_values(delivered: Delivered) -> pl.DataFrame:
    """The latest lines with their record id and the mapped attributes as they were given, as text.

    An attribute is null where it is absent or the record was withdrawn.
    """
    source = delivered.source
    mapping = {
        attribute: [named] if isinstance(named, str) else named
        for attribute, named in source["attributes"].items()
    }
    fields = sorted({source["record_id_field"], *(field for named in mapping.values() for field in named)})
    safe = {field: f"field_{number}" for number, field in enumerate(fields)}
    line_type = msgspec.defstruct(
        "Line",
        [(name, object, None) for name in safe.values()],
        rename={name: field for field, name in safe.items()},
        gc=False,
    )
    parsed = msgspec.json.Decoder(line_type).decode_lines(delivered.payloads)
    columns = [
        pl.Series(name, list(map(attrgetter(name), parsed)), dtype=pl.String, strict=False)
        for name in safe.values()
    ]
    ids = fields.index(source["record_id_field"])
    if columns[ids].null_count():
        # polars makes null of a number beyond 128 bits, which phase 2 once took in as an id.
        columns[ids] = pl.Series(
            safe[fields[ids]], [str(getattr(line, safe[fields[ids]])) for line in parsed]
        )
    is_alive = ~pl.col("is_deleted")
    return (
        delivered.lines.with_columns(columns)
        .filter("is_latest")
        .select(
            "record_key",
            "object_id",
            "line_number",
            "is_deleted",
            "event_ts",
            pl.col(safe[source["record_id_field"]]).alias("record_id"),
            *(
                pl.when(is_alive).then(joined(*(safe[field] for field in named))).alias(attribute)
                for attribute, named in mapping.items()
            ),
        )
    )


def joined(*columns: str) -> pl.Expr:
    """The texts of the columns with a space between, null where there is none."""
    if len(columns) == 1:
        return pl.col(columns)
    return pl.concat_str(columns, separator=" ", ignore_nulls=True).replace("", None)


def by_setting(
    normalize: Callable[..., pl.DataFrame], values: pl.Series, sources: pl.Series, settings: list
) -> pl.DataFrame:
    """What a normaliser makes of the values under the setting of their source; settings: one per source."""
    if len(set(settings)) == 1:
        return normalize(values, settings[0])
    parts = []
    for setting in dict.fromkeys(settings):
        rows = sources.is_in([i for i, other in enumerate(settings) if other == setting]).arg_true()
        parts.append(normalize(values.gather(rows), setting).with_columns(row=rows))
    return pl.concat(parts).sort("row").drop("row")


def full_names(names: pl.DataFrame) -> pl.Series:
    """The name as it was given, whole or in parts."""
    return names.select(pl.coalesce("name", joined("given_name", "family_name"))).to_series()


def shown(values: pl.Series, settled: pl.Series) -> pl.Series:
    """The values as people read them, where they were found valid."""
    return clean(values.set(settled.is_null(), None))


def issues_of(faults: dict[str, tuple[pl.Series, pl.Series]], length: int) -> pl.Series:
    """{attribute: {value, reason}} as JSON text of what was kept out; null where nothing was."""
    issues = pl.Series([None], dtype=pl.String).new_from_index(0, length)
    rows = pl.DataFrame({attribute: reason.is_not_null() for attribute, (_, reason) in faults.items()})
    at_fault = rows.select(pl.any_horizontal(pl.all())).to_series().arg_true() if faults else []
    if not len(at_fault):
        return issues
    texts = pl.DataFrame(
        {
            attribute: pl.DataFrame({"value": value.gather(at_fault), "reason": reason.gather(at_fault)})
            for attribute, (value, reason) in faults.items()
        }
    ).select(
        pl.when(pl.col(attribute).struct.field("reason").is_not_null())
        .then(pl.lit(f'"{attribute}":') + pl.col(attribute).struct.json_encode())
        .alias(attribute)
        for attribute in faults
    )
    text = texts.select(pl.lit("{") + pl.concat_str(pl.all(), separator=",", ignore_nulls=True) + pl.lit("}"))
    return issues.scatter(at_fault, text.to_series())
