"""The door to PostgreSQL: connections, SQL files and COPY."""

import io
import os
import re
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from itertools import chain
from pathlib import Path
from struct import unpack_from
from typing import TYPE_CHECKING

import psycopg2
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor
from psycopg2.sql import SQL, Composable, Composed, Identifier

from db.errors import ConfigurationError, MdmError, MissingError
from db.one_ahead import OneAhead
from db.settings import settings

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

HERE = Path(__file__).resolve().parent
# The server is of this version, or newer.
POSTGRES_VERSION = 18
# What the sessions of the pipeline are called.
APPLICATION = "mdm"
# COPY goes in pieces of so many bytes, and is encoded in pieces of so many rows.
COPY_BYTES = 1 << 20
COPY_ROWS = 1 << 13
# How PostgreSQL writes a timestamptz.
TIMESTAMP = "%Y-%m-%d %H:%M:%S%.f%#z"
# How long a statement waits for what another session has locked; a run of a transaction that someone left open for ever
# would wait as long.
LOCK_TIMEOUT = "10min"
# What the role, the database or the server may have set otherwise.
SESSION = {
    "timezone": "UTC",
    "datestyle": "ISO,MDY",
    "search_path": '"$user",public',
    "standard_conforming_strings": "on",
    "default_transaction_read_only": "off",
    "statement_timeout": "0",
    "lock_timeout": LOCK_TIMEOUT,
    # One holds the lock of a run, and does nothing else.
    "idle_session_timeout": "0",
}
# Connections that are kept for the next who asks, while nobody has them. A fork has none unless it takes them over.
_kept: list[Connection] = []
os.register_at_fork(after_in_child=_kept.clear)
# Tables that bulk_load has emptied in this transaction.
_emptied: set[str] = set()


@contextmanager
def connect() -> Iterator[Connection]:
    """A connection with the settings of SESSION: committed at the end of the block, rolled back on an error.

    Raises MissingError (no server), ConfigurationError (refused), MdmError (disk full and the like),
    each with what to do.
    """
    with explained():
        kept = _take_kept()
        connection = kept or opened()
        try:
            yield connection
            connection.commit()
        except BaseException:
            if not connection.closed:
                connection.rollback()
            raise
        finally:
            if kept and not kept.closed:
                _kept.append(kept)
            else:
                connection.close()


def keep_connections(count: int) -> None:
    """Open connections that `connect` gives to one after another, in this process and in those it hands them to.

    PostgreSQL's processes then know the catalogs and have the pages mapped, which new ones would have to learn.
    An encrypted connection, whose state is in the process, is not kept.
    """
    for _ in range(count):
        with explained():
            connection = opened()
        with connection.cursor() as cursor:
            cursor.execute(
                "select (select ssl from pg_stat_ssl where pid = pg_backend_pid()) "
                "or (select encrypted from pg_stat_gssapi where pid = pg_backend_pid())"
            )
            (is_encrypted,) = cursor.fetchone()
        connection.rollback()
        if is_encrypted:
            connection.close()
            return
        _kept.append(connection)


def kept_connections() -> tuple[Connection, ...]:
    """The connections that are kept, for a fork to take over; who forks sees to it that no two use them at once."""
    return tuple(_kept)


def take_over(connections: tuple[Connection, ...]) -> None:
    """Keep connections of the process that this one was forked from."""
    _kept.extend(connections)


def drop_connections() -> None:
    """Close the connections that are kept, whatever a fork may be doing with them."""
    while _kept:
        _kept.pop().close()


def _take_kept() -> Connection | None:
    """A connection that is kept, as if it were new; None where there is none, or it is broken."""
    if not _kept:
        return None
    connection = _kept.pop()
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("discard all")
        connection.autocommit = False
    except psycopg2.Error:
        connection.close()
        return None
    return connection


def opened() -> Connection:
    """A connection with the settings of SESSION, for who closes it."""
    return psycopg2.connect(
        user=settings.postgres_user,
        password=settings.postgres_password,
        host=settings.postgres_host,
        port=settings.postgres_port,
        dbname=settings.postgres_db,
        connect_timeout=5,
        application_name=APPLICATION,
        client_encoding="UTF8",
        options=" ".join(f"-c {name}={value}" for name, value in SESSION.items()),
    )


