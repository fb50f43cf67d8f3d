"""Phase 6: who is who. Every source record gets its global_customer_id, and ids stay.

1. Pairs compared since the mark become edges of the graph (identity.match_links).
2. What a changed record, pair or steward decision touches is followed through the graph; only that is
   clustered again (resolution.py), all of it under a new model.
3. Clusters take over the ids their records had (assign_ids.sql); merges and splits are recorded.

Usage: python identity/run_identity_resolution.py
"""

import argparse
from math import log2
from pathlib import Path

from db.errors import run_script
from db.phase import Phase, phase
from db.postgres import bulk_load, copy_in, copy_out, run_file
from db.settings import settings

HERE = Path(__file__).resolve().parent
CANDIDATES, INPUTS, PROFILES = (
    "staging.identity_match_candidates",
    "staging.identity_inputs",
    "staging.match_profiles",
)


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
    parameters["everything"] = basis != work.configuration(CANDIDATES)
    for upstream in (CANDIDATES, INPUTS, PROFILES):
        work.advance(upstream, basis)
    if not parameters["everything"] and not anything_new(work, parameters):
        work.skip("no changed records, pairs or decisions")
        return
    if parameters["everything"]:
        work.cursor.execute("truncate identity.match_links")
        parameters["mark"] = 0
    with bulk_load(work.cursor, "identity.match_links"):
        run_file(work.cursor, HERE / "apply_links.sql", parameters)
    if parameters["everything"]:
        run_file(work.cursor, HERE / "all_profiles.sql")
    else:
        run_file(work.cursor, HERE / "touched_tables.sql")
        find_touched(work, parameters)
    resolution = cluster_touched(work, parameters)
    work.cursor.execute(
        "create temp table resolved_records (record_key bigint not null, cluster bigint not null, "
        "match_confidence real not null, assigned_by text not null) on commit drop;"
        "create temp table refused_links (left_profile_key bigint not null, "
        "right_profile_key bigint not null, refused_reason text not null) on commit drop"
    )
    work.rows_in = copy_in(work.cursor, "pg_temp.resolved_records", resolution.records)
    copy_in(work.cursor, "pg_temp.refused_links", resolution.refused)
    work.cursor.execute("analyze resolved_records; analyze refused_links")
    run_file(work.cursor, HERE / "link_status.sql", parameters)
    if parameters["everything"]:
        work.cursor.execute("drop view touched_profiles")
    with bulk_load(work.cursor, "identity.customers", "identity.customer_identity_map"):
        run_file(work.cursor, HERE / "assign_ids.sql", parameters)
    work.refresh_statistics("identity.match_links", "identity.customers", "identity.customer_identity_map")
    count_changes(work)


def basis_of_links(work: Phase) -> str | None:
    """What every link depends on: another model, or flagged pairs merging, means clustering all afresh."""
    work.cursor.execute("select model_version from identity.match_models where is_current")
    row = work.cursor.fetchone()
    return f"model {row[0] if row else None}, merge_flagged {settings.mdm_merge_flagged}"


def anything_new(work: Phase, parameters: dict) -> bool:
    """Whether a record, a pair or a decision has changed since the marks."""
    work.cursor.execute(
        f"select exists (select 1 from {INPUTS} where run_id > %(input_mark)s) "
        f"or exists (select 1 from {CANDIDATES} where run_id > %(mark)s) "
        "or exists (select decision_id from identity.active_steward_decisions "
        "except select decision_id from identity.applied_decisions) "
        "or exists (select decision_id from identity.applied_decisions "
        "except select decision_id from identity.active_steward_decisions)",
        parameters,
    )
    return work.cursor.fetchone()[0]


def find_touched(work: Phase, parameters: dict) -> None:
    """Fill touched_profiles and touched_customers, following the graph until nothing is added."""
    run_file(work.cursor, HERE / "touched.sql", parameters)
    step, reached = 0, -1
    while True:
        work.cursor.execute(
            "select (select count(*) from touched_profiles) + (select count(*) from touched_customers)"
        )
        (count,) = work.cursor.fetchone()
        if count == reached:
            break
        reached, step = count, step + 1
        run_file(work.cursor, HERE / "expand_touched.sql", {"step": step})
    work.cursor.execute("analyze touched_profiles; analyze touched_customers")


def cluster_touched(work: Phase, parameters: dict):
    """Read what is touched, and cluster it.

    Memory: about 200 bytes a record and 60 a compared pair of what is touched.
    """
    import polars as pl

    from identity.resolution import resolve

    pair = {"left_profile_key": pl.Int64, "right_profile_key": pl.Int64, "match_weight": pl.Float32}
    schemas = {
        "touched_records": {"record_key": pl.Int64, "profile_key": pl.Int64},
        "touched_nodes": {
            "profile_key": pl.Int64,
            "birth_date": pl.String,
            "national_id": pl.String,
            "is_one_node": pl.String,
            "total_confidence_score": pl.Float32,
        },
        "touched_links": pair | {"total_confidence_score": pl.Float32},
        "touched_evidence": pair,
        "active_decisions": {
            "decision_id": pl.Int64,
            "judgement": pl.String,
            "record_key": pl.Int64,
            "side": pl.Int32,
        },
    }
    frames = {
        name: copy_out(work.cursor, (HERE / f"{name}.sql").read_text(encoding="utf-8"), schema, parameters)
        for name, schema in schemas.items()
    }
    # What merges has to reach the threshold of what merges.
    work.cursor.execute(
        "select parameters ->> case when %(merge_flagged)s then 'flag_review' else 'auto_merge' end "
        "from identity.match_models where is_current",
        parameters,
    )
    row = work.cursor.fetchone()
    threshold = float(row[0]) if row else 0.9
    return resolve(
        records=frames["touched_records"],
        profiles=frames["touched_nodes"].with_columns(pl.col("is_one_node") == "t"),
        links=frames["touched_links"],
        evidence=frames["touched_evidence"],
        decisions=frames["active_decisions"],
        merge_weight=log2(threshold / (1 - threshold)),
    )


def count_changes(work: Phase) -> None:
    """Put on the receipt what this run did to the customers."""
    work.cursor.execute(
        "select count(*) filter (where change = 'merge'), count(*) filter (where change = 'split') "
        "from identity.customer_id_lineage where run_id = %s",
        (work.run_id,),
    )
    work.detail["merges"], work.detail["splits"] = work.cursor.fetchone()
    work.cursor.execute(
        "select count(*), count(*) filter (where created_run_id = %(run)s) from identity.customers "
        "where run_id = %(run)s",
        {"run": work.run_id},
    )
    work.rows_out, work.detail["new_customers"] = work.cursor.fetchone()


if __name__ == "__main__":
    run_script(main)
