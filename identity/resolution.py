"""From records, links and steward decisions to clusters of records: a pure function, no database in it.

A node of the graph is a profile, with all its records. Records of a profile are nodes of their own where
1. the model does not take equal profiles for one person (a common name and nothing else), or
2. a steward says that records of this very profile are different people.
"""

from dataclasses import dataclass

import polars as pl

from identity.clustering import cluster


@dataclass(frozen=True)
class Resolution:
    """records: record_key, cluster, match_confidence (0 to 100), assigned_by.

    refused: left_profile_key, right_profile_key, match_weight, refused_reason, of the links that do not stand.
    """

    records: pl.DataFrame
    refused: pl.DataFrame


def resolve(
    records: pl.DataFrame,
    profiles: pl.DataFrame,
    links: pl.DataFrame,
    evidence: pl.DataFrame,
    decisions: pl.DataFrame,
    merge_weight: float,
) -> Resolution:
    """Cluster the records.

    records: record_key, profile_key. profiles: profile_key, birth_date, national_id, is_one_node,
    total_confidence_score (of the profile with itself; null for one record). links, evidence:
    left_profile_key, right_profile_key, match_weight; links also total_confidence_score. decisions:
    decision_id, judgement, record_key, side. merge_weight: log2 odds from which a pair merges.
    """
    nodes_of = record_nodes(records, profiles, decisions)
    places = nodes_of.select("profile_key", "node").unique(maintain_order=True)
    whole = places.height == profiles.height and (places["profile_key"] == places["node"]).all()
    said = decisions.join(nodes_of, on="record_key").select(
        "decision_id", "judgement", "node", "side", "record_key"
    )
    node_links, node_evidence = (
        pairs.rename({"left_profile_key": "left_key", "right_profile_key": "right_key"})
        for pairs in (links, evidence)
    )
    if not whole:
        node_links, node_evidence = between_nodes(node_links, places), between_nodes(node_evidence, places)
        own = links_within_profiles(places, profiles)
        node_links = pl.concat([node_links, own.select(node_links.columns)])
    same = said.filter(pl.col("judgement") == "same").sort("decision_id", "node", "record_key")
    forced = same.select(
        "decision_id", left_key="node", right_key=pl.col("node").shift(-1).over("decision_id")
    ).drop_nulls()
    different = said.filter(pl.col("judgement") == "different").select(
        "decision_id", "node", side=pl.col("side") - 1
    )
    clusters = cluster(
        places.join(profiles, on="profile_key", how="left", maintain_order="left").select(
            "node", "national_id", "birth_date"
        ),
        node_links.select("left_key", "right_key", "match_weight"),
        node_evidence.select("left_key", "right_key", "match_weight"),
        forced.select("left_key", "right_key"),
        different,
        merge_weight,
    )
    return Resolution(
        resolved_records(nodes_of, profiles, clusters.assignments, node_links, same),
        refused_links(clusters.refused, places, whole),
    )


def record_nodes(records: pl.DataFrame, profiles: pl.DataFrame, decisions: pl.DataFrame) -> pl.DataFrame:
    """record_key, profile_key, node: the profile's key, or the record's own where it stands alone."""
    frame = records.join(
        profiles.select("profile_key", "is_one_node"), on="profile_key", maintain_order="left"
    )
    apart = (
        decisions.filter(pl.col("judgement") == "different")
        .join(records, on="record_key")
        .filter(pl.col("side").n_unique().over("decision_id", "profile_key") > 1)["record_key"]
        .unique()
    )
    alone = ~pl.col("is_one_node") | pl.col("record_key").is_in(apart.implode())
    return frame.select(
        "record_key",
        "profile_key",
        node=pl.when(alone.fill_null(True)).then("record_key").otherwise("profile_key"),
    )