@contextmanager
def explained() -> Iterator[None]:
    """Turn what PostgreSQL reports into an error that says what to do."""
    where = f"{settings.postgres_host}:{settings.postgres_port}"
    try:
        yield
    except (psycopg2.errors.DiskFull, psycopg2.errors.OutOfMemory) as error:
        raise _out_of_room(where, error) from error
    except psycopg2.errors.InsufficientPrivilege as error:
        user, name = settings.postgres_user, settings.postgres_db
        raise ConfigurationError(
            f"PostgreSQL at {where} does not let the role {user!r} do this in the database {name!r}: "
            f"{_first_line(error)}. Its owner has to: grant create on database {name} to {user}; or give it away: "
            f"alter database {name} owner to {user}. Schemas that another role has made are that role's still: name "
            "that one by POSTGRES_USER in .env."
        ) from error
    except psycopg2.errors.LockNotAvailable as error:
        raise MdmError(
            f"PostgreSQL at {where} has waited {LOCK_TIMEOUT} for what another session has locked"
            f"{_who_locks()} Nothing of this phase was kept; let that session commit, or end it "
            "(select pg_terminate_backend(PROCESS)), and run again."
        ) from error
    except psycopg2.Error as error:
        if not _is_of_server(error):
            raise
        text = _first_line(error)
        # A session that cannot even begin has no SQLSTATE to tell.
        if "No space left on device" in str(error):
            raise _out_of_room(where, error) from error
        if "password authentication failed" in text or "no password supplied" in text:
            raise ConfigurationError(
                f"PostgreSQL at {where} refuses the password of {settings.postgres_user!r}. "
                "Mend POSTGRES_USER and POSTGRES_PASSWORD in .env."
            ) from error
        if "does not exist" in text:
            raise ConfigurationError(
                f"PostgreSQL at {where} says: {text}. Mend POSTGRES_DB and POSTGRES_USER."
            ) from error
        # Classes of SQLSTATE: 08 is a broken connection, 57P a server that goes; without one there was none.
        if error.pgcode and not error.pgcode.startswith(("08", "57P")):
            raise MdmError(
                f"PostgreSQL at {where} ended a statement: {text}. Nothing of this phase was kept; run again."
            ) from error
        raise MissingError(
            f"PostgreSQL does not answer at {where} ({text}). Start it with ./run_mdm_pipeline.sh up, "
            "or mend POSTGRES_HOST and POSTGRES_PORT."
        ) from error


def _out_of_room(where: str, error: psycopg2.Error) -> MdmError:
    return MdmError(
        f"PostgreSQL at {where} ran out of room: {_first_line(error)}. Nothing of this phase was kept; "
        "free some space and run again."
    )


def _is_of_server(error: psycopg2.Error) -> bool:
    """Whether it tells of the server, or of the way to it, and not of a statement."""
    # The end of a server that was copying rows out, and what is asked of a connection after it.
    return (
        isinstance(error, psycopg2.OperationalError)
        or (type(error) is psycopg2.DatabaseError and error.pgcode is None)
        or (isinstance(error, psycopg2.InterfaceError) and str(error) == "connection already closed")
    )


