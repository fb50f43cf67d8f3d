"""Runs, phases, marks and receipts: what makes every phase idempotent, restartable and incremental.

A *run* has an increasing number. Every row carries the run that last changed it. A phase works in one
transaction: it takes the upstream rows of runs after its own mark, writes its own rows under this run's
number, moves the mark and leaves its receipt; then it commits. Killed before that, nothing has happened.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from psycopg2 import Error as Psycopg2Error
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor
from psycopg2.extras import Json
from psycopg2.sql import SQL, Identifier

from db.errors import Busy
from db.postgres import connect, explained, opened, run_file, strangers_with_locks, table_identifier
from db.settings import settings

HERE = Path(__file__).resolve().parent
# The locks of the pipeline: pg_try_advisory_lock(namespace, 0 = a phase at work, 1 = the schema is being applied,
# 2 = a run at work).
LOCK_NAMESPACE = 0x4D444D
TRY_PHASE = "select pg_try_advisory_xact_lock(%s, 0)"
TRY_RUN = "select pg_try_advisory_lock(%s, 2)"
# Seconds to wait for one: what a killed process had, PostgreSQL gives back a second later; an erasure takes longer.
PATIENCE = 3
PATIENCE_WITH_STRANGERS = 60
# Holds the lock of a run, in the process that has opened it.
_holder: Connection | None = None
_joined_run = 0
_on_work: Callable[[], object] | None = None


class Phase:
    """One phase at work. `cursor` belongs to the phase's single transaction."""

    def __init__(self, number: str, name: str, connection: Connection, run_id: int):
        self.number, self.name, self.connection, self.run_id = number, name, connection, run_id
        self.cursor: Cursor = connection.cursor()
        self.rows_in = 0
        self.rows_out = 0
        self.detail: dict[str, object] = {}

    def mark(self, upstream: str, phase: str | None = None) -> int:
        """The last run of `upstream` this phase, or another, has consumed; 0 before the first."""
        self.cursor.execute(
            "select run_id from identity.ingestion_watermarks where phase = %s and upstream = %s",
            (phase or self.name, upstream),
        )
        row = self.cursor.fetchone()
        return row[0] if row else 0

    def configuration(self, upstream: str) -> str | None:
        """The configuration under which this phase last consumed `upstream`; None before the first time."""
        self.cursor.execute(
            "select configuration from identity.ingestion_watermarks where phase = %s and upstream = %s",
            (self.name, upstream),
        )
        row = self.cursor.fetchone()
        return row[0] if row else None

    def advance(self, upstream: str, configuration: str | None = None, run_id: int | None = None) -> None:
        """Move the mark for `upstream` to this run, or to run_id; it holds when the phase commits."""
        self.cursor.execute(
            "insert into identity.ingestion_watermarks (phase, upstream, run_id, configuration) "
            "values (%s, %s, %s, %s) on conflict (phase, upstream) do update "
            "set run_id = excluded.run_id, configuration = excluded.configuration, updated_at = now()",
            (self.name, upstream, self.run_id if run_id is None else run_id, configuration),
        )

    def has_newer(self, upstream: str, mark: int) -> bool:
        """Whether `schema.table` has rows of runs after `mark`; at no greater cost where it has many others."""
        self.cursor.execute("select identity.has_newer_rows(%s, %s)", (upstream, mark))
        return self.cursor.fetchone()[0]

    def refresh_statistics(self, *tables: str, columns: tuple[str, ...] = ()) -> None:
        """ANALYZE the tables (`schema.table`) that this transaction changed much, so that plans stay good.

        Autovacuum would do it, but only after the next phase has planned without it. columns: those that
        plans depend on; none: all of them.
        """
        some = SQL("({})").format(SQL(", ").join(map(Identifier, columns))) if columns else SQL("")
        for table in tables:
            self.cursor.execute(
                "select pg_stat_get_xact_tuples_inserted(oid) + pg_stat_get_xact_tuples_updated(oid) "
                "> greatest(reltuples, 1000) * 0.1 from pg_class where oid = %s::regclass",
                (table,),
            )
            if self.cursor.fetchone()[0]:
                self.cursor.execute(SQL("analyze {} {}").format(table_identifier(table), some))

    def has_work(self) -> None:
        """Say, as soon as it is known, that there is something to do: then there is for the phases to come too."""
        if _on_work:
            _on_work()

    def skip(self, reason: str) -> None:
        """Say on the receipt that there was nothing to do, and why."""
        self.detail["skipped"] = reason

    def warn(self, text: str) -> None:
        """Say on stderr and on the receipt what does not stop the phase and yet needs somebody."""
        self.detail["warnings"] = [*self.detail.get("warnings", []), text]
        print(f"warning: {text}", file=sys.stderr)

    def progress(self, total: int, unit: str = "rows"):
        """A tqdm bar on a terminal, silent elsewhere; call `.update(n)` and `.close()`, or use `with`."""
        from tqdm import tqdm

        quiet = settings.mdm_quiet or not sys.stderr.isatty()
        return tqdm(
            total=total, unit=unit, unit_scale=True, desc=f"  {self.name}", disable=quiet, leave=False
        )


