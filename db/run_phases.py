"""A run: its phases in order, each script in a process of its own, all from one start of Python.

Libraries that every phase needs are loaded once; each script then runs in a fork of this process exactly as
`python SCRIPT` would, with its own memory, which ends with it. The first that fails ends the run.

Usage: python db/run_phases.py "NUMBER|TITLE|SCRIPT [ARGUMENT...]"...
"""

import os
import runpy
import signal
import sys

from db.errors import run_script
from db.phase import close_run, join_run, open_run
from db.settings import settings


def main(argv: list[str] | None = None) -> int:
    """Open a run, run the given steps, close it. A step without a NUMBER comes after the run is closed."""
    steps = [tuple(step.split("|")) for step in (sys.argv[1:] if argv is None else argv)]
    run_id = open_run()
    join_run(run_id)
    signal.signal(signal.SIGTERM, stop)
    announced, is_open = None, True
    try:
        for number, title, command in steps:
            script, *arguments = command.split()
            if number and title != announced and not settings.mdm_quiet:
                print(f"Phase {number}: {title}", flush=True)
            announced = title
            if not number and is_open:
                close_run(run_id, "done")
                is_open = False
            code = run_in_fork(script, arguments)
            if code:
                return failed(number, script, code)
        if is_open:
            close_run(run_id, "done")
            is_open = False
    finally:
        if is_open:
            close_run(run_id, "failed")
    return 0


def stop(*_: object) -> None:
    """SIGTERM ends the run as Ctrl-C does."""
    raise KeyboardInterrupt


def run_in_fork(script: str, arguments: list[str]) -> int:
    """Run a script as `python SCRIPT ARGUMENTS` would; returns its exit code, or 128 + its signal."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        code = 1
        try:
            sys.argv = [script, *arguments]
            if settings.mdm_quiet:
                os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            runpy.run_path(script, run_name="__main__")
            code = 0
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            try:
                sys.stdout.flush()
                sys.stderr.flush()
            finally:
                os._exit(code)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def failed(number: str, script: str, code: int) -> int:
    """Say which phase failed and how to go on; returns the exit code of the run."""
    if code > 128:
        print(f"\n{script} was ended by signal {code - 128}.", file=sys.stderr)
    print(
        f"\nerror: Phase {number} ({script}) failed, for the reason above. Nothing of it was kept. "
        f"Mend the cause, then go on: ./run_mdm_pipeline.sh --from {number}",
        file=sys.stderr,
    )
    return code if code in (2, 3) else 1


if __name__ == "__main__":
    run_script(main)
