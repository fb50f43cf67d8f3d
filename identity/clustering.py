"""Clusters of records that hold together as a whole.

The invariant: no cluster holds both sides of a steward's "different", nor two values that contradict each other
and that no link has weighed, nor two groups whose compared pairs speak against each other on average.

1. Links (pairs that merge by themselves) and the steward's "same" make connected components. A component in which
   nothing speaks against anything is one cluster; this settles most of them, and in whole columns.
2. A contested component starts with each node (and what a steward joined) as a group. The two groups with the
   highest mean weight over all compared pairs between them are joined first, ties by the smallest node, as long as
   that mean reaches `merge_weight` (average linkage, Sokal & Michener 1958).
3. Groups that contradict each other are not joined: the link is refused, with its reason.

The result depends on a component's own nodes, links and evidence alone, so clustering only what changed gives the
same clusters as clustering everything. Weights are rounded to thousandths, so that sums do not depend on order.
"""

import heapq
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

# A weight beyond this is as good as certain; without a bound one pair would outvote many.
WEIGHT_BOUND = 20.0
WEIGHT_UNIT = 1000
CONFLICT_ATTRIBUTES = ("national_id", "birth_date")

STEWARD_DIFFERENT = "steward_different"
WEAK_GROUP_EVIDENCE = "weak_group_evidence"


@dataclass(frozen=True)
class Clusters:
    """assignments: node, cluster (the smallest node in it). refused: left_key, right_key, match_weight, reason."""

    assignments: pl.DataFrame
    refused: pl.DataFrame


def cluster(
    nodes: pl.DataFrame,
    links: pl.DataFrame,
    evidence: pl.DataFrame,
    forced: pl.DataFrame | None = None,
    different: pl.DataFrame | None = None,
    merge_weight: float = 3.17,
) -> Clusters:
    """The clusters of `nodes`, and the links that were refused.

    nodes: node (int64), national_id, birth_date (null = unknown). links: left_key, right_key, match_weight (log2
    odds), the pairs that merge by themselves. evidence: the same columns, all other compared pairs. forced: left_key,
    right_key, pairs a steward called the same. different: decision_id, node, side (0 or 1); no cluster holds both
    sides of one decision, whatever forces it. merge_weight: log2 odds that a mean must reach. Keys that are not in
    `nodes` are ignored.
    """
    keys = nodes["node"].to_numpy()
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    nodes = nodes[order]
    links = _Pairs.of(links, keys)
    evidence = _Pairs.of(evidence, keys)
    forced = _Pairs.of(forced, keys)
    different = _different_rows(different, keys)

    component = _components(len(keys), [links, forced])
    conflicts = _Conflicts(nodes, links, component)
    contested = _contested(component, links, evidence, different, conflicts, merge_weight)
    label = _smallest_of(component)
    if contested.any():
        _split_contested(
            label, component, contested, links, evidence, forced, different, conflicts, merge_weight
        )
    apart = label[links.left] != label[links.right]
    refused = _explain_refusals(links.where(apart), label, different, conflicts)
    return Clusters(
        assignments=pl.DataFrame({"node": keys, "cluster": keys[label]}),
        refused=pl.DataFrame(
            {
                "left_key": keys[links.left[apart]],
                "right_key": keys[links.right[apart]],
                "match_weight": links.weight[apart] / WEIGHT_UNIT,
                "reason": pl.Series(refused, dtype=pl.String),
            }
        ),
    )


@dataclass(frozen=True)
class _Pairs:
    """Pairs as row numbers of the sorted nodes, weights in thousandths."""

    left: np.ndarray
    right: np.ndarray
    weight: np.ndarray

    @classmethod
    def of(cls, pairs: pl.DataFrame | None, keys: np.ndarray) -> "_Pairs":
        if pairs is None or not pairs.height or not len(keys):
            return cls(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int64))
        left, left_known = _find(pairs["left_key"].to_numpy(), keys)
        right, right_known = _find(pairs["right_key"].to_numpy(), keys)
        if "match_weight" in pairs.columns:
            weight = pairs["match_weight"].to_numpy().clip(-WEIGHT_BOUND, WEIGHT_BOUND)
        else:
            weight = np.full(pairs.height, WEIGHT_BOUND)
        known = left_known & right_known & (left != right)
        left, right = np.minimum(left, right)[known], np.maximum(left, right)[known]
        return cls(left, right, np.rint(weight[known] * WEIGHT_UNIT).astype(np.int64))

    def where(self, kept: np.ndarray) -> "_Pairs":
        return _Pairs(self.left[kept], self.right[kept], self.weight[kept])