@contextmanager
def phase(number: str, name: str) -> Iterator[Phase]:
    """Run a phase: its transaction, lock and receipt. Yields a Phase.

    Belongs to the run joined with join_run, else to that of MDM_RUN_ID; called by hand, it opens a run of its
    own and closes it. Raises Busy when another phase is at work on this database.
    """
    run_id = _joined_run or settings.mdm_run_id
    own_run = not run_id
    if own_run:
        run_id = open_run("by hand")
    started = time.perf_counter()
    try:
        with connect() as connection:
            work = Phase(number, name, connection, run_id)
            _lock(work.cursor)
            _refuse_if_overtaken(work.cursor, run_id)
            work.cursor.execute("select clock_timestamp()")
            (started_at,) = work.cursor.fetchone()
            yield work
            receipt = {
                "run_id": run_id,
                "phase": number,
                "script": name,
                "started_at": started_at,
                "seconds": round(time.perf_counter() - started, 3),
                "rows_in": work.rows_in,
                "rows_out": work.rows_out,
                "detail": Json(work.detail),
            }
            run_file(work.cursor, HERE / "receipt_done.sql", receipt)
    except BaseException as error:
        _leave_failure(run_id, number, name, time.perf_counter() - started, error, own_run)
        raise
    if own_run:
        close_run(run_id, "done")
    if not settings.mdm_quiet:
        print(_receipt_line(work, time.perf_counter() - started))


def _receipt_line(work: Phase, seconds: float) -> str:
    if "skipped" in work.detail:
        return f"  {work.name}: nothing to do ({work.detail['skipped']}), {seconds:.2f} s"
    details = "".join(
        f", {value:,} {key.replace('_', ' ')}" for key, value in work.detail.items() if _count(value)
    )
    return f"  {work.name}: {work.rows_in:,} in, {work.rows_out:,} out{details}, {seconds:.2f} s"


def _count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _lock(cursor: Cursor, try_once: str = TRY_PHASE) -> None:
    def is_ours() -> bool:
        cursor.execute(try_once, (LOCK_NAMESPACE,))
        return cursor.fetchone()[0]

    started = time.monotonic()
    while not is_ours():
        waited = time.monotonic() - started
        if waited > PATIENCE:
            strangers = strangers_with_locks(cursor, LOCK_NAMESPACE)
            if not strangers:
                # One that has ended since has left it.
                if is_ours():
                    return
                raise Busy(
                    "Another run is at work on this database. Wait until it has ended, then run again."
                )
            if waited > PATIENCE_WITH_STRANGERS:
                (pid, name), *_ = strangers
                raise Busy(
                    f"A session holds the pipeline's lock, as an erasure does: {name}. Commit what it does, or end it "
                    f"(select pg_terminate_backend({pid})), then run again."
                )
        time.sleep(0.1)


