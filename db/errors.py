"""Errors a user can act on, and the one place where they become an exit code."""

import sys
from collections.abc import Callable


class MdmError(Exception):
    """A phase failed; the message says what is wrong and what to do."""

    exit_code = 1


class ConfigurationError(MdmError):
    """Settings, a configuration file or arguments are wrong."""

    exit_code = 2


class MissingError(MdmError):
    """Something the work needs is not there: a store, a program, a file."""

    exit_code = 3


class Busy(MdmError):
    """Another run holds the pipeline."""


def run_script(main: Callable[[], int | None]) -> None:
    """Run a script's main and exit: 0 done, 1 failed, 2 configuration, 3 missing, 130 interrupted.

    A user's error is printed as a short paragraph; a traceback is left for what is our own mistake.
    """
    try:
        code = main() or 0
    except MdmError as error:
        print(f"\nerror: {error}", file=sys.stderr)
        code = error.exit_code
    except KeyboardInterrupt:
        print("\ninterrupted: nothing half-done is kept; run again to go on", file=sys.stderr)
        code = 130
    sys.exit(code)
