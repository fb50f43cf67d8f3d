"""Errors a user can act on, and the one place where they become an exit code."""

import os
import select
import signal
import sys
from collections.abc import Callable

# The exit code of who was ended by SIGPIPE.
NOBODY_READS = 128 + signal.SIGPIPE


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

    A user's error is printed as a short paragraph; a traceback is left for what is our own mistake. Where nobody
    reads on (`| head`), it ends as by SIGPIPE, quietly.
    """
    try:
        code = main() or 0
        sys.stdout.flush()
    except MdmError as error:
        print(f"\nerror: {error}", file=sys.stderr)
        code = error.exit_code
    except KeyboardInterrupt:
        print("\ninterrupted: nothing half-done is kept; run again to go on", file=sys.stderr)
        code = 130
    except BrokenPipeError:
        if not _nobody_reads():
            raise
        # What is left to be printed goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = NOBODY_READS
    sys.exit(code)


def _nobody_reads() -> bool:
    """Whether the standard output is a pipe whose reader has gone."""
    asked = select.poll()
    asked.register(sys.stdout.fileno(), 0)
    return any(event & select.POLLERR for _, event in asked.poll(0))
