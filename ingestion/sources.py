"""The sources file (`sources.toml`): read, checked, and written to raw.sources for the phases that follow."""

import json
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

from psycopg2.extensions import cursor as Cursor

from db.errors import ConfigurationError, MissingError
from db.postgres import run_file

HERE = Path(__file__).resolve().parent
ATTRIBUTES = (
    "email",
    "phone",
    "name",
    "given_name",
    "family_name",
    "birth_date",
    "address",
    "city",
    "postal_code",
    "national_id",
)
REQUIRED = ("prefix", "raw_table", "record_id", "attributes")
KEYS = (*REQUIRED, "event_ts", "staging_table", "day_first", "region")
# Prefixes the pipeline keeps for itself: the producers' truth and its own reports.
OWN_PREFIXES = ("_truth/", "reports/")
OWN_RAW_TABLES = ("sources", "ingested_objects", "rejected_records", "erased_records", "erasure_secret")

SOURCE_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
TABLE_NAME = re.compile(r"[a-z][a-z0-9_]{0,59}")
# What the reader of JSON lines takes in no name of a field.
UNREADABLE = re.compile(r'["\\\x00-\x1f]')


@dataclass(frozen=True)
class Source:
    """One source system. `attributes`: canonical attribute -> the fields it is joined from."""

    name: str
    prefix: str
    raw_table: str
    staging_table: str
    record_id: str
    event_ts: str | None
    attributes: dict[str, tuple[str, ...]]
    day_first: bool
    region: str | None


