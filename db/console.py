"""psql with the right credentials: the system's, unless it is older than the server; else the one that comes with the
embedded PostgreSQL.

Usage: python db/console.py [PSQL ARGUMENTS...]
"""

import os
import re
import shutil
import socket
import subprocess
import sys

from db.embedded import packaged_psql
from db.errors import MissingError, run_script
from db.postgres import POSTGRES_VERSION
from db.settings import settings


def main() -> None:
    """Become psql; the password goes by the environment, never by the command line."""
    try:
        socket.create_connection((settings.postgres_host, settings.postgres_port), timeout=5).close()
    except OSError as error:
        raise MissingError(
            f"PostgreSQL does not answer at {settings.postgres_host}:{settings.postgres_port}. "
            "Start it: ./run_mdm_pipeline.sh up"
        ) from error
    program = shutil.which("psql")
    # The catalogs that an older one asks, as for \l, have changed.
    if not program or version(program) < POSTGRES_VERSION:
        program = str(packaged_psql())
    # A script stops at its first error; someone at a terminal goes on.
    strict = [] if sys.stdin.isatty() else ["--set=ON_ERROR_STOP=1"]
    os.environ |= {
        "PGHOST": settings.postgres_host,
        "PGPORT": str(settings.postgres_port),
        "PGUSER": settings.postgres_user,
        "PGPASSWORD": settings.postgres_password,
        "PGDATABASE": settings.postgres_db,
        "PGTZ": "UTC",
    }
    os.execv(program, [program, *strict, *sys.argv[1:]])


def version(program: str) -> int:
    """The major version of a psql; 0 where it tells none."""
    try:
        told = subprocess.run([program, "--version"], capture_output=True, text=True).stdout
    except OSError:
        return 0
    found = re.search(r"\d+", told)
    return int(found[0]) if found else 0


if __name__ == "__main__":
    run_script(main)
