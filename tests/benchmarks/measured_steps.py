"""A command measured from outside, step by step: seconds, processor time, memory, bytes written.

A step begins where the command prints a line `Phase NAME: TITLE`; what comes before the first is the step
`start`. Nothing of the command is changed: its processes and the server's are read from /proc (Linux).

- Processor time and bytes written are exact at the borders of steps: what a process that ended has used is
  counted at its parent.
- Memory is sampled: for the command the sum of its processes' proportional shares (PSS), for the server the
  private memory of all its processes and, once, the shared memory. To tell shares the kernel goes through all pages
  of a process, five times a second some 3% of two cores at a million records; so they are told when a process has come
  or gone, and between that follow what is private, which the kernel counts anyway.
"""

import os
import re
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread

SAMPLE_SECONDS = 0.2
STEP_LINE = re.compile(r"^Phase (\S+): (.*)$")
# A script's last word: "  run_staging: 30 in, 30 out, 1.23 s"
SCRIPT_LINE = re.compile(r"^  \w+: .*?([\d.]+) s$")
IMPORT_LINE = re.compile(r"^import time: +(\d+) \| +(\d+) \| ( *)(\S+)$")
PROC = Path("/proc")
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Step:
    """One step: seconds of the clock, of processors; bytes of memory at its peak, and written."""

    name: str
    title: str = ""
    seconds: float = 0.0
    scripts_seconds: float | None = None  # as its scripts say themselves: without start-up and imports
    client_cpu_seconds: float = 0.0
    server_cpu_seconds: float = 0.0
    client_memory: int = 0
    server_private_memory: int = 0
    server_shared_memory: int = 0
    wal_bytes: int = 0
    client_written_bytes: int = 0
    server_written_bytes: int = 0
    rows_in: int = 0
    rows_out: int = 0
    python_starts: int = 0
    import_seconds: float = 0.0
    imports: dict[str, float] = field(default_factory=dict)  # top-level package: seconds
    statements: list[dict] = field(default_factory=list)

    @property
    def server_memory(self) -> int:
        """Peak bytes of the server, private and shared."""
        return self.server_private_memory + self.server_shared_memory


class ProcessTree:
    """A process and all that came of it."""

    def __init__(self, root: int):
        self.root = root

    def pids(self) -> list[int]:
        """All live processes of the tree."""
        found = [self.root]
        for pid in found:
            with suppress(OSError):
                for task in (PROC / str(pid) / "task").iterdir():
                    with suppress(OSError):
                        found.extend(map(int, (task / "children").read_text().split()))
        return found

    def cpu_seconds(self) -> float:
        """Processor time of the tree, of processes that have ended too."""
        ticks = 0
        for pid in self.pids():
            with suppress(OSError):
                # The program's name, in brackets, may hold blanks.
                fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
                ticks += sum(map(int, fields[11:15]))
        return ticks / TICKS

    def written_bytes(self) -> int:
        """Bytes the tree has caused to be written to disk, processes that have ended included."""
        return sum(_values(pid, "io").get("write_bytes", 0) for pid in self.pids())


def proportional_memory(pids: list[int]) -> int:
    """Bytes of memory of some processes, what is shared counted in proportion."""
    return sum(_values(pid, "smaps_rollup").get("Pss", 0) for pid in pids)


def private_and_shared_memory(pids: list[int]) -> tuple[int, int]:
    """Bytes of private memory of some processes, and of the shared memory that one has touched most of."""
    status = [_values(pid, "status") for pid in pids]
    return (
        sum(values.get("RssAnon", 0) for values in status),
        max((values.get("RssShmem", 0) for values in status), default=0),
    )


def _values(pid: int, file: str) -> dict[str, int]:
    """`name: number [kB]` lines of a file of /proc, in bytes; empty when the process has gone."""
    values = {}
    with suppress(OSError):
        for line in (PROC / str(pid) / file).read_text().splitlines():
            name, _, rest = line.partition(":")
            words = rest.split()
            if words and words[0].isdecimal():
                values[name] = int(words[0]) * (1024 if words[-1] == "kB" else 1)
    return values