def _find(wanted: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return place, keys[place] == wanted


def _different_rows(different: pl.DataFrame | None, keys: np.ndarray) -> pl.DataFrame:
    """decision (numbered), node (row), side of the steward's "different" decisions."""
    if different is None or not different.height or not len(keys):
        return pl.DataFrame(schema={"decision": pl.UInt32, "node": pl.Int64, "side": pl.Int64})
    node, known = _find(different["node"].to_numpy(), keys)
    return (
        different.select(decision=pl.col("decision_id").rank("dense"), side=pl.col("side").cast(pl.Int64))
        .with_columns(node=pl.Series(node, dtype=pl.Int64))
        .filter(pl.Series(known))
        .select("decision", "node", "side")
        .unique()
        .sort("decision", "node", "side")
    )


def _components(count: int, pairs: list[_Pairs]) -> np.ndarray:
    left = np.concatenate([part.left for part in pairs])
    right = np.concatenate([part.right for part in pairs])
    graph = coo_matrix((np.ones(len(left), dtype=np.int8), (left, right)), shape=(count, count))
    return connected_components(graph, directed=False)[1] if count else np.empty(0, np.int64)


def _smallest_of(component: np.ndarray) -> np.ndarray:
    """Per node the smallest node of its component."""
    if not len(component):
        return component.astype(np.int64)
    first = np.full(component.max() + 1, len(component), dtype=np.int64)
    np.minimum.at(first, component, np.arange(len(component)))
    return first[component]


class _Conflicts:
    """Which values of national_id and birth_date cannot belong to one person.

    Two values that differ by more than a typo contradict each other, unless a link of the same component joins
    records that have them: then the difference was weighed with all the rest.
    """

    def __init__(self, nodes: pl.DataFrame, links: _Pairs, component: np.ndarray):
        self.codes: dict[str, np.ndarray] = {}
        self.values: dict[str, list] = {}
        for attribute in CONFLICT_ATTRIBUTES:
            column = nodes[attribute].cast(pl.String)
            distinct = column.drop_nulls().unique(maintain_order=True)
            codes = column.cast(pl.Enum(distinct)).to_physical().cast(pl.Int64).fill_null(-1)
            self.codes[attribute] = codes.to_numpy()
            self.values[attribute] = distinct.to_list()
        self._typo = {"national_id": _ids_could_be_typos, "birth_date": _dates_could_be_typos}
        self._known: dict[str, dict[tuple[int, int], bool]] = {
            attribute: {} for attribute in CONFLICT_ATTRIBUTES
        }
        self.component = component
        self.excused: dict[str, set[tuple[int, int, int]]] = {
            attribute: set() for attribute in CONFLICT_ATTRIBUTES
        }
        differing = {
            attribute: (codes[links.left] != codes[links.right])
            & (codes[links.left] >= 0)
            & (codes[links.right] >= 0)
            for attribute, codes in self.codes.items()
        }
        for attribute, rows in differing.items():
            codes = self.codes[attribute]
            left, right = codes[links.left[rows]], codes[links.right[rows]]
            excused = (component[links.left[rows]], np.minimum(left, right), np.maximum(left, right))
            self.excused[attribute] = set(zip(*(part.tolist() for part in excused), strict=True))

    def _differ(self, attribute: str, one: int, other: int) -> bool:
        known = self._known[attribute]
        if (one, other) not in known:
            values = self.values[attribute]
            known[one, other] = not self._typo[attribute](values[one], values[other])
        return known[one, other]

    def between(self, attribute: str, ones: set[int], others: set[int], component: int) -> bool:
        """Whether any two values of two groups of a component contradict each other."""
        for one in ones:
            for other in others:
                if one != other:
                    pair = (one, other) if one < other else (other, one)
                    if (component, *pair) not in self.excused[attribute] and self._differ(attribute, *pair):
                        return True
        return False


def _ids_could_be_typos(one: str, other: str) -> bool:
    """Equally long and at most two characters differ, or one character is missing."""
    if len(one) == len(other):
        return sum(left != right for left, right in zip(one, other, strict=True)) <= 2
    longer, shorter = (one, other) if len(one) > len(other) else (other, one)
    return len(longer) - len(shorter) == 1 and any(
        longer[:place] + longer[place + 1 :] == shorter for place in range(len(longer))
    )


def _dates_could_be_typos(one: str, other: str) -> bool:
    """Of ISO dates: the same year, day and month exchanged, or at most two digits differ."""
    if one[:4] == other[:4]:
        return True
    return sum(left != right for left, right in zip(one, other, strict=False)) <= 2


def _contested(
    component: np.ndarray,
    links: _Pairs,
    evidence: _Pairs,
    different: pl.DataFrame,
    conflicts: _Conflicts,
    merge_weight: float,
) -> np.ndarray:
    """Per component: whether anything in it speaks against its being one cluster."""
    contested = np.zeros(component.max() + 1 if len(component) else 0, dtype=bool)
    for pairs in (links, evidence):
        against = (component[pairs.left] == component[pairs.right]) & (
            pairs.weight < merge_weight * WEIGHT_UNIT
        )
        contested[component[pairs.left[against]]] = True
    for codes in conflicts.codes.values():
        known = np.flatnonzero(codes >= 0)
        held = np.unique(np.stack([component[known], codes[known]]), axis=1)[0]
        contested[held[1:][held[1:] == held[:-1]]] = True
    contested[component[different["node"].to_numpy()]] = True
    return contested


class _Group:
    """Nodes joined so far, with what the checks need of them."""

    __slots__ = ("members", "first", "sides", "values")

    def __init__(self, node: int, conflicts: _Conflicts, sides: set[tuple[int, int]]):
        self.members = [node]
        self.first = node
        self.sides = sides
        self.values = {attribute: {int(codes[node])} - {-1} for attribute, codes in conflicts.codes.items()}

    def take(self, other: "_Group") -> None:
        self.members += other.members
        self.first = min(self.first, other.first)
        self.sides |= other.sides
        for attribute, values in other.values.items():
            self.values[attribute] |= values


def _refusal(one: _Group, other: _Group, conflicts: _Conflicts) -> str | None:
    """Why two groups may not be joined, or None."""
    if any((decision, 1 - side) in other.sides for decision, side in one.sides):
        return STEWARD_DIFFERENT
    for attribute in CONFLICT_ATTRIBUTES:
        component = int(conflicts.component[one.first])
        if conflicts.between(attribute, one.values[attribute], other.values[attribute], component):
            return attribute
    return None


def _split_contested(
    label, component, contested, links, evidence, forced, different, conflicts, merge_weight
) -> None:
    """Writes the clusters of the contested components into `label`."""
    inside = contested[component]
    sides = defaultdict(set)
    for decision, node, side in different.rows():
        sides[node].add((decision, side))
    groups = {node: _Group(node, conflicts, sides[node]) for node in np.flatnonzero(inside).tolist()}
    group_of = {node: node for node in groups}

    kept = forced.where(inside[forced.left])
    for left, right in sorted(set(zip(kept.left.tolist(), kept.right.tolist(), strict=True))):
        one, other = group_of[left], group_of[right]
        if one == other or any(
            (decision, 1 - side) in groups[other].sides for decision, side in groups[one].sides
        ):
            continue
        if len(groups[one].members) < len(groups[other].members):
            one, other = other, one
        for node in groups[other].members:
            group_of[node] = one
        groups[one].take(groups.pop(other))

    # between[a][b] = between[b][a] = [sum of weights, number of compared pairs]
    between: dict[int, dict[int, list[int]]] = {group: {} for group in groups}
    for pairs in (links, evidence):
        kept = pairs.where(inside[pairs.left] & (component[pairs.left] == component[pairs.right]))
        for left, right, weight in zip(
            kept.left.tolist(), kept.right.tolist(), kept.weight.tolist(), strict=True
        ):
            one, other = group_of[left], group_of[right]
            if one == other:
                continue
            total = between[one].get(other)
            if total is None:
                between[one][other] = between[other][one] = [weight, 1]
            else:
                total[0] += weight
                total[1] += 1
    _join_groups(groups, between, conflicts, merge_weight * WEIGHT_UNIT)
    for group in groups.values():
        label[group.members] = group.first


def _join_groups(groups, between, conflicts, threshold: float) -> None:
    """Average linkage: joins the two groups with the highest mean until no mean reaches the threshold."""

    def entry(one: int, other: int, total: list[int]):
        first, second = sorted((groups[one].first, groups[other].first))
        return (-total[0] / total[1], first, second, one, other)

    heap = [
        entry(one, other, total)
        for one, neighbours in between.items()
        for other, total in neighbours.items()
        if one < other and total[0] >= threshold * total[1]
    ]
    heapq.heapify(heap)
    while heap:
        proposed = heapq.heappop(heap)
        one, other = proposed[3:]
        total = between.get(one, {}).get(other)
        if total is None or entry(one, other, total) != proposed:
            continue  # one of the groups has changed since
        if _refusal(groups[one], groups[other], conflicts):
            continue
        if len(between[one]) < len(between[other]):
            one, other = other, one
        groups[one].take(groups.pop(other))
        del between[one][other]
        for neighbour, total in between.pop(other).items():
            if neighbour == one:
                continue
            del between[neighbour][other]
            known = between[one].get(neighbour)
            if known is not None:
                total = [total[0] + known[0], total[1] + known[1]]
            between[one][neighbour] = between[neighbour][one] = total
        # `first` may have changed, so every proposal of the joined group is made anew.
        for neighbour, total in between[one].items():
            if total[0] >= threshold * total[1]:
                heapq.heappush(heap, entry(one, neighbour, total))


def _explain_refusals(
    refused: _Pairs, label: np.ndarray, different: pl.DataFrame, conflicts: _Conflicts
) -> list[str]:
    """The reason for each link whose ends are in two clusters."""
    ends = np.unique(label[np.concatenate([refused.left, refused.right])])
    nodes = np.flatnonzero(np.isin(label, ends))
    sides = defaultdict(set)
    for decision, node, side in different.rows():
        sides[node].add((decision, side))
    groups: dict[int, _Group] = {}
    for node, first in zip(nodes.tolist(), label[nodes].tolist(), strict=True):
        alone = _Group(node, conflicts, set(sides[node]))
        if first in groups:
            groups[first].take(alone)
        else:
            groups[first] = alone
    return [
        _refusal(groups[label[left]], groups[label[right]], conflicts) or WEAK_GROUP_EVIDENCE
        for left, right in zip(refused.left.tolist(), refused.right.tolist(), strict=True)
    ]