def _who_locks() -> str:
    """The rest of a sentence that says which sessions may be in the way."""
    strangers = []
    with suppress(psycopg2.Error), closing(opened()) as connection, connection.cursor() as cursor:
        strangers = [name for _, name in strangers_with_locks(cursor)]
    if strangers:
        return f": {', or '.join(strangers)}."
    return (
        ". Find it: select pid, application_name, xact_start from pg_stat_activity "
        "where state like 'idle in transaction%'."
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def run_file(cursor: Cursor, path: Path, parameters: dict[str, object] | None = None) -> int:
    """Run a .sql file; `%(name)s` in it are parameters. Returns the row count of its last statement."""
    cursor.execute(path.read_text(encoding="utf-8"), parameters)
    return max(cursor.rowcount, 0)


def strangers_with_locks(cursor: Cursor, namespace: int | None = None) -> list[tuple[int, str]]:
    """Sessions that are not the pipeline's and hold a lock in this database: their numbers, and how to call them.

    namespace: of advisory locks; None: a lock of a table.
    """
    # What a transaction has once read of sessions it would read again.
    cursor.execute("select pg_stat_clear_snapshot()")
    run_file(cursor, HERE / "strangers_with_locks.sql", {"application": APPLICATION, "namespace": namespace})
    return [
        (
            pid,
            f"process {pid} ({name or 'a program without a name'}{since and f', since {since:%F %T} UTC' or ''})",
        )
        for pid, name, since in cursor.fetchall()
    ]


def table_identifier(name: str) -> Identifier:
    """`schema.table` as a quoted identifier."""
    return Identifier(*name.split("."))


def is_empty(cursor: Cursor, table: str) -> bool:
    """Whether `schema.table` has no rows."""
    cursor.execute(SQL("select not exists (select from {})").format(table_identifier(table)))
    return cursor.fetchone()[0]


def estimated_rows(cursor: Cursor, table: str) -> float:
    """About how many rows `schema.table` has, as the planner believes."""
    cursor.execute("select reltuples from pg_class where oid = %s::regclass", (table,))
    return cursor.fetchone()[0]


def prefer_lookups(cursor: Cursor) -> None:
    """Have rows looked up by indexes for the rest of the transaction, where few are wanted.

    How many rows share a value, or how far a graph leads, the planner cannot know; it would read them all.
    """
    cursor.execute("set local enable_hashjoin = off; set local enable_mergejoin = off")


def page_ranges(cursor: Cursor, table: str, pages: int) -> list[tuple[str, str]]:
    """The row addresses (ctid) between which the rows of `schema.table` stand, in parts of so many pages: from the
    first up to, and without, the second."""
    cursor.execute("select pg_relation_size(%s::regclass) / 8192", (table,))
    (size,) = cursor.fetchone()
    return [(f"({first},0)", f"({first + pages},0)") for first in range(0, size + 1, pages)]


def array_text(values: "pl.Series") -> str:
    """Numbers, ids or row addresses as PostgreSQL writes an array: one word to it, where a list is one for each."""
    return "{" + ",".join(f'"{value}"' for value in values) + "}"


@contextmanager
def bulk_load(
    cursor: Cursor, *tables: str, with_keys: bool = False, leaves: Collection[str] = ()
) -> Iterator[None]:
    """Fill tables (`schema.table`); those that are empty get their secondary indexes after the rows are in.

    Building an index once is several times cheaper than keeping it row by row. An empty table that only empty ones
    refer to is truncated first, with them: what is then written in the same transaction needs no log of changes
    where wal_level is minimal, and is as durable. `with_keys`: its primary, unique and foreign keys, and those
    that refer to it, come after the rows too; for tables that are filled without looking at what they hold.
    `leaves`: the names of secondary indexes that are left to db/build_indexes.py.
    """
    definitions = []
    for table in tables:
        if not is_empty(cursor, table):
            continue
        cursor.execute(
            "select distinct format('%%s.%%s', relnamespace::regnamespace, relname) from pg_constraint "
            "inner join pg_class on conrelid = pg_class.oid "
            "where confrelid = %s::regclass and conrelid <> confrelid",
            (table,),
        )
        referring = [name for (name,) in cursor.fetchall()]
        if all(is_empty(cursor, name) for name in referring):
            together = SQL(", ").join(map(table_identifier, [table, *referring]))
            cursor.execute(SQL("truncate {}").format(together))
            _emptied.add(table)
            if with_keys:
                definitions += _drop_keys(cursor, table)
        cursor.execute(
            "select indexrelid::regclass::text, pg_get_indexdef(indexrelid) from pg_index "
            "where indrelid = %s::regclass "
            "and not exists (select 1 from pg_constraint where conindid = indexrelid) order by 1",
            (table,),
        )
        for name, definition in cursor.fetchall():
            cursor.execute(f"drop index {name}")
            name = name.rpartition(".")[2]
            if name in leaves:
                _leave_index(cursor, table, name, definition)
            else:
                definitions.append(definition)
    try:
        yield
    finally:
        _emptied.difference_update(tables)
    for definition in definitions:
        cursor.execute(definition)


def _drop_keys(cursor: Cursor, table: str) -> list[str]:
    """Drop a table's primary, unique and foreign keys, and those that refer to it; returns the statements that make
    them again."""
    cursor.execute(
        "select conrelid::regclass::text, conname, pg_get_constraintdef(oid) from pg_constraint "
        "where conrelid = %s::regclass and contype in ('p', 'u', 'f') or confrelid = %s::regclass "
        "order by contype <> 'f', contype desc, conname",
        (table, table),
    )
    keys = [(SQL(owner), Identifier(name), SQL(key)) for owner, name, key in cursor.fetchall()]
    for owner, name, _ in keys:
        cursor.execute(SQL("alter table {} drop constraint {}").format(owner, name))
    return [
        SQL("alter table {} add constraint {} {}").format(owner, name, key)
        for owner, name, key in reversed(keys)
    ]


def _leave_index(cursor: Cursor, table: str, name: str, definition: str) -> None:
    cursor.execute(
        "insert into gold.indexes_to_build (index_name, table_name, definition) values (%s, %s, %s) "
        "on conflict (index_name) do update set definition = excluded.definition",
        (f"{table.partition('.')[0]}.{name}", table, definition),
    )


def build_left_indexes(cursor: Cursor, *tables: str) -> None:
    """Build the indexes of these tables (`schema.table`) that a first load has left, if there are any; for who is to
    look rows up by them. Waits for those that another process is building."""
    cursor.execute(
        "select index_name from gold.indexes_to_build where table_name = any(%s) order by index_name for update",
        (list(tables),),
    )
    for table in sorted({build_left_index(cursor, name) for (name,) in cursor.fetchall()}):
        analyze_if_built(cursor, table)


def build_left_index(cursor: Cursor, name: str) -> str:
    """Build an index that a first load has left, unless the schema has been applied again since, and it with it.
    Returns the name of its table."""
    cursor.execute(
        "delete from gold.indexes_to_build where index_name = %s "
        "returning table_name, definition, to_regclass(index_name) is null",
        (name,),
    )
    table, definition, is_missing = cursor.fetchone()
    if is_missing:
        cursor.execute(definition)
    return table


def analyze_if_built(cursor: Cursor, table: str) -> None:
    """ANALYZE a table that a first load has filled, once all indexes that it has left are there."""
    cursor.execute("select exists (select from gold.indexes_to_build where table_name = %s)", (table,))
    if not cursor.fetchone()[0]:
        cursor.execute(SQL("analyze {}").format(table_identifier(table)))


def copy_in(cursor: Cursor, table: str, frame: "pl.DataFrame") -> int:
    """COPY a frame into `schema.table` by column name, in PostgreSQL's binary format; null is NULL.

    A column is cast to what the table's column wants: truth values, dates, times, UUIDs, JSON and enumerations
    may be given as PostgreSQL writes them. Raises polars' errors for a value that cannot be cast.

    Into a table that bulk_load has emptied rows go frozen: their first reader need not mark each page, which
    would put the page into the log.

    Memory: the frame once more, and COPY_ROWS rows of COPY's bytes.
    """
    if frame.height:
        rows = _encoded([frame], _as_wanted(cursor, table, frame))
        cursor.copy_expert(_copy_statement(table, frame), _Stream(rows), size=COPY_BYTES)
    return frame.height


def copy_in_parts(cursor: Cursor, table: str, parts: "Iterator[pl.DataFrame]") -> int:
    """As `copy_in`, of a frame that comes in parts, in one COPY: while some rows are sent, the next are made and
    encoded by a thread, which also draws the parts."""
    first = next(parts, None)
    if first is None:
        return 0
    count = 0

    def counted() -> "Iterator[pl.DataFrame]":
        nonlocal count
        for part in chain([first], parts):
            count += part.height
            yield part

    with ThreadPoolExecutor(1) as maker:
        pieces = OneAhead(maker, _encoded(counted(), _as_wanted(cursor, table, first)))
        try:
            cursor.copy_expert(_copy_statement(table, first), _Stream(pieces), size=COPY_BYTES)
        except psycopg2.errors.QueryCanceled as error:
            raise pieces.error or error from None
    return count


def _copy_statement(table: str, frame: "pl.DataFrame") -> Composed:
    columns = SQL(", ").join(map(Identifier, frame.columns))
    return SQL("copy {} ({}) from stdin (format binary, freeze {})").format(
        table_identifier(table), columns, SQL("true" if table in _emptied else "false")
    )


def _encoded(frames: "Iterable[pl.DataFrame]", wanted: "list[pl.Expr]") -> Iterator[bytes]:
    """The rows of some frames in COPY's binary format. wanted: their columns, cast to what the table's are."""
    import polars as pl
    from pgpq import ArrowToPostgresBinaryEncoder

    encoder = None
    for frame in frames:
        # Arrow's plain types are those that the encoder knows.
        rows = frame.select(wanted).to_arrow(compat_level=pl.CompatLevel.oldest())
        if encoder is None:
            encoder = ArrowToPostgresBinaryEncoder(rows.schema)
            yield encoder.write_header()
        for batch in rows.to_batches(max_chunksize=COPY_ROWS):
            yield encoder.write_batch(batch)
    yield encoder.finish()


def _as_wanted(cursor: Cursor, table: str, frame: "pl.DataFrame") -> "list[pl.Expr]":
    """The frame's columns cast to what those of the table are."""
    import polars as pl

    plain = {
        "int2": pl.Int16,
        "int4": pl.Int32,
        "int8": pl.Int64,
        "float4": pl.Float32,
        "float8": pl.Float64,
        "bool": pl.Boolean,
        "_text": pl.List(pl.String),
        "_int4": pl.List(pl.Int32),
        "_int8": pl.List(pl.Int64),
    }
    cursor.execute(
        "select attname, typname from pg_attribute inner join pg_type on atttypid = pg_type.oid "
        "where attrelid = %s::regclass and attnum > 0 and not attisdropped",
        (table,),
    )
    wanted = dict(cursor.fetchall())
    expressions = []
    for name, given in frame.schema.items():
        column, kind = pl.col(name), wanted[name]
        if kind == "bool" and given == pl.String:
            column = column.is_in(["t", "true"])
        elif kind in plain:
            column = column.cast(plain[kind])
        elif kind == "date":
            column = column.str.to_date("%Y-%m-%d") if given == pl.String else column.cast(pl.Date)
        elif kind == "timestamptz":
            column = column.str.to_datetime(TIMESTAMP, time_zone="UTC") if given == pl.String else column
            column = column.cast(pl.Datetime("us", "UTC"))
        elif kind == "jsonb":
            # The version of the binary format, then the text.
            column = "\x01" + column.cast(pl.String)
        elif kind == "uuid" and given == pl.String:
            column = uuid_bytes(name)
        elif kind not in ("uuid", "bytea"):
            column = column.cast(pl.String)
        expressions.append(column)
    return expressions


def uuid_bytes(column: str) -> "pl.Expr":
    """A column of UUIDs as text in the form COPY sends them."""
    import polars as pl

    return pl.col(column).str.replace_all("-", "", literal=True).str.decode("hex")


class _Stream(io.RawIOBase):
    """An iterator of bytes as a file to read from."""

    def __init__(self, parts: Iterator[bytes]):
        self.parts, self.rest = parts, memoryview(b"")

    def read(self, size: int = -1) -> bytes:
        """The next bytes, at most `size`; none at the end."""
        while not self.rest:
            part = next(self.parts, None)
            if part is None:
                return b""
            self.rest = memoryview(part)
        read, self.rest = self.rest[:size], self.rest[size:]
        return bytes(read)


def copy_out(
    cursor: Cursor, query: str | Composable, schema: dict[str, "pl.DataType"], parameters: object = None
) -> "pl.DataFrame":
    """The rows of a query as a frame of the given columns and types, by COPY.

    Memory: the CSV text and the frame stand side by side for a moment.
    """
    import polars as pl

    buffer = _copied(cursor, query, parameters, "csv")
    if buffer.tell() == 0:
        return pl.DataFrame(schema=schema)
    buffer.seek(0)
    return pl.read_csv(
        buffer, has_header=False, new_columns=list(schema), schema_overrides=schema, schema=schema
    )


def copy_out_numbers(
    cursor: Cursor, query: str | Composable, schema: dict[str, "pl.DataType"], parameters: object = None
) -> "pl.DataFrame":
    """As `copy_out`, of numbers none of which is null, in a third of its time: by COPY's binary format.

    The types must be those of the query's columns (int2, int4, int8, float4, float8, bool; Int64 for a
    timestamptz, which comes as microseconds from 2000 on). Raises ValueError where they are not, or where there
    is a null.
    """
    import numpy as np
    import polars as pl

    buffer = _copied(cursor, query, parameters, "binary")
    wire = {name: _on_the_wire(kind) for name, kind in schema.items()}
    fields = [("field_count", ">i2")]
    for name, kind in wire.items():
        fields += [(f"{name} length", ">i4"), (name, kind)]
    row = np.dtype(fields)
    # The header is 19 bytes, the trailer a field count of -1.
    count, rest = divmod(buffer.tell() - 21, row.itemsize)
    rows = np.frombuffer(buffer.getbuffer(), row, count=count, offset=19)
    if rest or any((rows[f"{name} length"] != kind.itemsize).any() for name, kind in wire.items()):
        raise ValueError(f"the columns {', '.join(schema)} are of other types, or one is null")
    return pl.DataFrame(
        {name: rows[name].astype(kind.newbyteorder("=")) for name, kind in wire.items()}, schema=schema
    )


def copy_out_lists(
    cursor: Cursor, query: str | Composable, schema: dict[str, "pl.DataType"], parameters: object = None
) -> "pl.DataFrame":
    """The elements of a query's columns, which are arrays of numbers: those of its first row, of its second and so on.

    The arrays of a row are equally long and hold no null. The types must be those of their elements, as for
    `copy_out_numbers`. Raises ValueError where they are not.
    """
    import numpy as np
    import polars as pl

    buffer = _copied(cursor, query, parameters, "binary")
    wire = {
        name: np.dtype([("length", ">i4"), ("value", _on_the_wire(kind))]) for name, kind in schema.items()
    }
    found = {name: [np.empty(0, element["value"])] for name, element in wire.items()}
    rows = buffer.getbuffer()
    # The header; the trailer is a field count of -1.
    place = 19
    while unpack_from(">h", rows, place) != (-1,):
        place += 2
        for name, element in wire.items():
            size, dimensions = unpack_from(">ii", rows, place)
            # Of an array: dimensions, whether there is a null, type; of its dimension: elements, first number.
            count = unpack_from(">i", rows, place + 16)[0] if dimensions else 0
            elements = np.frombuffer(rows, element, count, place + 24 if dimensions else 0)
            if (elements["length"] != element["value"].itemsize).any():
                raise ValueError(f"the elements of {name} are of another type, or one is null")
            found[name].append(elements["value"])
            place += 4 + size
    return pl.DataFrame(
        {
            name: np.concatenate(parts, dtype=wire[name]["value"].newbyteorder("="))
            for name, parts in found.items()
        },
        schema=schema,
    )


def _on_the_wire(kind: "pl.DataType") -> "np.dtype":
    """How COPY's binary format writes numbers of a type."""
    import polars as pl

    return pl.Series(dtype=kind).to_numpy().dtype.newbyteorder(">")


def copy_out_lines(cursor: Cursor, query: str | Composable, parameters: object = None) -> bytes:
    """The only column of a query, of JSON without line ends in its texts, one value per line."""
    lines = _copied(cursor, query, parameters, "text").getvalue()
    if b"\\" not in lines:
        return lines
    # COPY doubles backslashes and writes control characters as letters behind one; no text holds a NUL.
    # Outside of JSON's texts a control character is but white space.
    return re.sub(rb"\\.", b" ", lines.replace(b"\\\\", b"\0")).replace(b"\0", b"\\")


def _copied(cursor: Cursor, query: str | Composable, parameters: object, form: str) -> io.BytesIO:
    """What COPY gives of a query in a format, read to its end."""
    buffer = io.BytesIO()
    text = cursor.mogrify(query, parameters).decode()
    cursor.copy_expert(f"copy ({text}) to stdout (format {form})", buffer, size=COPY_BYTES)
    return buffer
