"""A run: its steps in order, each script in a process of its own, all from one start of Python.

Each script runs in a fork of this process exactly as `python SCRIPT` would, with its own memory, which ends with
it. Forks are made AHEAD of their turn, open their connection while another is at work, and load what most phases
need, unless that ends at once, as in a run with nothing new. The first script that fails ends the run.

Usage: python db/run_phases.py "NUMBER|TITLE|SCRIPT [ARGUMENT...]"...

Steps without a NUMBER stand before the run is opened, or after it is closed.
"""

import importlib
import os
import runpy
import select
import signal
import sys
from collections import deque
from contextlib import suppress
from pathlib import Path

from db.errors import run_script
from db.phase import close_run, join_run, open_run
from db.postgres import connect_ahead
from db.settings import settings

LIBRARIES = ("polars", "pyarrow", "pgpq", "rapidfuzz", "scipy.sparse.csgraph")
# A script that works longer than this has something to do, and so will the next ones.
AT_ONCE = 0.15
AHEAD = 2


class Fork:
    """A process that runs a script when told to, and may be told to load libraries before.

    opens: whether it opens a connection while it waits.
    """

    def __init__(self, command: str, *, opens: bool = False):
        self.script, *self.arguments = command.split()
        self.is_loading = False
        sys.stdout.flush()
        sys.stderr.flush()
        (told, self.tell), (self.hear, begun) = os.pipe(), os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self.tell)
            os.close(self.hear)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            if opens:
                connect_ahead()
            self._wait_and_run(told, begun)
        os.close(told)
        os.close(begun)

    def is_to_load(self) -> bool:
        """Whether it works in columns, rather than in SQL alone, and has not been told to load libraries yet."""
        return not self.is_loading and "polars" in Path(self.script).read_text(encoding="utf-8")

    def load(self) -> None:
        """Let it load libraries while it waits."""
        self.is_loading = True
        with suppress(BrokenPipeError):
            os.write(self.tell, b"load\n")

    def begin(self, run_id: int) -> None:
        """Let it run its script, as part of a run if there is one open; returns when it does, or has been ended."""
        with suppress(BrokenPipeError):
            os.write(self.tell, b"%d\n" % run_id)
        os.close(self.tell)
        os.read(self.hear, 1)

    def ends_within(self, seconds: float) -> bool:
        """Whether it ends so soon."""
        return bool(select.select([self.hear], [], [], seconds)[0])

    def end(self) -> int:
        """Wait for its end; returns its exit code, or 128 + its signal."""
        _, status = os.waitpid(self.pid, 0)
        os.close(self.hear)
        code = os.waitstatus_to_exitcode(status)
        return code if code >= 0 else 128 - code

    def dismiss(self) -> None:
        """Let it end without a turn."""
        os.close(self.tell)
        self.end()

    def _wait_and_run(self, told: int, begun: int) -> None:
        code = 1
        try:
            run_id = 0
            with os.fdopen(told) as lines:
                for line in lines:
                    if line != "load\n":
                        run_id = int(line)
                        break
                    for library in LIBRARIES:
                        importlib.import_module(library)
                else:
                    os._exit(0)
            os.write(begun, b".")
            if run_id:
                join_run(run_id)
            sys.argv = [self.script, *self.arguments]
            if settings.mdm_quiet:
                os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            runpy.run_path(self.script, run_name="__main__")
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


def main(argv: list[str] | None = None) -> int:
    """Run the given steps; open a run before the first that has a NUMBER, close it after the last."""
    steps = [tuple(step.split("|")) for step in (sys.argv[1:] if argv is None else argv)]
    signal.signal(signal.SIGTERM, stop)
    importlib.import_module("db.lake")  # several scripts need it, at once
    last = max((place for place, (number, *_) in enumerate(steps) if number), default=-1)
    run_id, announced = 0, None
    ahead: deque[Fork] = deque()
    try:
        for place, (number, title, command) in enumerate(steps):
            if number and not run_id:
                run_id = open_run()
            if number and title != announced and not settings.mdm_quiet:
                print(f"Phase {number}: {title}", flush=True)
            announced = title
            working = ahead.popleft() if ahead else Fork(command)
            working.begin(run_id)
            for number_ahead, _, later in steps[place + 1 + len(ahead) : place + 1 + AHEAD]:
                # Before the first that has a NUMBER the stores may not answer yet, nor be meant to.
                ahead.append(Fork(later, opens=bool(number_ahead or run_id)))
            to_load = [fork for fork in ahead if fork.is_to_load()]
            if to_load and not working.ends_within(AT_ONCE):
                for fork in to_load:
                    fork.load()
            code = working.end()
            if code:
                return failed(number, working.script, code)
            if place == last:
                close_run(run_id, "done")
                run_id = 0
    finally:
        # The last first: each holds an end of the pipes of those made before it.
        while ahead:
            ahead.pop().dismiss()
        if run_id:
            close_run(run_id, "failed")
    return 0


def stop(*_: object) -> None:
    """SIGTERM ends the run as Ctrl-C does."""
    raise KeyboardInterrupt


def failed(number: str, script: str, code: int) -> int:
    """Say which phase failed and how to go on; returns the exit code of the run."""
    if code > 128:
        print(f"\n{script} was ended by signal {code - 128}.", file=sys.stderr)
    if number:
        print(
            f"\nerror: Phase {number} ({script}) failed, for the reason above. Nothing of it was kept. "
            f"Mend the cause, then go on: ./run_mdm_pipeline.sh --from {number}",
            file=sys.stderr,
        )
    return code if code in (2, 3) else 1


if __name__ == "__main__":
    run_script(main)
