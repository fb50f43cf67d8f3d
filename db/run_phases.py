"""A run: its steps in order, each script in a process of its own, all from one start of Python.

Each script runs in a fork of this process exactly as `python SCRIPT` would, with its own memory, which ends with
it. Forks are made AHEAD of their turn and open their connection while another is at work. Once a script says that
it has work, this process loads what most phases need, so that those to come need not; a run with nothing new
loads nothing. The first script that fails ends the run.

Usage: python db/run_phases.py "NUMBER|TITLE|SCRIPT [ARGUMENT...]"...

Steps without a NUMBER stand before the run is opened, or after it is closed. A step with the NUMBER + goes on
beside those after it; the run ends when it has.
"""

import argparse
import ast
import importlib
import os
import runpy
import select
import signal
import sys
import warnings
from collections import deque
from contextlib import suppress
from pathlib import Path

from db.errors import NOBODY_READS, run_script
from db.phase import close_run, hold_run, join_run, let_go_of_run, open_run
from db.postgres import drop_connections, keep_connections, kept_connections, take_over
from db.settings import flags_given, settings

# In the order in which the phases need them; what takes long in parts, for who is told to begin waits for one.
LIBRARIES = (
    "polars",
    "pyarrow",
    "pyarrow.compute",
    "pgpq",
    "phonenumbers",
    "nicknames",
    "rapidfuzz",
    "numpy.ma",
    "numpy.f2py",
    "scipy.sparse",
    "scipy.sparse.csgraph",
)
AHEAD = 2
BESIDE = "+"
# Kept for a run: a phase has one of its own, and many read by another.
CONNECTIONS = 2
BEGUN, HAS_WORK, ENDED = b".", b"+", b"="

# A step: its number, its title, its script with the arguments.
Step = tuple[str, str, str]


