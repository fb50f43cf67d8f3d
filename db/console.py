"""psql with the right credentials: the system's, or the one that comes with the embedded PostgreSQL.

Usage: python db/console.py [PSQL ARGUMENTS...]
"""

import os
import shutil
import socket
import sys

from db.embedded import packaged_psql
from db.errors import MissingError, run_script
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
    program = shutil.which("psql") or str(packaged_psql())
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


if __name__ == "__main__":
    run_script(main)