class Meter:
    """Readings of a command and, where it has one, its server; gives them to the step at work."""

    def __init__(self, client: ProcessTree, server: ProcessTree | None, wal_position: Callable[[], int]):
        self.client, self.server, self.wal_position = client, server, wal_position
        self.step = Step("start")
        self.before = self._readings()
        self.ended = Event()
        self.sampler = Thread(target=self._sample, daemon=True)
        self.sampler.start()

    def next_step(self, name: str, title: str) -> Step:
        """Close the step at work and begin another; returns the closed one."""
        closed, self.step = self.step, Step(name, title)
        now = self._readings()
        for reading, value in now.items():
            # What a dying process has used can be missing for a moment.
            setattr(closed, reading, max(value - self.before[reading], 0))
        self.before = now
        return closed

    def stop(self) -> None:
        """End the sampling of memory."""
        self.ended.set()
        self.sampler.join()

    def _readings(self) -> dict[str, float]:
        readings = {
            "seconds": time.perf_counter(),
            "client_cpu_seconds": self.client.cpu_seconds(),
            "client_written_bytes": self.client.written_bytes(),
        }
        if self.server:
            readings |= {
                "server_cpu_seconds": self.server.cpu_seconds(),
                "server_written_bytes": self.server.written_bytes(),
                "wal_bytes": self.wal_position(),
            }
        return readings

    def _sample(self) -> None:
        known, beside_private = [], 0
        while not self.ended.wait(SAMPLE_SECONDS):
            step = self.step
            pids = self.client.pids()
            private, _ = private_and_shared_memory(pids)
            if pids != known:
                known, beside_private = pids, proportional_memory(pids) - private
            step.client_memory = max(step.client_memory, private + beside_private)
            if self.server:
                private, shared = private_and_shared_memory(self.server.pids())
                step.server_private_memory = max(step.server_private_memory, private)
                step.server_shared_memory = max(step.server_shared_memory, shared)


def measure(
    command: list[str],
    log: Path,
    *,
    server: ProcessTree | None = None,
    wal_position: Callable[[], int] = lambda: 0,
    after_step: Callable[[Step], None] = lambda step: None,
    **options: object,
) -> list[Step]:
    """Run a command and return its steps; what it prints goes to `log`. `options` go to subprocess.Popen.

    `after_step` is called with each step as it ends. Raises RuntimeError with the end of the log when the
    command does not end 0.
    """
    steps = []
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,
    )
    meter = Meter(ProcessTree(process.pid), server, wal_position)

    def close(name: str = "", title: str = "") -> None:
        steps.append(meter.next_step(name, title))
        after_step(steps[-1])

    try:
        with log.open("w", buffering=1) as file:
            for line in process.stdout:
                if imported := IMPORT_LINE.match(line):
                    _count_import(meter.step, imported)
                elif line.startswith("import time:"):
                    meter.step.python_starts += 1
                else:
                    file.write(line)
                    if said := SCRIPT_LINE.match(line):
                        meter.step.scripts_seconds = (meter.step.scripts_seconds or 0) + float(said[1])
                    if begun := STEP_LINE.match(line):
                        close(begun[1], begun[2])
        # The output ends before the process is reaped, so that its last readings can still be taken.
        close()
    except BaseException:
        process.terminate()
        process.wait()
        raise
    finally:
        meter.stop()
    if process.wait() != 0:
        raise RuntimeError(
            f"{' '.join(command)} ended {process.returncode}; its log ends:\n"
            + "\n".join(log.read_text().splitlines()[-15:])
        )
    return steps


def _count_import(step: Step, imported: re.Match) -> None:
    """A line of `python -X importtime`: own and total microseconds, and the module."""
    own, package = int(imported[1]) / 1e6, imported[4].partition(".")[0]
    step.import_seconds += own
    step.imports[package] = step.imports.get(package, 0) + own