class Fork:
    """A process that runs a script when told to.

    code: its exit code, or 128 + its signal, once it is known.
    """

    def __init__(self, command: str, *, has_time: bool = False):
        """has_time: to load what the script imports once it has work."""
        self.script, *self.arguments = command.split()
        self.code: int | None = None
        sys.stdout.flush()
        sys.stderr.flush()
        (told, self.tell), (self.hear, says) = os.pipe(), os.pipe()
        kept = kept_connections()
        held = HeldSignals()
        with warnings.catch_warnings():
            # Python warns of threads. Those of the libraries sleep: nothing is computed in this process.
            warnings.simplefilter("ignore", DeprecationWarning)
            self.pid = os.fork()
        if self.pid == 0:
            os.close(self.tell)
            os.close(self.hear)
            held.handlers[signal.SIGTERM] = signal.SIG_DFL
            self._wait_and_run(told, says, kept, held, has_time)
        os.close(told)
        os.close(says)
        try:
            held.let_go()
        except KeyboardInterrupt:
            self.dismiss()
            raise

    def begin(self, run_id: int, *, alone: bool = True) -> None:
        """Let it run its script, as part of a run if there is one open; returns when it does, or has been ended.

        alone: nobody else is at work; it may have the connections that are kept.
        """
        with suppress(BrokenPipeError):
            os.write(self.tell, b"%d %d" % (run_id, alone))
        os.close(self.tell)
        self._hear()

    def has_work(self) -> bool:
        """Whether it says that it has work before it ends; waits for the one or the other."""
        return self._hear() == HAS_WORK

    def has_ended(self) -> bool:
        """Whether it has ended, or is about to."""
        return self.code is not None or bool(select.select([self.hear], [], [], 0)[0]) and not self._hear()

    def end(self) -> int:
        """Wait until its script has ended; returns its exit code, or 128 + its signal."""
        while self.code is None:
            self._hear()
        os.close(self.hear)
        return self.code

    def dismiss(self) -> None:
        """Let it end without a turn."""
        os.close(self.tell)
        self.end()

    def stop(self) -> None:
        """End it in the middle of its work."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)
        self.end()

    def _hear(self) -> bytes:
        """The next that it says, nothing at its end. It says its code itself: the process may take longer to go."""
        if self.code is not None:
            return b""
        said = os.read(self.hear, 1)
        if said == ENDED:
            (self.code,) = os.read(self.hear, 1)
            return b""
        if not said:
            _, status = os.waitpid(self.pid, 0)
            code = os.waitstatus_to_exitcode(status)
            self.code = code if code >= 0 else 128 - code
        return said

    def _wait_and_run(self, told: int, says: int, kept: tuple, held: "HeldSignals", has_time: bool) -> None:
        def say(what: bytes) -> None:
            # Nobody may be there any more to hear it.
            with suppress(BrokenPipeError):
                os.write(says, what)

        code = 1
        try:
            held.let_go()
            if has_time:
                import_ahead(self.script)
            run = os.read(told, 32)
            if not run:
                os._exit(0)
            os.write(says, BEGUN)
            run_id, alone = map(int, run.split())
            if alone:
                take_over(kept)
            join_run(run_id, lambda: say(HAS_WORK))
            sys.argv = [self.script, *self.arguments]
            if settings.mdm_quiet:
                os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            runpy.run_path(self.script, run_name="__main__")
            code = 0
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        except KeyboardInterrupt:
            # Before its script was there to say so.
            code = 128 + signal.SIGINT
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            try:
                sys.stdout.flush()
                sys.stderr.flush()
                say(ENDED + bytes([code & 255]))
            finally:
                os._exit(code)


class HeldSignals:
    """SIGINT and SIGTERM, from here until they are let go; what comes meanwhile takes effect then.

    An exception that a handler raises in what Python and its libraries do around a fork is lost, and so is what comes
    to the fork before Python is ready in it: hence the mask. Threads of the libraries do not have that: hence handlers.
    """

    def __init__(self) -> None:
        self.came: list[int] = []
        self.handlers = {
            number: signal.signal(number, lambda number, _: self.came.append(number))
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        self.mask = signal.pthread_sigmask(signal.SIG_BLOCK, self.handlers)

    def let_go(self) -> None:
        """Set the handlers that were there; they are called for what came."""
        for number, handler in self.handlers.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, self.mask)
        for number in self.came:
            signal.raise_signal(number)


class Ahead:
    """The forks made ahead of their turn, and the libraries that are still to be loaded for those to come."""

    def __init__(self) -> None:
        self.forks: deque[Fork] = deque()
        self.to_load: deque[str] | None = None  # None: nobody has said yet that there is work

    def next(self, command: str) -> Fork:
        """The process of the step whose turn it is."""
        return self.forks.popleft() if self.forks else Fork(command)

    def get_ready(self, working: Fork, later: list[Step], is_open: bool) -> None:
        """Prepare for the steps to come while one is at work. is_open: whether there is a run open."""
        self._make_forks(later, is_open)
        loads = any(works_in_columns(command) for _, _, command in later)
        if self.to_load is None and loads and working.has_work():
            self.to_load = deque(LIBRARIES)
            self.dismiss()
        while self.to_load and loads and not working.has_ended():
            importlib.import_module(self.to_load.popleft())
        self._make_forks(later, is_open)

    def _make_forks(self, later: list[Step], is_open: bool) -> None:
        for number, _, command in later[len(self.forks) : AHEAD]:
            if number and not is_open:
                break  # it would not have the connections that are kept for the run
            self.forks.append(Fork(command, has_time=self.to_load is not None))

    def dismiss(self) -> None:
        """Let all end without a turn; the last first: each holds an end of the pipes of those made before it."""
        while self.forks:
            self.forks.pop().dismiss()


def import_ahead(script: str) -> None:
    """Import what a script imports within its functions. What is wrong with it, or with them, it will say itself."""
    with suppress(Exception):
        for node in ast.walk(ast.parse(Path(script).read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.col_offset:
                with suppress(Exception):
                    importlib.import_module(node.module)


def works_in_columns(command: str) -> bool:
    """Whether a script works in columns, rather than in SQL alone."""
    return "polars" in Path(command.split()[0]).read_text(encoding="utf-8")


def main(argv: list[str] | None = None) -> int:
    """Run the given steps; open a run before the first that has a NUMBER, close it after the last."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("steps", nargs="+", metavar="NUMBER|TITLE|SCRIPT")
    steps = [tuple(step.split("|")) for step in parser.parse_args(argv).steps]
    if any(len(step) != 3 or not step[2].strip() for step in steps):
        parser.error("a step has three parts, with a bar between them")
    signal.signal(signal.SIGTERM, stop)
    importlib.import_module("db.lake")  # several scripts need it, at once
    last = max((place for place, (number, *_) in enumerate(steps) if number), default=-1)
    run_id, announced = 0, None
    ahead, beside = Ahead(), []
    try:
        for place, (number, title, command) in enumerate(steps):
            if number and not run_id:
                hold_run()
                keep_connections(CONNECTIONS)
                run_id = open_run()
            working = ahead.next(command)
            if number == BESIDE:
                beside.append(working)
                working.begin(run_id, alone=False)
            else:
                if number and title != announced and not settings.mdm_quiet:
                    print(f"Phase {number}: {title}", flush=True)
                announced = title
                working.begin(run_id)
                ahead.get_ready(working, steps[place + 1 :], bool(run_id))
                if code := working.end():
                    return failed(number, working.script, code)
            if place == last:
                while beside:
                    working = beside.pop()
                    if code := working.end():
                        return failed("", working.script, code)
                close_run(run_id, "done")
                let_go_of_run()
                run_id = 0
    finally:
        ahead.dismiss()
        for working in beside:
            working.stop()
        drop_connections()
        if run_id:
            close_run(run_id, "failed")
        let_go_of_run()
    return 0


def stop(*_: object) -> None:
    """SIGTERM ends the run as Ctrl-C does."""
    raise KeyboardInterrupt


def failed(number: str, script: str, code: int) -> int:
    """Say which phase failed and how to go on; returns the exit code of the run."""
    if code == NOBODY_READS:
        return code
    if code > 128:
        print(f"\n{script} was ended by signal {code - 128}.", file=sys.stderr)
    if number:
        print(
            f"\nerror: Phase {number} ({script}) failed, for the reason above. Nothing of it was kept. "
            f"Mend the cause, then go on: ./run_mdm_pipeline.sh --from {number}{flags_given()}",
            file=sys.stderr,
        )
    return code if code in (2, 3) else 1


if __name__ == "__main__":
    try:
        run_script(main)
    except SystemExit as ended:
        # All is done: what the libraries hold need not be taken down piece by piece.
        with suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(ended.code)
