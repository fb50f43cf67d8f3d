"""From delivered lines to source records: pick the attributes, clean them, keep the latest version.

A pure function of the lines and the source's mapping; no database in it.
"""

from datetime import date

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

COLUMNS = [
    "record_key",
    "object_id",
    "line_number",
    "is_deleted",
    "event_ts",
    "birth_date",
    "record_id",
    "email",
    "email_mailbox",
    "phone",
    "name",
    "given_name",
    "family_name",
    "address",
    "address_key",
    "city",
    "city_key",
    "postal_code",
    "national_id",
    "issues",
]


def clean_records(
    lines: pl.DataFrame, source: dict, delivery: dict[int, int], *, region: str, today: date
) -> pl.DataFrame:
    """One row per source record in `lines`, its latest version, with the columns COLUMNS.

    lines: record_key, record_id, object_id, line_number, event_ts (text), is_deleted ('t' or 'f'), payload
    (JSON).
    source: a row of raw.sources. delivery: object_id to its place in the order of delivery.
    """
    lines = latest_versions(lines, delivery)
    alive = pl.Series("alive", lines["is_deleted"] == "f")
    given = {
        attribute: values.zip_with(alive, pl.Series([None], dtype=pl.String))
        for attribute, values in attribute_values(lines["payload"], source["attributes"]).items()
    }
    nothing = pl.Series([None], dtype=pl.String).new_from_index(0, lines.height)

    def taken(attribute: str) -> pl.Series:
        return given.get(attribute, nothing)

    emails = normalize_email(taken("email"))
    phones = normalize_phone(taken("phone"), region)
    names = normalize_name(taken("name"), taken("given_name"), taken("family_name"))
    dates = normalize_date(taken("birth_date"), today=today, day_first=source["day_first"])
    addresses = normalize_address(taken("address"))
    cities = normalize_city(taken("city"))
    postal_codes = normalize_postal_code(taken("postal_code"))
    national_ids = normalize_national_id(taken("national_id"))
    full_name = pl.select(
        pl.coalesce(
            taken("name"),
            pl.concat_str(
                [taken("given_name"), taken("family_name")], separator=" ", ignore_nulls=True
            ).replace("", None),
        )
    ).to_series()
    reasons = {
        "email": (taken("email"), emails["reason"]),
        "phone": (taken("phone"), phones["reason"]),
        "name": (full_name, names["reason"]),
        "birth_date": (taken("birth_date"), dates["reason"]),
        "address": (taken("address"), addresses["reason"]),
        "city": (taken("city"), cities["reason"]),
        "postal_code": (taken("postal_code"), postal_codes["reason"]),
        "national_id": (taken("national_id"), national_ids["reason"]),
    }
    return (
        lines.select("record_key", "object_id", "line_number", "is_deleted", "event_ts", "record_id")
        .with_columns(
            dates["birth_date"],
            emails["email"],
            emails["mailbox"].alias("email_mailbox"),
            phones["phone"],
            names["name"],
            names["given_name"],
            names["family_name"],
            pl.select(pl.when(addresses["address"].is_not_null()).then(clean(taken("address"))))
            .to_series()
            .alias("address"),
            addresses["address"].alias("address_key"),
            pl.select(pl.when(cities["city"].is_not_null()).then(clean(taken("city"))))
            .to_series()
            .alias("city"),
            cities["city"].alias("city_key"),
            postal_codes["postal_code"],
            national_ids["national_id"],
            issues_of(reasons).alias("issues"),
        )
        .select(COLUMNS)
    )


def latest_versions(lines: pl.DataFrame, delivery: dict[int, int]) -> pl.DataFrame:
    """The newest line of each record: by event_ts, then by order of delivery, then by line."""
    if lines["record_key"].n_unique() == lines.height:
        return lines
    order = pl.col("object_id").replace_strict(delivery, return_dtype=pl.Int64)
    # PostgreSQL writes UTC timestamps so that their text sorts as they do.
    newest = (
        lines.lazy()
        .select("record_key", "event_ts", "line_number", order=order, row=pl.int_range(pl.len()))
        .sort("event_ts", "order", "line_number")
        .group_by("record_key")
        .agg(pl.col("row").last())
        .collect()["row"]
        .sort()
    )
    return lines[newest]


def attribute_values(payloads: pl.Series, mapping: dict[str, str | list[str]]) -> dict[str, pl.Series]:
    """The mapped fields of JSON lines as one text column per canonical attribute; null where absent."""
    fields = sorted(
        {field for named in mapping.values() for field in ([named] if isinstance(named, str) else named)}
    )
    safe = [f"field_{number}" for number in range(len(fields))]
    line_type = msgspec.defstruct(
        "Line",
        [(name, object, None) for name in safe],
        rename=dict(zip(safe, fields, strict=True)),
        gc=False,
    )
    parsed = msgspec.json.decode("[" + ",".join(payloads.to_list()) + "]", type=list[line_type])
    columns = {
        field: pl.Series([getattr(line, name) for line in parsed], dtype=pl.String, strict=False)
        for name, field in zip(safe, fields, strict=True)
    }
    return {
        attribute: columns[named]
        if isinstance(named, str)
        else pl.select(
            pl.concat_str([columns[field] for field in named], separator=" ", ignore_nulls=True).replace(
                "", None
            )
        ).to_series()
        for attribute, named in mapping.items()
    }


def issues_of(reasons: dict[str, tuple[pl.Series, pl.Series]]) -> pl.Series:
    """{attribute: {value, reason}} as JSON text of what was kept out; null where nothing was."""
    faults = [
        pl.select(
            pl.when(reason.is_not_null()).then(
                pl.lit(f'"{attribute}":')
                + pl.struct(value.alias("value"), reason.alias("reason")).struct.json_encode()
            )
        )
        .to_series()
        .alias(attribute)
        for attribute, (value, reason) in reasons.items()
        if reason.null_count() < len(reason)
    ]
    length = len(next(iter(reasons.values()))[1])
    if not faults:
        return pl.Series([None], dtype=pl.String).new_from_index(0, length)
    return pl.select(
        pl.when(pl.any_horizontal(*(fault.is_not_null() for fault in faults))).then(
            pl.lit("{") + pl.concat_str(faults, separator=",", ignore_nulls=True) + pl.lit("}")
        )
    ).to_series()
