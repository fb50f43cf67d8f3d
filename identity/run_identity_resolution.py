"""Phase 6: who is who. Every source record gets its global_customer_id, and ids stay.

1. What a changed record, pair or steward decision touches is followed through the graph (touched.py); only that is
   clustered again (resolution.py), all of it under a new model.
2. Clusters take over the ids their records had (assignment.py); merges and splits are recorded.

Usage: python identity/run_identity_resolution.py
"""

import argparse
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from math import log, log2
from pathlib import Path
from typing import TYPE_CHECKING

from db.errors import run_script
from db.phase import Phase, phase
from db.postgres import (
    array_text,
    build_left_indexes,
    bulk_load,
    connect,
    copy_in,
    copy_out,
    copy_out_numbers,
    estimated_rows,
    is_empty,
    page_ranges,
    prefer_lookups,
    run_file,
    uuid_bytes,
)
from db.settings import settings

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

    from identity.assignment import Assignment
    from identity.resolution import Resolution

HERE = Path(__file__).resolve().parent
CANDIDATES, INPUTS, PROFILES = (
    "staging.identity_match_candidates",
    "staging.identity_inputs",
    "staging.match_profiles",
)
COMPARED = "staging.compared_pairs"
REFUSED, CUSTOMERS, MEMBERSHIPS = "identity.refused_links", "identity.customers", "identity.memberships"
LINEAGE = "identity.customer_id_lineage"
# Up to this share of changed records, looking up what each touches is cheaper than reading all there is.
FEW = 0.1
# All pairs are read in parts of so many pages, by so many connections.
PART_PAGES = 8_000
READERS = 2
# Of memberships: the columns that plans depend on.
PLANNED = ("record_key", "profile_key", "run_id", "global_customer_id")
# Of memberships and customers; nobody looks them up in the run that writes the first ones.
LEFT_INDEXES = (
    "customers_profile_count",
    "customers_run_id",
    "memberships_key",
    "memberships_global_customer_id",
    "memberships_profile_key",
    "memberships_run_id",
)
# Memberships are written so many at a time, while the next get their customers.
SLICE = 250_000


