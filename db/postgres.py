"""The door to PostgreSQL: the engine, connections, SQL files and COPY."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg2
import sqlalchemy
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor
from psycopg2.sql import SQL, Composable, Identifier

from db.errors import ConfigurationError, MdmError, MissingError
from db.settings import settings

if TYPE_CHECKING:
    import polars as pl


@cache
def engine() -> sqlalchemy.Engine:
    """The engine of the settings; connections are UTC and name this application."""
    url = sqlalchemy.URL.create(
        "postgresql+psycopg2",
        username=settings.postgres_user,
        password=settings.postgres_password,
        host=settings.postgres_host,
        port=settings.postgres_port,
        database=settings.postgres_db,
    )
    return sqlalchemy.create_engine(
        url,
        poolclass=sqlalchemy.NullPool,
        # connect() has ended the transaction; of a server that is gone this would print a traceback.
        pool_reset_on_return=None,
        connect_args={"connect_timeout": 5, "application_name": "mdm", "options": "-c timezone=UTC"},
    )


@contextmanager
def connect() -> Iterator[Connection]:
    """A psycopg2 connection: committed at the end of the block, rolled back on an error.

    Raises MissingError (no server), ConfigurationError (refused), MdmError (disk full and the like),
    each with what to do.
    """
    with explained():
        proxy = engine().raw_connection()
        try:
            yield proxy.driver_connection
            proxy.commit()
        except BaseException:
            if not proxy.driver_connection.closed:
                proxy.rollback()
            raise
        finally:
            proxy.close()


@contextmanager
def explained() -> Iterator[None]:
    """Turn what PostgreSQL reports into an error that says what to do."""
    where = f"{settings.postgres_host}:{settings.postgres_port}"
    try:
        yield
    except (psycopg2.errors.DiskFull, psycopg2.errors.OutOfMemory) as error:
        raise MdmError(
            f"PostgreSQL at {where} ran out of room: {_first_line(error)}. Nothing of this phase was kept; "
            "free some space and run again."
        ) from error
    except (psycopg2.OperationalError, sqlalchemy.exc.OperationalError) as error:
        text = _first_line(error)
        if "password authentication failed" in text or "no password supplied" in text:
            raise ConfigurationError(
                f"PostgreSQL at {where} refuses the password of {settings.postgres_user!r}. "
                "Mend POSTGRES_USER and POSTGRES_PASSWORD in .env."
            ) from error
        if "does not exist" in text:
            raise ConfigurationError(
                f"PostgreSQL at {where} says: {text}. Mend POSTGRES_DB and POSTGRES_USER."
            ) from error
        raise MissingError(
            f"PostgreSQL does not answer at {where} ({text}). Start it with ./run_mdm_pipeline.sh up, "
            "or mend POSTGRES_HOST and POSTGRES_PORT."
        ) from error


def _first_line(error: Exception) -> str:
    return (str(getattr(error, "orig", error)).strip().splitlines() or [type(error).__name__])[0]


def run_file(cursor: Cursor, path: Path, parameters: dict[str, object] | None = None) -> int:
    """Run a .sql file; `%(name)s` in it are parameters. Returns the row count of its last statement."""
    cursor.execute(path.read_text(encoding="utf-8"), parameters)
    return max(cursor.rowcount, 0)


def table_identifier(name: str) -> Identifier:
    """`schema.table` as a quoted identifier."""
    return Identifier(*name.split("."))


@contextmanager
def bulk_load(cursor: Cursor, *tables: str) -> Iterator[None]:
    """Fill tables (`schema.table`); those that are empty get their secondary indexes after the rows are in.

    Building an index once is several times cheaper than keeping it row by row. An empty table that nothing
    refers to is truncated first: what is then written in the same transaction needs no log of changes where
    wal_level is minimal, and is as durable. Indexes behind constraints stay.
    """
    definitions = []
    for table in tables:
        cursor.execute(SQL("select exists (select 1 from {})").format(table_identifier(table)))
        if cursor.fetchone()[0]:
            continue
        cursor.execute(
            "select not exists (select 1 from pg_constraint where confrelid = %s::regclass)", (table,)
        )
        if cursor.fetchone()[0]:
            cursor.execute(SQL("truncate {}").format(table_identifier(table)))
        cursor.execute(
            "select indexrelid::regclass::text, pg_get_indexdef(indexrelid) from pg_index "
            "where indrelid = %s::regclass "
            "and not exists (select 1 from pg_constraint where conindid = indexrelid) order by 1",
            (table,),
        )
        for name, definition in cursor.fetchall():
            definitions.append(definition)
            cursor.execute(f"drop index {name}")
    yield
    for definition in definitions:
        cursor.execute(definition)


def copy_in(cursor: Cursor, table: str, frame: "pl.DataFrame") -> int:
    """COPY a frame into `schema.table` by column name. Nulls are NULL, empty strings stay empty strings."""
    if frame.height == 0:
        return 0
    buffer = io.BytesIO()
    frame.write_csv(buffer, include_header=False, quote_style="necessary", null_value="")
    buffer.seek(0)
    columns = SQL(", ").join(map(Identifier, frame.columns))
    statement = SQL("copy {} ({}) from stdin (format csv)").format(table_identifier(table), columns)
    cursor.copy_expert(statement, buffer)
    return frame.height


def copy_out(
    cursor: Cursor, query: str | Composable, schema: dict[str, "pl.DataType"], parameters: object = None
) -> "pl.DataFrame":
    """The rows of a query as a frame of the given columns and types, by COPY.

    Memory: the CSV text and the frame stand side by side for a moment.
    """
    import polars as pl

    buffer = io.BytesIO()
    text = cursor.mogrify(query, parameters).decode()
    cursor.copy_expert(f"copy ({text}) to stdout (format csv)", buffer)
    if buffer.tell() == 0:
        return pl.DataFrame(schema=schema)
    buffer.seek(0)
    return pl.read_csv(
        buffer, has_header=False, new_columns=list(schema), schema_overrides=schema, schema=schema
    )