def _refuse_if_overtaken(cursor: Cursor, run_id: int) -> None:
    """Raise Busy where a later run has consumed something already: what this one wrote under its number, phases that
    are past it would never take."""
    cursor.execute("select max(run_id) from identity.ingestion_watermarks")
    (latest,) = cursor.fetchone()
    if latest is not None and latest > run_id:
        raise Busy(
            f"Run {latest} was begun after this one, run {run_id}, and has done a phase since. "
            "What this run has done so far is kept. Run again for the rest."
        )


def _leave_failure(
    run_id: int, number: str, name: str, seconds: float, error: BaseException, own_run: bool
) -> None:
    """The receipt of a failed phase, in a transaction of its own; a store that is down gets none."""
    try:
        with connect() as connection, connection.cursor() as cursor:
            receipt = {
                "run_id": run_id,
                "phase": number,
                "script": name,
                "seconds": round(seconds, 3),
                "detail": Json({"error": _said(error)}),
            }
            run_file(cursor, HERE / "receipt_failed.sql", receipt)
            if own_run:
                _close(cursor, run_id, "failed")
    except Exception as second:  # the first error is the one to show
        print(f"(no receipt could be left: {type(second).__name__})", file=sys.stderr)


def _said(error: BaseException) -> str:
    """What an error says, for a receipt; without the rows that PostgreSQL quotes in its details."""
    if isinstance(error, Psycopg2Error) and error.diag.message_primary:
        return error.diag.message_primary[:1000]
    return str(error)[:1000]


def join_run(run_id: int, on_work: Callable[[], object] | None = None) -> None:
    """Make the phases of this process, and of its forks, part of a run that is open. on_work: called by a phase that
    has something to do."""
    global _joined_run, _on_work
    _joined_run, _on_work = run_id, on_work


def hold_run() -> None:
    """Hold the lock of a run, between its phases too, until let_go_of_run or the end of this process.

    Raises Busy when another run, or an erasure, is at work on this database.
    """
    global _holder
    with explained():
        _holder = opened()
        with _holder.cursor() as cursor:
            _lock(cursor, TRY_RUN)
        _holder.commit()


def let_go_of_run() -> None:
    """Let go of the lock of a run, if this process holds one."""
    global _holder
    if _holder:
        # Closed alone, it would hold it a moment longer. Where its server is gone, so is the lock.
        with suppress(Psycopg2Error), _holder.cursor() as cursor:
            cursor.execute("select pg_advisory_unlock(%s, 2)", (LOCK_NAMESPACE,))
        _holder.close()
    _holder = None


def _hold_nothing_in_fork() -> None:
    # A connection that is open in a fork keeps its lock after the death of its owner.
    if _holder and not _holder.closed:
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, _holder.fileno())
        os.close(nothing)


os.register_at_fork(after_in_child=_hold_nothing_in_fork)


def open_run(trigger: str = "pipeline") -> int:
    """Start a run; returns its number. Runs left open by a killed pipeline are closed as failed."""
    with connect() as connection, connection.cursor() as cursor:
        _lock(cursor)
        cursor.execute(
            "update gold.pipeline_runs set status = 'failed', finished_at = now() where status = 'running'"
        )
        cursor.execute("insert into gold.pipeline_runs (trigger) values (%s) returning run_id", (trigger,))
        return cursor.fetchone()[0]


def close_run(run_id: int, status: str) -> None:
    """End a run as 'done' or 'failed'."""
    with connect() as connection, connection.cursor() as cursor:
        _close(cursor, run_id, status)


def _close(cursor: Cursor, run_id: int, status: str) -> None:
    cursor.execute(
        "update gold.pipeline_runs set status = %s, finished_at = clock_timestamp() where run_id = %s",
        (status, run_id),
    )
