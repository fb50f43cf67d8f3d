"""How right the customers are: clusters against the truth, match probabilities against shares of true pairs.

Clusters are scored by ../shared/score_clusters.py, beside the project; where it is absent nothing is scored.
"""

import csv
import importlib.util
import io
from collections import Counter
from pathlib import Path

import polars as pl
from workspace import PROJECT, Workspace

SHARED = PROJECT.parent / "shared"
SCORER = SHARED / "score_clusters.py"
LABELLED = {"historical_50k": "people.jsonl.gz", "febrl3": "people.csv"}
PROBABILITY_BINS = [0.001, 0.01, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999]


def producers_truth(workspace: Workspace) -> dict[str, str]:
    """`source:record_id` -> person of every record the producers delivered and did not withdraw."""
    lake = workspace.lake()
    people, withdrawn = {}, set()
    for found in lake.list("_truth/"):
        if not found.key.endswith(".csv.gz"):
            continue
        rows = pl.read_csv(io.BytesIO(lake.get(found.key)), infer_schema=False)
        records = (rows["source_system"] + ":" + rows["record_id"]).to_list()
        if found.key.endswith("/records.csv.gz"):
            people.update(zip(records, rows["person_id"].to_list(), strict=True))
        else:
            withdrawn.update(records)
    return {record: person for record, person in people.items() if record not in withdrawn}


def labelled_truth(name: str) -> dict[str, str]:
    """`source:record_id` -> entity of a labelled set."""
    with (SHARED / "data" / name / "truth.csv").open(newline="") as file:
        return {f"{name}:{row['record_id']}": row["entity_id"] for row in csv.DictReader(file)}


def customers(workspace: Workspace) -> dict[str, str]:
    """`source:record_id` -> customer."""
    return dict(
        workspace.query(
            "select source_system || ':' || record_id, global_customer_id::text "
            "from identity.customer_identity_map"
        )
    )


def splink_clusters(workspace: Workspace, clusters: Path) -> dict[str, str]:
    """`source:record_id` -> cluster of Splink's."""
    names = dict(
        workspace.query(
            "select record_key, source_system || ':' || record_id from staging.identity_inputs "
            "where not is_deleted"
        )
    )
    found = pl.read_csv(clusters)
    return {names[key]: str(cluster) for key, cluster in found.select("unique_id", "cluster_id").iter_rows()}


def score(name: str, predicted: dict[str, str], truth: dict[str, str], seconds: float) -> dict | None:
    """A row of the accuracy table; None where the scorer is absent."""
    if not SCORER.exists():
        return None
    spec = importlib.util.spec_from_file_location("score_clusters", SCORER)
    scorer = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(scorer)
    largest = max(Counter(truth.values()).values())
    return {
        "data": name,
        **scorer.score(predicted, truth),
        "true_largest_cluster": largest,
        "seconds": seconds,
    }


def calibration(workspace: Workspace, truth: dict[str, str]) -> list[dict]:
    """Compared pairs by match probability: how many, their mean probability, the share that is true.

    A pair of profiles counts once; it is true to the share of its record pairs that are one person's.
    """
    pairs = pl.DataFrame(
        workspace.query(
            "select left_profile_key, right_profile_key, total_confidence_score "
            "from staging.identity_match_candidates "
            "where left_profile_key < right_profile_key and rule_id > 0"
        ),
        schema={"left": pl.Int64, "right": pl.Int64, "confidence": pl.Float64},
        orient="row",
    )
    records = pl.DataFrame(
        workspace.query(
            "select source_system || ':' || record_id, profile_key from staging.identity_inputs "
            "where not is_deleted"
        ),
        schema={"record": pl.String, "profile": pl.Int64},
        orient="row",
    )
    people = records.with_columns(person=pl.col("record").replace_strict(truth, default=None)).drop_nulls()
    shares = people.group_by("profile", "person").len("count")
    shares = shares.with_columns(share=pl.col("count") / pl.col("count").sum().over("profile"))
    true = (
        pairs.join(shares, left_on="left", right_on="profile")
        .join(shares, left_on=["right", "person"], right_on=["profile", "person"])
        .group_by("left", "right")
        .agg(true=(pl.col("share") * pl.col("share_right")).sum())
    )
    return (
        pairs.join(true, on=["left", "right"], how="left")
        .with_columns(probability=pl.col("confidence") / 100, true=pl.col("true").fill_null(0))
        .with_columns(bin=pl.col("probability").cut(PROBABILITY_BINS, left_closed=True))
        .group_by("bin")
        .agg(pairs=pl.len(), probability=pl.col("probability").mean(), true_share=pl.col("true").mean())
        .sort("probability")
        .with_columns(pl.col("bin").cast(pl.String))
        .to_dicts()
    )
