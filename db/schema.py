"""Phase 0: bring the schema up to date from db/init/*.sql, without ever destroying data.

Every file is written so that it can be applied again (`if not exists`, `or replace`). A file is applied when
its text differs from the one last applied; all files and the record of them are one transaction.

Usage: python db/schema.py
"""

import argparse
import hashlib
from pathlib import Path

from psycopg2.extensions import cursor as Cursor

from db.errors import run_script
from db.phase import LOCK_NAMESPACE
from db.postgres import connect

INIT = Path(__file__).resolve().parent / "init"


def apply(cursor: Cursor, folder: Path = INIT) -> list[str]:
    """Apply the files of `folder` that changed, in order of their names; returns those names."""
    cursor.execute("select pg_advisory_xact_lock(%s, 1)", (LOCK_NAMESPACE,))
    cursor.execute("select to_regclass('gold.schema_files')")
    applied: dict[str, str] = {}
    if cursor.fetchone()[0]:
        cursor.execute("select file_name, checksum from gold.schema_files")
        applied = dict(cursor.fetchall())
    changed = []
    for path in sorted(folder.glob("[0-9]*.sql")):
        text = path.read_text(encoding="utf-8")
        checksum = hashlib.sha256(text.encode()).hexdigest()
        if applied.get(path.name) == checksum:
            continue
        cursor.execute(text)
        changed.append(path.name)
        cursor.execute(
            "insert into gold.schema_files (file_name, checksum) values (%s, %s) "
            "on conflict (file_name) do update set checksum = excluded.checksum, applied_at = now()",
            (path.name, checksum),
        )
    return changed


def main(argv: list[str] | None = None) -> int:
    """Apply what changed and say so."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args(argv)
    with connect() as connection, connection.cursor() as cursor:
        changed = apply(cursor)
    print(f"  schema: {'applied ' + ', '.join(changed) if changed else 'up to date'}")
    return 0


if __name__ == "__main__":
    run_script(main)
