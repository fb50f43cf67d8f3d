"""From records, links and steward decisions to clusters of records: a pure function, no database in it.

A node of the graph is a profile, with all its records. Records of a profile are nodes of their own where
1. the model does not take equal profiles for one person (a common name and nothing else), or
2. a steward says that records of this very profile are different people, or the same ones as others who are.

Keys are looked up once; from then on profiles and nodes are numbers, in the order of their keys.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import polars as pl

from db.sorted_keys import find_keys
from identity.clustering import WEIGHT_UNIT, Pairs, cluster, components

ASSIGNED_BY = pl.Series(["alone", "same_profile", "link", "steward"])
ALONE, SAME_PROFILE, LINK, STEWARD = range(4)
# The weight and confidence of records of one profile that are one person to the model.
OWN_WEIGHT, OWN_CONFIDENCE = 20.0, 100.0


@dataclass(frozen=True)
class Resolution:
    """records: record_key, cluster (a number), match_confidence (0 to 100), assigned_by, in the order of the records
    given.

    refused: left_profile_key, right_profile_key, match_weight, refused_reason, of the links that do not stand.
    """

    records: pl.DataFrame
    refused: pl.DataFrame


def resolve(
    records: pl.DataFrame,
    own: pl.DataFrame,
    traits: pl.DataFrame,
    links: pl.DataFrame,
    evidence: pl.DataFrame,
    decisions: pl.DataFrame,
    merge_weight: float,
) -> Resolution:
    """Cluster the records.

    records: record_key, profile_key. own: profile_key, is_one_person, total_confidence_score of profiles compared
    with themselves. traits: profile_key, birth_date, national_id of profiles that have one of them. links, evidence:
    left_profile_key, right_profile_key, match_weight; links also total_confidence_score. decisions: decision_id,
    judgement, record_key, side. merge_weight: log2 odds from which a pair merges. Profiles of no record are ignored.

    Memory: about 30 bytes a record and a profile, 50 a pair, beside what is given.
    """
    graph = _Nodes.of(records, own, decisions)
    with ThreadPoolExecutor(1) as aside:
        numbering = aside.submit(graph.pairs, evidence)
        node_links, link_confidence = graph.pairs(links)
        node_evidence, _ = numbering.result()
    if graph.has_parted.any():
        within, within_confidence = graph.links_within_profiles()
        node_links = Pairs(
            *(np.concatenate(each) for each in zip(_parts(node_links), _parts(within), strict=True))
        )
        link_confidence = np.concatenate([link_confidence, within_confidence])
    said = decisions.join(
        records.select("record_key", node=pl.Series(graph.of_record)), on="record_key"
    ).sort("decision_id", "node", "record_key")
    same = said.filter(pl.col("judgement") == "same")
    forced = same.select("node", other=pl.col("node").shift(-1).over("decision_id")).drop_nulls()
    forced = forced.filter(pl.col("node") != pl.col("other"))
    clusters = cluster(
        len(graph.keys),
        node_links,
        node_evidence,
        Pairs.of(forced["node"].to_numpy(), forced["other"].to_numpy(), np.full(forced.height, OWN_WEIGHT)),
        said.filter(pl.col("judgement") == "different").select(
            "decision_id", "node", side=pl.col("side") - 1
        ),
        graph.traits(traits),
        merge_weight,
    )
    return Resolution(
        _resolved_records(
            records, graph, clusters.label, node_links, link_confidence, same["node"].to_numpy()
        ),
        _refused_links(graph, node_links.where(clusters.refused), clusters.reasons),
    )


def _parts(pairs: Pairs) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return pairs.left, pairs.right, pairs.weight


@dataclass(frozen=True)
class _Nodes:
    """The nodes of the graph.

    keys: of each node, sorted: its profile's, or its only record's. profile: of each node. of_profile: the node that
    is a profile's own, -1 where all its records are nodes. of_record: of each record given. has_parted: per profile,
    whether records of it are nodes. confidence: of each profile with itself, NaN for none.
    """

    profile_keys: np.ndarray
    keys: np.ndarray
    profile: np.ndarray
    of_profile: np.ndarray
    of_record: np.ndarray
    has_parted: np.ndarray
    is_one_node: np.ndarray
    confidence: np.ndarray

    @classmethod
    def of(cls, records: pl.DataFrame, own: pl.DataFrame, decisions: pl.DataFrame) -> "_Nodes":
        profile_keys, profile, record_count = np.unique(
            records["profile_key"].to_numpy(), return_inverse=True, return_counts=True
        )
        profile = profile.astype(np.int32)
        row = find_keys(profile_keys, own["profile_key"].to_numpy())
        known = row >= 0
        confidence = np.full(len(profile_keys), np.nan, np.float32)
        confidence[row[known]] = own["total_confidence_score"].to_numpy()[known]
        confidence[record_count == 1] = np.nan
        is_one_node = record_count == 1
        is_one_node[row[known]] |= own["is_one_person"].to_numpy()[known]
        parted = ~is_one_node[profile]
        parted[_said_to_be_different(records, decisions)] = True
        has_parted = np.zeros(len(profile_keys), bool)
        has_parted[profile[parted]] = True
        is_node = np.ones(len(profile_keys), bool)
        if has_parted.any():
            is_node = np.bincount(profile[~parted], minlength=len(profile_keys)) > 0
        keys = np.concatenate([profile_keys[is_node], records["record_key"].to_numpy()[parted]])
        order = np.argsort(keys, kind="stable")
        number = np.empty(len(keys), np.int32)
        number[order] = np.arange(len(keys), dtype=np.int32)
        of_profile = np.full(len(profile_keys), -1, np.int32)
        of_profile[is_node] = number[: is_node.sum()]
        of_record = of_profile[profile]
        of_record[parted] = number[is_node.sum() :]
        return cls(
            profile_keys,
            keys[order],
            np.concatenate([np.flatnonzero(is_node).astype(np.int32), profile[parted]])[order],
            of_profile,
            of_record,
            has_parted,
            is_one_node,
            confidence,
        )

    def pairs(self, given: pl.DataFrame) -> tuple[Pairs, np.ndarray]:
        """Pairs of profiles as pairs of all their nodes, and the confidence of each, if it is given."""
        left, right = (
            find_keys(self.profile_keys, given[side].to_numpy())
            for side in ("left_profile_key", "right_profile_key")
        )
        known = (left >= 0) & (right >= 0)
        weight = given["match_weight"].to_numpy()
        confidence = weight
        if "total_confidence_score" in given.columns:
            confidence = given["total_confidence_score"].to_numpy()
        if not known.all():
            left, right, weight, confidence = left[known], right[known], weight[known], confidence[known]
        is_parted = self.has_parted[left] | self.has_parted[right]
        if not is_parted.any():
            return Pairs.of(self.of_profile[left], self.of_profile[right], weight), confidence
        places = self.places()
        row = np.flatnonzero(is_parted)
        several = (
            pl.DataFrame({"row": row, "left": left[row], "right": right[row]})
            .join(places.select(left="profile", one="node"), on="left")
            .join(places.select(right="profile", other="node"), on="right")
            .sort("row", "one", "other")
        )
        row = np.concatenate([np.flatnonzero(~is_parted), several["row"].to_numpy()])
        whole = row[: len(row) - several.height]
        one = np.concatenate([self.of_profile[left[whole]], several["one"].to_numpy()])
        other = np.concatenate([self.of_profile[right[whole]], several["other"].to_numpy()])
        return Pairs.of(one, other, weight[row]), confidence[row]

    def places(self) -> pl.DataFrame:
        """profile, node."""
        return pl.DataFrame({"profile": self.profile, "node": np.arange(len(self.keys), dtype=np.int32)})

    def links_within_profiles(self) -> tuple[Pairs, np.ndarray]:
        """Links among the nodes of a profile that is one person to the model, but not to a steward."""
        parts = self.places().filter(pl.Series((self.has_parted & self.is_one_node)[self.profile]))
        within = (
            parts.join(parts.select("profile", other="node"), on="profile")
            .filter(pl.col("node") < pl.col("other"))
            .sort("node", "other")
        )
        confidence = np.nan_to_num(self.confidence[within["profile"].to_numpy()], nan=OWN_CONFIDENCE)
        one, other = within["node"].to_numpy(), within["other"].to_numpy()
        return Pairs.of(one, other, np.full(within.height, OWN_WEIGHT)), confidence

    def traits(self, given: pl.DataFrame) -> pl.DataFrame:
        """node, national_id, birth_date of the nodes whose profile has one of them."""
        row = find_keys(self.profile_keys, given["profile_key"].to_numpy())
        of_profile = given.select("birth_date", "national_id", profile=pl.Series(row)).filter(
            pl.col("profile") >= 0
        )
        return of_profile.join(self.places(), on="profile", maintain_order="left_right")


def _said_to_be_different(records: pl.DataFrame, decisions: pl.DataFrame) -> np.ndarray:
    """The rows of records that a steward says are other people than records of the same profile; what is the same as
    one of the different is as different."""
    if not (decisions["judgement"] == "different").any():
        return np.empty(0, np.int64)
    distinct = decisions["record_key"].unique().sort()
    number = decisions.with_columns(number=distinct.search_sorted(decisions["record_key"]).cast(pl.Int32))
    tied = (
        number.filter(pl.col("judgement") == "same")
        .select(one="number", other=pl.col("number").shift(-1).over("decision_id"))
        .drop_nulls()
    )
    ties = Pairs.of(tied["one"].to_numpy(), tied["other"].to_numpy(), np.full(tied.height, OWN_WEIGHT))
    person = pl.DataFrame({"record_key": distinct, "person": components(len(distinct), [ties])})
    sides = (
        decisions.filter(pl.col("judgement") == "different")
        .join(person, on="record_key")
        .select("decision_id", "side", "person")
        .unique()
    )
    different = sides.join(person, on="person")
    return (
        different.join(records.select("record_key", "profile_key").with_row_index("row"), on="record_key")
        .filter(pl.col("side").n_unique().over("decision_id", "profile_key") > 1)["row"]
        .unique()
        .to_numpy()
    )


def _resolved_records(
    records: pl.DataFrame,
    graph: _Nodes,
    label: np.ndarray,
    links: Pairs,
    link_confidence: np.ndarray,
    held: np.ndarray,
) -> pl.DataFrame:
    """Each record with its cluster, and how surely and why it is there. held: nodes a steward called the same."""
    count = len(label)
    confidence = np.full(count, np.nan, np.float32)
    standing = label[links.left] == label[links.right]
    for side in (links.left, links.right):
        np.fmax.at(confidence, side[standing], link_confidence[standing])
    assigned_by = np.where(np.isnan(confidence), ALONE, LINK).astype(np.uint8)
    own = graph.confidence[graph.profile]
    own[graph.of_profile[graph.profile] != np.arange(count)] = np.nan
    assigned_by[(assigned_by == ALONE) & ~np.isnan(own)] = SAME_PROFILE
    confidence = np.nan_to_num(np.fmax(confidence, own), nan=100.0)
    assigned_by[held], confidence[held] = STEWARD, 100.0
    number = np.cumsum(label == np.arange(count)) - 1
    return pl.DataFrame(
        {
            "record_key": records["record_key"],
            "cluster": number[label][graph.of_record],
            "match_confidence": confidence[graph.of_record],
            "assigned_by": ASSIGNED_BY.gather(assigned_by[graph.of_record]),
        }
    )


def _refused_links(graph: _Nodes, refused: Pairs, reasons: list[str]) -> pl.DataFrame:
    """Refused links in terms of profiles; those within a profile are the steward's own doing."""
    one, other = graph.profile[refused.left], graph.profile[refused.right]
    return (
        pl.DataFrame(
            {
                "left_profile_key": graph.profile_keys[np.minimum(one, other)],
                "right_profile_key": graph.profile_keys[np.maximum(one, other)],
                "match_weight": refused.weight / WEIGHT_UNIT,
                "refused_reason": pl.Series(reasons, dtype=pl.String),
            }
        )
        .filter(pl.col("left_profile_key") != pl.col("right_profile_key"))
        .unique(["left_profile_key", "right_profile_key"], keep="first", maintain_order=True)
    )