def read_sources(path: Path) -> list[Source]:
    """The sources of a file, in its order.

    Raises MissingError (no such file) and ConfigurationError, which names file, source and key.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise MissingError(
            f"There is no sources file {path}. Name one with --sources FILE or MDM_SOURCES_FILE."
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"The sources file {path} cannot be read: {error}.") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path} is not valid TOML: {error}. Mend that line.") from error
    if not tables:
        raise ConfigurationError(f"{path} names no source. Add a table such as [crm] with its keys.")
    sources = [_source(path, name, table) for name, table in tables.items()]
    _check_together(path, sources)
    return sources


def _wrong(path: Path, source: str, key: str, what: str) -> ConfigurationError:
    return ConfigurationError(f"{path}, source [{source}], key {key}: {what}")


def _source(path: Path, name: str, table: object) -> Source:
    if not isinstance(table, dict):
        raise ConfigurationError(
            f"{path}: {name} stands outside of any source. Put it below a table such as [crm]."
        )
    if not SOURCE_NAME.fullmatch(name):
        raise ConfigurationError(
            f"{path}, source [{name}]: the name takes lower-case letters, digits and _, starts with a "
            "letter, and has at most 40 characters."
        )
    for key in table:
        if key not in KEYS:
            raise _wrong(path, name, key, f"there is no such key; there are {', '.join(KEYS)}.")
    for key in REQUIRED:
        if key not in table:
            raise _wrong(path, name, key, "is missing. Add it.")

    def text(key: str, default: str | None = None) -> str | None:
        value = table.get(key, default)
        if value is not None and (not isinstance(value, str) or not value.strip() or "\0" in value):
            raise _wrong(path, name, key, f"takes a text in quotes, not {value!r}.")
        return value

    source = Source(
        name=name,
        prefix=text("prefix"),
        raw_table=text("raw_table"),
        staging_table=text("staging_table", f"stg_{name}"),
        record_id=text("record_id"),
        event_ts=text("event_ts"),
        attributes=_attributes(path, name, table["attributes"]),
        day_first=table.get("day_first", False),
        region=text("region"),
    )
    mapped = [
        source.record_id,
        source.event_ts,
        *(field for fields in source.attributes.values() for field in fields),
    ]
    for field in mapped:
        if field is not None and UNREADABLE.search(field):
            raise ConfigurationError(
                f"{path}, source [{name}]: the field {field!r} has quotes, a backslash or control characters in "
                "its name, by which fields are not found. Rename it in what is delivered."
            )
    if "_deleted" in mapped:
        raise _wrong(path, name, "_deleted", "is the field that withdraws a record. Take another.")
    if source.event_ts == source.record_id:
        raise _wrong(path, name, "event_ts", "is the record id. Leave it out where records tell no time.")
    segments = source.prefix.split("/")
    if segments[-1] or any(part in ("", ".", "..") for part in segments[:-1]) or len(source.prefix) > 500:
        raise _wrong(
            path,
            name,
            "prefix",
            f'{source.prefix!r} is no folder of the lake. Write it as "crm/" or "crm/leads/".',
        )
    if source.prefix.startswith(OWN_PREFIXES):
        raise _wrong(
            path, name, "prefix", f"the pipeline keeps {' and '.join(OWN_PREFIXES)} for itself. Take another."
        )
    for key in ("raw_table", "staging_table"):
        if not TABLE_NAME.fullmatch(getattr(source, key)):
            raise _wrong(
                path,
                name,
                key,
                "takes lower-case letters, digits and _, starts with a letter; at most 60 characters.",
            )
    if source.raw_table in OWN_RAW_TABLES:
        raise _wrong(
            path, name, "raw_table", f"{source.raw_table!r} is a table of the pipeline's own. Take another."
        )
    if not source.staging_table.startswith("stg_"):
        raise _wrong(path, name, "staging_table", f'must start with stg_, as in "stg_{name}".')
    if not isinstance(source.day_first, bool):
        raise _wrong(path, name, "day_first", "takes true or false.")
    if source.region is not None and not is_region(source.region):
        raise _wrong(path, name, "region", 'takes a country of two capital letters (ISO 3166), like "GB".')
    return source


def is_region(region: str) -> bool:
    """Whether phone numbers of this country are known."""
    from phonenumbers import SUPPORTED_REGIONS

    return region in SUPPORTED_REGIONS


def _attributes(path: Path, source: str, mapping: object) -> dict[str, tuple[str, ...]]:
    if not isinstance(mapping, dict) or not mapping:
        raise _wrong(
            path, source, "attributes", f"takes a table [{source}.attributes] with at least one attribute."
        )
    attributes = {}
    for attribute, value in mapping.items():
        key = f"attributes.{attribute}"
        if attribute not in ATTRIBUTES:
            raise _wrong(path, source, key, f"there is no such attribute; there are {', '.join(ATTRIBUTES)}.")
        fields = value if isinstance(value, list) else [value]
        if not fields or not all(
            isinstance(field, str) and field.strip() and "\0" not in field for field in fields
        ):
            raise _wrong(path, source, key, "takes the name of a field, or a list of names.")
        attributes[attribute] = tuple(fields)
    if "name" in attributes and ("given_name" in attributes or "family_name" in attributes):
        raise _wrong(
            path,
            source,
            "attributes.name",
            "stands beside given_name or family_name. Keep name, or the other two.",
        )
    return attributes


def _check_together(path: Path, sources: list[Source]) -> None:
    """No two sources may claim the same table, or objects of one another."""
    for index, source in enumerate(sources):
        for other in sources[:index]:
            for key in ("raw_table", "staging_table"):
                if getattr(source, key) == getattr(other, key):
                    raise _wrong(
                        path, source.name, key, f"is that of source [{other.name}] too. Take another."
                    )
            if source.prefix.startswith(other.prefix) or other.prefix.startswith(source.prefix):
                raise _wrong(
                    path,
                    source.name,
                    "prefix",
                    f"{source.prefix!r} and {other.prefix!r} of source [{other.name}] lie in one another. "
                    "Give each source a folder of its own.",
                )


def sync_sources(cursor: Cursor, sources: list[Source], path: Path) -> list[str]:
    """Bring raw.sources and the sources' tables up to date; returns the names of sources that changed.

    A source that is no longer in the file stays, with its data. Raises ConfigurationError where the file
    contradicts what has been taken in already.
    """
    cursor.execute(
        "select source_system, prefix, raw_table, staging_table, record_id_field, event_ts_field, "
        "attributes, day_first, region from raw.sources"
    )
    known = {
        name: Source(
            name, *rest, {key: tuple(fields) for key, fields in attributes.items()}, day_first, region
        )
        for name, *rest, attributes, day_first, region in cursor.fetchall()
    }
    _check_against_known(path, sources, known)
    changed = [source for source in sources if known.get(source.name) != source]
    # Sources may exchange their folders. No folder ends like a name.
    cursor.execute(
        "update raw.sources set prefix = source_system where source_system = any(%s)",
        ([source.name for source in changed],),
    )
    for source in changed:
        attributes = json.dumps(source.attributes, ensure_ascii=False)
        run_file(cursor, HERE / "write_source.sql", vars(source) | {"attributes": attributes})
        cursor.execute("select raw.create_source_table(%s, %s)", (source.name, source.raw_table))
        cursor.execute("select staging.create_source_table(%s)", (source.staging_table,))
    if changed:
        cursor.execute("select staging.create_identity_inputs()")
    return [source.name for source in changed]


def _check_against_known(path: Path, sources: list[Source], known: dict[str, Source]) -> None:
    """The tables of a source stay its own, and its rows keep the meaning of their record id."""
    in_file = {source.name for source in sources}
    for source in sources:
        if before := known.get(source.name):
            for key in ("raw_table", "staging_table", "record_id"):
                if getattr(source, key) != getattr(before, key):
                    raise _wrong(
                        path,
                        source.name,
                        key,
                        f"was {getattr(before, key)!r} when records were first taken in. Set it back, or "
                        "give the source another name.",
                    )
        for other in known.values():
            if other.name in in_file:
                continue
            for key in ("raw_table", "staging_table"):
                if getattr(source, key) == getattr(other, key):
                    raise _wrong(
                        path,
                        source.name,
                        key,
                        f"holds the records of source [{other.name}], which this file does not name. "
                        "Take another.",
                    )
            if source.prefix.startswith(other.prefix) or other.prefix.startswith(source.prefix):
                raise _wrong(
                    path,
                    source.name,
                    "prefix",
                    f"lies in the folder of source [{other.name}], or around it ({other.prefix!r}), which "
                    "this file does not name. Take another.",
                )