def between_nodes(pairs: pl.DataFrame, places: pl.DataFrame) -> pl.DataFrame:
    """Pairs of profiles as pairs of all their nodes."""
    parted = places.filter(pl.col("profile_key") != pl.col("node"))
    is_parted = pl.col("left_key").is_in(parted["profile_key"].implode()) | pl.col("right_key").is_in(
        parted["profile_key"].implode()
    )
    several = (
        pairs.filter(is_parted)
        .join(places.select(left_key="profile_key", left_node="node"), on="left_key")
        .join(places.select(right_key="profile_key", right_node="node"), on="right_key")
        .with_columns(left_key="left_node", right_key="right_node")
        .drop("left_node", "right_node")
    )
    return pl.concat([pairs.filter(~is_parted), several])


def links_within_profiles(places: pl.DataFrame, profiles: pl.DataFrame) -> pl.DataFrame:
    """Links among the nodes of a profile that is one person to the model, but not to a steward."""
    parts = places.join(
        profiles.filter("is_one_node").select("profile_key", "total_confidence_score"), on="profile_key"
    )
    pairs = parts.join(parts.select("profile_key", other="node"), on="profile_key").filter(
        pl.col("node") < pl.col("other")
    )
    return pairs.select(
        left_key="node",
        right_key="other",
        match_weight=pl.lit(20.0, pl.Float32),
        total_confidence_score=pl.col("total_confidence_score").fill_null(100.0).cast(pl.Float32),
    )


def resolved_records(
    nodes_of: pl.DataFrame,
    profiles: pl.DataFrame,
    assignments: pl.DataFrame,
    links: pl.DataFrame,
    same: pl.DataFrame,
) -> pl.DataFrame:
    """Each record with its cluster, and how surely and why it is there."""
    labels = assignments.select(left_key="node", left_cluster="cluster")
    standing = (
        links.join(labels, on="left_key")
        .join(assignments.select(right_key="node", right_cluster="cluster"), on="right_key")
        .filter(pl.col("left_cluster") == pl.col("right_cluster"))
    )
    strongest = (
        pl.concat(
            [
                standing.select(node="left_key", link_confidence="total_confidence_score"),
                standing.select(node="right_key", link_confidence="total_confidence_score"),
            ]
        )
        .group_by("node")
        .agg(pl.col("link_confidence").max())
    )
    held = same.select("node").unique().with_columns(by_steward=pl.lit(True))
    return (
        nodes_of.join(assignments, on="node", maintain_order="left")
        .join(strongest, on="node", how="left", maintain_order="left")
        .join(held, on="node", how="left", maintain_order="left")
        .join(
            profiles.select("profile_key", own_confidence="total_confidence_score"),
            on="profile_key",
            how="left",
            maintain_order="left",
        )
        .with_columns(is_whole=pl.col("node") == pl.col("profile_key"))
        .select(
            "record_key",
            "cluster",
            match_confidence=pl.when(pl.col("by_steward"))
            .then(100.0)
            .otherwise(
                pl.max_horizontal(
                    "link_confidence", pl.when("is_whole").then(pl.col("own_confidence"))
                ).fill_null(100.0)
            )
            .cast(pl.Float32),
            assigned_by=pl.when(pl.col("by_steward"))
            .then(pl.lit("steward"))
            .when(pl.col("link_confidence").is_not_null())
            .then(pl.lit("link"))
            .when(pl.col("is_whole") & pl.col("own_confidence").is_not_null())
            .then(pl.lit("same_profile"))
            .otherwise(pl.lit("alone")),
        )
    )


def refused_links(refused: pl.DataFrame, places: pl.DataFrame, whole: bool) -> pl.DataFrame:
    """Refused links in terms of profiles; those within a profile are the steward's own doing."""
    if whole:
        return refused.select(
            "match_weight",
            left_profile_key="left_key",
            right_profile_key="right_key",
            refused_reason="reason",
        )
    return (
        refused.join(places.select(left_key="node", left_profile="profile_key"), on="left_key")
        .join(places.select(right_key="node", right_profile="profile_key"), on="right_key")
        .filter(pl.col("left_profile") != pl.col("right_profile"))
        .select(
            left_profile_key=pl.min_horizontal("left_profile", "right_profile"),
            right_profile_key=pl.max_horizontal("left_profile", "right_profile"),
            match_weight="match_weight",
            refused_reason="reason",
        )
        .unique(["left_profile_key", "right_profile_key"], keep="first", maintain_order=True)
    )