def main(argv: list[str] | None = None) -> int:
    """Run the phase."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args(argv)
    with phase("6", "run_identity_resolution") as work:
        resolve_identities(work)
    return 0


def resolve_identities(work: Phase) -> None:
    """Bring the map of records to customers up to date with records, pairs and decisions."""
    parameters = {
        "mark": work.mark(CANDIDATES),
        "input_mark": work.mark(INPUTS),
        "profile_mark": work.mark(PROFILES),
        "run_id": work.run_id,
        "merge_flagged": settings.mdm_merge_flagged,
    }
    basis = basis_of_links(work)
    everything = basis != work.configuration(CANDIDATES)
    for upstream in (CANDIDATES, INPUTS, PROFILES):
        work.advance(upstream, basis)
    if not everything and not anything_new(work, parameters):
        work.skip("no changed records, pairs or decisions")
        return
    work.has_work()
    run_file(work.cursor, HERE / "heeded_decisions.sql")
    is_first = is_empty(work.cursor, MEMBERSHIPS)
    graph = read_everything(work, parameters) if everything else read_touched(work, parameters)
    resolution = cluster_records(work, graph, parameters)
    work.rows_in = graph.records.height
    write_refused(work, resolution, graph.formerly_refused)
    write_customers(work, graph, resolution, parameters)
    run_file(work.cursor, HERE / "apply_decisions.sql")
    work.refresh_statistics(REFUSED)
    if not is_first:
        work.refresh_statistics(CUSTOMERS)
        work.refresh_statistics(MEMBERSHIPS, columns=PLANNED)
    count_changes(work)


def basis_of_links(work: Phase) -> str | None:
    """What every link depends on: another model, or flagged pairs merging, means clustering all afresh."""
    work.cursor.execute("select model_version from identity.match_models where is_current")
    row = work.cursor.fetchone()
    return f"model {row[0] if row else None}, merge_flagged {settings.mdm_merge_flagged}"


def anything_new(work: Phase, parameters: dict) -> bool:
    """Whether a record, a pair or a decision has changed since the marks."""
    if work.has_newer(INPUTS, parameters["input_mark"]) or work.has_newer(COMPARED, parameters["mark"]):
        return True
    work.cursor.execute(
        "select exists (select decision_id from identity.active_steward_decisions "
        "except select decision_id from identity.applied_decisions) "
        "or exists (select decision_id from identity.applied_decisions "
        "except select decision_id from identity.active_steward_decisions)"
    )
    return work.cursor.fetchone()[0]


def few_have_changed(work: Phase, parameters: dict) -> bool:
    """Whether few records have changed since the mark, of those that have a customer."""
    work.cursor.execute(f"select count(*) from {INPUTS} where run_id > %(input_mark)s", parameters)
    return work.cursor.fetchone()[0] < FEW * estimated_rows(work.cursor, MEMBERSHIPS)


def is_merging(parameters: dict) -> "pl.Expr":
    """Whether a compared pair merges by itself, if nothing speaks against it."""
    import polars as pl

    return pl.col("decision") >= (1 if parameters["merge_flagged"] else 2)


def read_sql(name: str, **tables: str) -> str:
    """A .sql file with the tables, or queries in brackets, that it is to read."""
    return (HERE / f"{name}.sql").read_text(encoding="utf-8").format(**tables)


@dataclass(frozen=True)
class Graph:
    """What is to be clustered.

    records: live, with the customer each is in, if any is in one. pairs: compared. traits: birth_date, national_id of
    profiles that have one. decisions: of stewards, one row per record, those that are active. formerly_refused:
    left_profile_key of the refused links there were; None: all are.
    """

    records: "pl.DataFrame"
    pairs: "pl.DataFrame"
    traits: "pl.DataFrame"
    decisions: "pl.DataFrame"
    formerly_refused: "pl.Series | None"


def read_everything(work: Phase, parameters: dict) -> Graph:
    """All there is, read over several connections at once."""
    import polars as pl

    build_left_indexes(work.cursor, MEMBERSHIPS)
    with ThreadPoolExecutor(READERS) as aside:
        reading = aside.map(read_part_of_pairs, page_ranges(work.cursor, COMPARED, PART_PAGES))
        records = read_records(work, parameters)
        pairs = pl.concat(reading)
    traits, decisions = read_traits(work.cursor, PROFILES), read_decisions(work.cursor)
    return Graph(records, pairs, traits, decisions, None)


def read_touched(work: Phase, parameters: dict) -> Graph:
    """What the changes touch. The pairs and traits of profiles are read beside, as they are reached."""
    import polars as pl

    from identity.touched import Touched, changed_records, decided_profiles, weighed_pairs

    build_left_indexes(work.cursor, COMPARED, MEMBERSHIPS, CUSTOMERS)
    is_few = few_have_changed(work, parameters)
    with ThreadPoolExecutor(1) as aside, connect() as connection, connection.cursor() as cursor:
        for each in (work.cursor, cursor) if is_few else ():
            prefer_lookups(each)
        weighing = aside.submit(weighed_pairs, cursor, parameters)
        changed, decided = changed_records(work.cursor, parameters), decided_profiles(work.cursor)
        touched = Touched(changed, weighing.result(), decided, work.cursor)

        def read_around(profiles: "np.ndarray") -> tuple["pl.DataFrame", "pl.DataFrame"]:
            wanted = {"profiles": array_text(profiles)}
            return (
                read_pairs(cursor, f"({read_sql('touched_candidates')})", parameters=wanted),
                read_traits(cursor, f"({read_sql('touched_match_profiles')})", wanted),
            )

        reading = []
        touched.follow(lambda profiles: reading.append(aside.submit(read_around, profiles)))
        records = touched.records()
        pairs, traits = (pl.concat(each) for each in zip(*(part.result() for part in reading), strict=True))
    formerly_refused = pl.concat(touched.refused)["left_profile_key"].unique()
    return Graph(records, pairs, traits, read_decisions(work.cursor), formerly_refused)


def read_records(work: Phase, parameters: dict) -> "pl.DataFrame":
    """All live records, with the customer each is in, if any is in one."""
    import polars as pl

    keys = {"record_key": pl.Int64, "profile_key": pl.Int64, "source_number": pl.Int16}
    if is_empty(work.cursor, MEMBERSHIPS):
        query = f"select record_key, profile_key, source_number from {INPUTS} where not is_deleted"
        return copy_out_numbers(work.cursor, query, keys)
    return copy_out(
        work.cursor,
        read_sql("live_records"),
        keys
        | {
            "is_changed": pl.String,
            "old_customer": pl.String,
            "home_customer": pl.String,
            "old_confidence": pl.Float32,
            "old_assigned_by": pl.String,
            "old_profile_key": pl.Int64,
        },
        parameters,
    ).with_columns(pl.col("is_changed") == "t", uuid_bytes("old_customer"), uuid_bytes("home_customer"))


def read_traits(cursor, profiles: str, parameters: object = None) -> "pl.DataFrame":
    """The values that can contradict each other, of those of these profiles, a table or a query in brackets, that
    have one."""
    import polars as pl

    schema = {"profile_key": pl.Int64, "birth_date": pl.String, "national_id": pl.String}
    # Many sources deliver neither.
    cursor.execute("select bool_or(attributes ?| array['birth_date', 'national_id']) from raw.sources")
    if not cursor.fetchone()[0]:
        return pl.DataFrame(schema=schema)
    return copy_out(cursor, read_sql("profile_traits", profiles=profiles), schema, parameters)


def read_pairs(cursor, candidates: str, which: str = "true", parameters: object = None) -> "pl.DataFrame":
    """The compared pairs in force among these candidates, a table or a query in brackets."""
    import polars as pl

    return copy_out_numbers(
        cursor,
        read_sql("compared_pairs", candidates=candidates, which=which),
        {
            "left_profile_key": pl.Int64,
            "right_profile_key": pl.Int64,
            "match_weight": pl.Float32,
            "decision": pl.Int16,
        },
        parameters,
    )


def read_part_of_pairs(part: tuple[str, str]) -> "pl.DataFrame":
    """The compared pairs in force between two row addresses, over a connection of its own."""
    with connect() as connection, connection.cursor() as cursor:
        return read_pairs(cursor, COMPARED, "candidates.ctid >= %s and candidates.ctid < %s", part)


def read_decisions(cursor) -> "pl.DataFrame":
    """The active decisions of stewards, one row per record."""
    import polars as pl

    schema = {"decision_id": pl.Int64, "judgement": pl.String, "record_key": pl.Int64, "side": pl.Int32}
    return copy_out(cursor, read_sql("active_decisions"), schema)


def cluster_records(work: Phase, graph: Graph, parameters: dict) -> "Resolution":
    """Cluster what was read.

    Memory: about 250 bytes a record and 100 a compared pair, with what was read.
    """
    import polars as pl

    from identity.resolution import resolve

    is_own = pl.col("left_profile_key") == pl.col("right_profile_key")
    merges = is_merging(parameters)
    confidence = (100 / (1 + (-pl.col("match_weight").cast(pl.Float64) * log(2)).exp())).cast(pl.Float32)
    # What merges has to reach the threshold of what merges.
    work.cursor.execute(
        "select parameters ->> case when %(merge_flagged)s then 'flag_review' else 'auto_merge' end "
        "from identity.match_models where is_current",
        parameters,
    )
    row = work.cursor.fetchone()
    threshold = float(row[0]) if row else 0.9
    pairs = graph.pairs
    return resolve(
        graph.records,
        own=pairs.filter(is_own).select(
            profile_key="left_profile_key", is_one_person=merges, total_confidence_score=confidence
        ),
        traits=graph.traits,
        links=pairs.filter(~is_own & merges).with_columns(total_confidence_score=confidence),
        evidence=pairs.filter(~is_own & ~merges),
        decisions=graph.decisions,
        merge_weight=log2(threshold / (1 - threshold)),
    )


def write_refused(work: Phase, resolution: "Resolution", formerly_refused: "pl.Series | None") -> None:
    """Note which links are refused, and why: of what is touched, or of all there is.

    formerly_refused: left_profile_key of the touched links that were refused; None: all are touched.
    """
    import polars as pl

    parameters = None
    if formerly_refused is None:
        work.cursor.execute(f"truncate {REFUSED}")
    else:
        parameters = {"formerly_refused": array_text(formerly_refused)}
    refused = resolution.refused.sort("left_profile_key", "right_profile_key")
    rows = refused.with_columns(run_id=pl.lit(work.run_id))
    write_rows(work, REFUSED, [rows], "update_refusals", parameters)


def write_customers(work: Phase, graph: Graph, resolution: "Resolution", parameters: dict) -> None:
    """Give each cluster its customer, and write what changed: memberships, customers, lineage."""
    import polars as pl

    from identity.assignment import (
        assign,
        changed_customers,
        compositions,
        nobody,
        together,
        whole_clusters,
    )

    # Those of a cluster side by side: so they will be read.
    moves = pl.concat([graph.records, resolution.records.drop("record_key")], how="horizontal").sort(
        "cluster", "record_key"
    )
    run_file(work.cursor, HERE / "withdrawn_records.sql", parameters)
    withdrawn = ids_of([customer for (customer,) in work.cursor.fetchall()])
    parts, known = [moves], partial(registry, work)
    if "old_customer" not in moves.columns:
        parts, known = whole_clusters(moves, SLICE), nobody
    work.cursor.execute("select source_number, source_bit from raw.sources")
    source_bits = dict(work.cursor.fetchall())
    with ThreadPoolExecutor(1) as founder, ThreadPoolExecutor(1) as writer:
        assigned = [founder.submit(assign, part, known) for part in parts]
        # Who is known is read by now: the cursor is the writer's until it is done.
        wait(assigned[:1])
        writing = writer.submit(write_memberships, work, zip(parts, assigned, strict=True))
        assignment = together([part.result() for part in assigned])
        changed = (
            changed_customers(moves, assignment, withdrawn)
            .join(
                compositions(moves, assignment, source_bits), on="cluster", how="left", maintain_order="left"
            )
            .drop("cluster")
            .with_columns(
                pl.col("source_mask").fill_null(0),
                run_id=pl.lit(work.run_id),
                created_run_id=pl.lit(work.run_id),
            )
        )
        writing.result()
    write_rows(work, CUSTOMERS, [changed], "update_customers")
    write_lineage(work, moves, assignment, graph, resolution, parameters)


def ids_of(texts: list[str]) -> "pl.Series":
    """Ids as bytes."""
    import polars as pl

    return pl.Series("id", texts, dtype=pl.String).to_frame().select(uuid_bytes("id")).to_series()


def registry(work: Phase, ids: "pl.Series") -> "pl.DataFrame":
    """Of some ids, those that were ever given: customer, status, record_count, created_run_id."""
    import polars as pl

    schema = {
        "customer": pl.String,
        "status": pl.String,
        "record_count": pl.Int32,
        "created_run_id": pl.Int32,
    }
    if not len(ids) or is_empty(work.cursor, CUSTOMERS):
        known = pl.DataFrame(schema=schema)
    else:
        wanted = {"ids": array_text(ids.bin.encode("hex"))}
        known = copy_out(work.cursor, read_sql("registry"), schema, wanted)
    return known.with_columns(uuid_bytes("customer"))


def write_memberships(work: Phase, parts: "Iterable[tuple[pl.DataFrame, Future[Assignment]]]") -> None:
    """Write the records that are new, and those whose customer, or how surely they are there, has changed.

    parts: moves, and the customers of their clusters.

    Memory: beside these, the rows of SLICE of them, and those that have changed.
    """
    import polars as pl

    moved = []
    with bulk_load(work.cursor, MEMBERSHIPS, leaves=LEFT_INDEXES):
        for moves, assigned in parts:
            customers = assigned.result().clusters.select("cluster", "customer")
            for part in moves.iter_slices(SLICE):
                rows = part.join(customers, on="cluster", how="left", maintain_order="left")
                if "old_customer" in rows.columns:
                    moved.append(membership_rows(work, rows.filter(has_moved()), customers["customer"]))
                    rows = rows.filter(pl.col("old_customer").is_null())
                copy_in(work.cursor, MEMBERSHIPS, membership_rows(work, rows))
    if moved:
        write_rows(work, MEMBERSHIPS, moved, "update_memberships")


def has_moved() -> "pl.Expr":
    """Whether a record that had a customer has another, or is there otherwise."""
    import polars as pl

    return (
        (pl.col("customer") != pl.col("old_customer"))
        | (pl.col("match_confidence") != pl.col("old_confidence"))
        | (pl.col("assigned_by") != pl.col("old_assigned_by"))
        | (pl.col("old_customer").is_not_null() & pl.col("profile_key").ne_missing(pl.col("old_profile_key")))
    )


def membership_rows(work: Phase, moves: "pl.DataFrame", living: "pl.Series | None" = None) -> "pl.DataFrame":
    """The rows of identity.memberships of these moves. living: the customers there are, where records had others.

    Who leaves a customer that lives on has no claim to its id any more, or to those it had before.
    """
    import polars as pl

    home = pl.lit(None, pl.Binary)
    if "home_customer" in moves.columns:
        has_claim = pl.col("home_customer") != pl.col("customer")
        if living is not None:
            has_left = pl.col("old_customer") != pl.col("customer")
            has_claim &= ~(has_left & pl.col("old_customer").is_in(living.implode()))
        home = pl.when(has_claim).then("home_customer")
    return moves.select(
        "record_key",
        "profile_key",
        pl.lit(work.run_id).alias("run_id"),
        "match_confidence",
        pl.col("customer").alias("global_customer_id"),
        home.alias("home_customer_id"),
        "assigned_by",
        "source_number",
    )


def write_rows(
    work: Phase, table: str, parts: "Iterable[pl.DataFrame]", update: str, parameters: dict | None = None
) -> None:
    """Put rows into a table that is empty; else bring it up to date by a .sql file, update_<name>, which takes them
    from a temporary table like it, changed_<name>."""
    if is_empty(work.cursor, table):
        with bulk_load(work.cursor, table, with_keys=True, leaves=LEFT_INDEXES):
            for rows in parts:
                copy_in(work.cursor, table, rows)
        return
    changed = update.replace("update_", "changed_")
    work.cursor.execute(f"create temp table {changed} (like {table} including defaults) on commit drop")
    for rows in parts:
        copy_in(work.cursor, f"pg_temp.{changed}", rows)
    run_file(work.cursor, HERE / f"{update}.sql", parameters)


def write_lineage(
    work: Phase,
    moves: "pl.DataFrame",
    assignment: "Assignment",
    graph: Graph,
    resolution: "Resolution",
    parameters: dict,
) -> None:
    """Record the merges and splits: of each id that is gone into which one, and by which link or decision."""
    import polars as pl

    from identity.assignment import merged_ids, merges, splits

    parted = splits(moves, assignment).with_columns(reason=pl.lit("no longer held together"))
    lineage = [parted.with_columns(change=pl.lit("split"))]
    merged = merged_ids(assignment)
    if merged.height:
        sides = ["left_profile_key", "right_profile_key"]
        links = graph.pairs.filter(
            is_merging(parameters) & (pl.col("left_profile_key") != pl.col("right_profile_key"))
        ).join(resolution.refused, on=sides, how="anti")
        joined = merges(merged, moves, links, graph.decisions)
        lineage.insert(0, joined.with_columns(change=pl.lit("merge")))
    for changes in lineage:
        copy_in(work.cursor, LINEAGE, changes.with_columns(run_id=pl.lit(work.run_id)))
    work.detail["merges"], work.detail["splits"] = merged.height, parted.height


def count_changes(work: Phase) -> None:
    """Put on the receipt what this run did to the customers."""
    work.cursor.execute(
        "select count(*), count(*) filter (where created_run_id = %(run)s) from identity.customers "
        "where run_id = %(run)s",
        {"run": work.run_id},
    )
    work.rows_out, work.detail["new_customers"] = work.cursor.fetchone()


if __name__ == "__main__":
    run_script(main)
