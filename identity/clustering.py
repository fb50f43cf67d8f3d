"""Clusters of records that hold together as a whole.

The invariant: no cluster holds both sides of a steward's "different", nor two values that contradict each
other and that no link has weighed, nor two groups whose compared pairs speak against each other on average.

1. Links (pairs that merge by themselves) and the steward's "same" make connected components. A component in
   which nothing speaks against anything is one cluster; this settles most of them, and in whole columns.
2. A contested component starts with each node (and what a steward joined) as a group. The two groups with the
   highest mean weight over all compared pairs between them are joined first, ties by the smallest node, as
   long as that mean reaches `merge_weight` (average linkage, Sokal & Michener 1958). Components do not depend on
   each other: small ones in which nothing can be contradicted take their steps side by side, in whole columns.
3. Groups that contradict each other are not joined: the link is refused, with its reason.

The result depends on a component's own nodes, links and evidence alone, so clustering only what changed
gives the same clusters as clustering everything. Weights are rounded to thousandths, so that sums do not
depend on order.
"""

import heapq
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import polars as pl
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

# A weight beyond this is as good as certain; without a bound one pair would outvote many.
WEIGHT_BOUND = 20.0
WEIGHT_UNIT = 1000
CONFLICT_ATTRIBUTES = ("national_id", "birth_date")
# Contested components of more nodes are joined one by one: all at once each round looks at all that is left of them.
SMALL = 100

STEWARD_DIFFERENT = "steward_different"
WEAK_GROUP_EVIDENCE = "weak_group_evidence"


@dataclass(frozen=True)
class Pairs:
    """Pairs of nodes, the smaller on the left, with their weights in thousandths."""

    left: np.ndarray
    right: np.ndarray
    weight: np.ndarray

    @classmethod
    def of(cls, one: np.ndarray, other: np.ndarray, weight: np.ndarray) -> "Pairs":
        """Pairs in any order of their sides, with weights as log2 odds."""
        thousandths = np.rint(weight.clip(-WEIGHT_BOUND, WEIGHT_BOUND) * WEIGHT_UNIT)
        return cls(np.minimum(one, other), np.maximum(one, other), thousandths.astype(np.int32))

    def where(self, kept: np.ndarray) -> "Pairs":
        return Pairs(self.left[kept], self.right[kept], self.weight[kept])


NO_PAIRS = Pairs(*(np.empty(0, np.int32) for _ in range(3)))


@dataclass(frozen=True)
class Clusters:
    """label: per node the smallest node of its cluster. refused: the numbers of the links that do not stand;
    reasons: why, for each."""

    label: np.ndarray
    refused: np.ndarray
    reasons: list[str]


def cluster(
    count: int,
    links: Pairs,
    evidence: Pairs,
    forced: Pairs = NO_PAIRS,
    different: pl.DataFrame | None = None,
    traits: pl.DataFrame | None = None,
    merge_weight: float = 3.17,
) -> Clusters:
    """The clusters of the nodes 0 to `count` - 1, and the links that were refused.

    links: the pairs that merge by themselves. evidence: all other compared pairs. forced: pairs a steward called
    the same. different: decision_id, node, side (0 or 1); no cluster holds both sides of one decision, whatever
    forces it. traits: node, national_id, birth_date of nodes that have one of them. merge_weight: log2 odds that
    a mean must reach.
    """
    different = _different_rows(different)
    component = components(count, [links, forced])
    conflicts = _Conflicts(count, traits, links, component)
    label = _smallest_of(component)
    contradictory = _contradictory(component, different, conflicts)
    contested = contradictory | _speaks_against(component, links, evidence, merge_weight)
    if contested.any():
        one_by_one = contradictory | (np.bincount(component) > SMALL)
        one_by_one[component[forced.left]] = True
        _join_at_once(label, component, contested & ~one_by_one, links, evidence, merge_weight)
        one_by_one &= contested
        if one_by_one.any():
            _join_one_by_one(
                label, component, one_by_one, links, evidence, forced, different, conflicts, merge_weight
            )
    refused = np.flatnonzero(label[links.left] != label[links.right])
    return Clusters(label, refused, _explain_refusals(links.where(refused), label, different, conflicts))


def _different_rows(different: pl.DataFrame | None) -> pl.DataFrame:
    """decision (numbered), node, side of the steward's "different" decisions."""
    if different is None:
        return pl.DataFrame(schema={"decision": pl.UInt32, "node": pl.Int64, "side": pl.Int64})
    return (
        different.select(
            pl.col("decision_id").rank("dense").alias("decision"),
            pl.col("node").cast(pl.Int64),
            pl.col("side").cast(pl.Int64),
        )
        .unique()
        .sort("decision", "node", "side")
    )


def components(count: int, pairs: list[Pairs]) -> np.ndarray:
    """Per node of 0 to `count` - 1 the number of the connected component that these pairs put it into."""
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

    Two values that differ by more than a typo contradict each other, unless a link of the same component
    joins records that have them: then the difference was weighed with all the rest, and an id one slip
    away from it stands with it.
    """

    def __init__(self, count: int, traits: pl.DataFrame | None, links: Pairs, component: np.ndarray):
        # Per attribute the number of each node's value, -1 for none, and the values.
        self.codes: dict[str, np.ndarray] = {}
        self.values: dict[str, list] = {}
        for attribute in CONFLICT_ATTRIBUTES:
            self.values[attribute] = []
            if traits is None:
                continue
            known = traits.select("node", value=pl.col(attribute).cast(pl.String)).drop_nulls()
            distinct = known["value"].unique(maintain_order=True)
            if not distinct.len():
                continue
            codes = np.full(count, -1, np.int64)
            codes[known["node"].to_numpy()] = known["value"].cast(pl.Enum(distinct)).to_physical().to_numpy()
            self.codes[attribute] = codes
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
        values = ones | others
        return any(
            self._apart(attribute, one, other)
            and not self._is_excused(attribute, one, other, values, component)
            for one in ones
            for other in others
        )

    def _apart(self, attribute: str, one: int, other: int) -> bool:
        return one != other and self._differ(attribute, min(one, other), max(one, other))

    def _is_excused(self, attribute: str, one: int, other: int, values: set[int], component: int) -> bool:
        """Whether a link weighed this difference; or one between ids that these are one slip away from.

        A slip in a number that is one person's own is hardly another person's; a birth date one digit off is.
        """
        if (component, min(one, other), max(one, other)) in self.excused[attribute]:
            return True
        return attribute == "national_id" and any(
            (component, min(near, far), max(near, far)) in self.excused[attribute]
            and self._one_slip(attribute, one, near)
            and self._one_slip(attribute, other, far)
            for near in values
            for far in values
        )

    def _one_slip(self, attribute: str, one: int, other: int) -> bool:
        """Whether two values are equal, but for one character wrong or two neighbours exchanged."""
        left, right = self.values[attribute][one], self.values[attribute][other]
        if len(left) != len(right):
            return False
        wrong = [place for place in range(len(left)) if left[place] != right[place]]
        if len(wrong) == 2:
            first, second = wrong
            return second == first + 1 and left[first] == right[second] and left[second] == right[first]
        return len(wrong) < 2


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


def _speaks_against(component: np.ndarray, links: Pairs, evidence: Pairs, merge_weight: float) -> np.ndarray:
    """Per component: whether a compared pair in it says that it is not one cluster."""
    against = np.zeros(component.max() + 1 if len(component) else 0, dtype=bool)
    for pairs in (links, evidence):
        of_left = component[pairs.left]
        inside = (pairs.weight < merge_weight * WEIGHT_UNIT) & (of_left == component[pairs.right])
        against[of_left[inside]] = True
    return against


def _contradictory(component: np.ndarray, different: pl.DataFrame, conflicts: _Conflicts) -> np.ndarray:
    """Per component: whether two of its groups may not be joined, whatever their pairs say."""
    contradictory = np.zeros(component.max() + 1 if len(component) else 0, dtype=bool)
    for attribute, codes in conflicts.codes.items():
        known = np.flatnonzero(codes >= 0)
        values = len(conflicts.values[attribute])
        held = np.unique(component[known].astype(np.int64) * values + codes[known]) // values
        contradictory[held[1:][held[1:] == held[:-1]]] = True
    contradictory[component[different["node"].to_numpy()]] = True
    return contradictory


class _Traits:
    """What may keep two groups apart: sides of steward decisions, national ids, birth dates."""

    __slots__ = ("component", "sides", "values")

    def __init__(self, component: int):
        self.component = component
        self.sides: set[tuple[int, int]] = set()
        self.values: dict[str, set[int]] = {attribute: set() for attribute in CONFLICT_ATTRIBUTES}

    def take(self, other: "_Traits") -> None:
        self.sides |= other.sides
        for attribute, values in other.values.items():
            self.values[attribute] |= values


def _traits_of(groups: dict[int, int], different: pl.DataFrame, conflicts: _Conflicts) -> dict[int, _Traits]:
    """The traits of each group that has any. groups: node -> group."""
    traits: dict[int, _Traits] = {}

    def of(node: int) -> _Traits:
        return traits.setdefault(groups[node], _Traits(int(conflicts.component[node])))

    for decision, node, side in different.rows():
        if node in groups:
            of(node).sides.add((decision, side))
    nodes = np.fromiter(groups, np.int64, len(groups))
    for attribute, codes in conflicts.codes.items():
        known = nodes[codes[nodes] >= 0]
        for node, code in zip(known.tolist(), codes[known].tolist(), strict=True):
            of(node).values[attribute].add(code)
    return traits


def _refusal(one: _Traits | None, other: _Traits | None, conflicts: _Conflicts) -> str | None:
    """Why two groups may not be joined, or None."""
    if one is None or other is None:
        return None
    if any((decision, 1 - side) in other.sides for decision, side in one.sides):
        return STEWARD_DIFFERENT
    for attribute in CONFLICT_ATTRIBUTES:
        if conflicts.between(attribute, one.values[attribute], other.values[attribute], one.component):
            return attribute
    return None


class _Groups:
    """Groups of nodes, named by their smallest node, that are joined two at a time."""

    def __init__(self, nodes: np.ndarray, different: pl.DataFrame, conflicts: _Conflicts):
        self.parent = dict(zip(nodes.tolist(), nodes.tolist(), strict=True))
        self.conflicts = conflicts
        self.traits = _traits_of(self.parent, different, conflicts)

    def find(self, node: int) -> int:
        while self.parent[node] != node:
            self.parent[node] = self.parent[self.parent[node]]
            node = self.parent[node]
        return node

    def refusal(self, one: int, other: int) -> str | None:
        return _refusal(self.traits.get(one), self.traits.get(other), self.conflicts)

    def join(self, one: int, other: int) -> None:
        """Joins the group `other` to the group `one`, which has the smaller name."""
        self.parent[other] = one
        added = self.traits.pop(other, None)
        if added and one in self.traits:
            self.traits[one].take(added)
        elif added:
            self.traits[one] = added


def _compared_within(
    component: np.ndarray, chosen: np.ndarray, links: Pairs, evidence: Pairs
) -> pl.DataFrame:
    """left, right, weight: the compared pairs within the chosen components."""
    within = [
        pairs.where(chosen[component[pairs.left]] & (component[pairs.left] == component[pairs.right]))
        for pairs in (links, evidence)
    ]
    return pl.concat(
        pl.DataFrame({"left": pairs.left, "right": pairs.right, "weight": pairs.weight}).cast(pl.Int64)
        for pairs in within
    )


def _join_at_once(
    label: np.ndarray,
    component: np.ndarray,
    chosen: np.ndarray,
    links: Pairs,
    evidence: Pairs,
    merge_weight: float,
) -> None:
    """Average linkage in all the chosen components at once, a step in each of them a round; no two groups of
    theirs contradict each other. Writes the clusters into `label`."""
    # Numbered by component, so that what is sorted by number lies by component.
    nodes = np.flatnonzero(chosen[component])
    nodes = nodes[np.argsort(component[nodes], kind="stable")]
    count = len(nodes)
    number = np.zeros(len(component), np.int64)
    number[nodes] = np.arange(count)
    of_component = component[nodes]
    compared = _compared_within(component, chosen, links, evidence)
    one, other = number[compared["left"].to_numpy()], number[compared["right"].to_numpy()]
    weight, pairs = compared["weight"].to_numpy(), np.ones(len(one), np.int64)
    group = np.arange(count)
    while len(one):
        # Between two groups, named by their smallest node: the sum of the weights, and the number of pairs.
        key = one * count + other
        order = np.argsort(key)
        first = np.flatnonzero(np.diff(key[order], prepend=-1))
        weight, pairs = (np.add.reduceat(part[order], first) for part in (weight, pairs))
        one, other = one[order[first]], other[order[first]]
        mean = np.where(weight >= merge_weight * WEIGHT_UNIT * pairs, weight / pairs, -np.inf)
        # The best of each component, the first among equals; components without any are done.
        start = np.flatnonzero(np.diff(of_component[one], prepend=-1))
        best = np.repeat(np.maximum.reduceat(mean, start), np.diff(start, append=len(one)))
        going = best > -np.inf
        joined = np.flatnonzero(going & (mean == best))
        joined = joined[np.diff(of_component[one[joined]], prepend=-1) > 0]
        group[other[joined]] = one[joined]
        one, other = group[one], group[other]
        rest = going & (one != other)
        one, other = np.minimum(one, other)[rest], np.maximum(one, other)[rest]
        weight, pairs = weight[rest], pairs[rest]
    while (group != group[group]).any():
        group = group[group]
    label[nodes] = nodes[group]


def _join_one_by_one(
    label: np.ndarray,
    component: np.ndarray,
    chosen: np.ndarray,
    links: Pairs,
    evidence: Pairs,
    forced: Pairs,
    different: pl.DataFrame,
    conflicts: _Conflicts,
    merge_weight: float,
) -> None:
    """Average linkage in the chosen components, one after the other. Writes the clusters into `label`."""
    inside = chosen[component]
    nodes = np.flatnonzero(inside)
    groups = _Groups(nodes, different, conflicts)
    kept = forced.where(inside[forced.left])
    for left, right in sorted(set(zip(kept.left.tolist(), kept.right.tolist(), strict=True))):
        one, other = sorted((groups.find(left), groups.find(right)))
        # A steward's "same" outweighs contradicting values, not a steward's "different".
        if one != other and groups.refusal(one, other) != STEWARD_DIFFERENT:
            groups.join(one, other)

    totals = _compared_within(component, chosen, links, evidence)
    if len(kept.left):
        group_of = pl.DataFrame({"node": nodes, "group": [groups.find(node) for node in nodes.tolist()]})
        ends = [
            totals.select(node=side).join(group_of, on="node", how="left", maintain_order="left")["group"]
            for side in ("left", "right")
        ]
        totals = totals.with_columns(ends[0].alias("left"), ends[1].alias("right")).select(
            pl.min_horizontal("left", "right"), pl.max_horizontal("left", "right").alias("right"), "weight"
        )
    totals = (
        totals.filter(pl.col("left") != pl.col("right"))
        .group_by("left", "right", maintain_order=True)
        .agg(pl.col("weight").sum(), pl.len().alias("pairs"))
    )
    of_component = component[totals["left"].to_numpy()]
    totals = totals[np.argsort(of_component, kind="stable")]
    starts = np.flatnonzero(np.diff(np.sort(of_component), prepend=-1)).tolist()
    rows = totals.rows()
    for start, end in pairwise([*starts, len(rows)]):
        _join_groups(groups, rows[start:end], merge_weight * WEIGHT_UNIT)
    label[nodes] = [groups.find(node) for node in nodes.tolist()]


def _join_groups(groups: _Groups, totals: list[tuple[int, int, int, int]], threshold: float) -> None:
    """Average linkage in one component: joins the groups with the highest mean until none reaches the
    threshold.

    totals: smaller group, other group, sum of the weights of the compared pairs between them, number of
    these.
    """
    between: dict[int, dict[int, tuple[int, int]]] = {}
    for one, other, weight, pairs in totals:
        between.setdefault(one, {})[other] = between.setdefault(other, {})[one] = (weight, pairs)
    heap = [
        (-weight / pairs, one, other) for one, other, weight, pairs in totals if weight >= threshold * pairs
    ]
    heapq.heapify(heap)
    while heap:
        mean, one, other = heapq.heappop(heap)
        neighbours = between.get(one, {})
        total = neighbours.get(other)
        if total is None or -total[0] / total[1] != mean:
            continue  # one of the groups has changed since
        if groups.refusal(one, other):
            continue
        groups.join(one, other)
        del neighbours[other]
        for neighbour, (weight, pairs) in between.pop(other).items():
            if neighbour == one:
                continue
            theirs = between[neighbour]
            del theirs[other]
            if neighbour in neighbours:
                weight += neighbours[neighbour][0]
                pairs += neighbours[neighbour][1]
            neighbours[neighbour] = theirs[one] = (weight, pairs)
            if weight >= threshold * pairs:
                heapq.heappush(heap, (-weight / pairs, min(one, neighbour), max(one, neighbour)))


def _explain_refusals(
    refused: Pairs, label: np.ndarray, different: pl.DataFrame, conflicts: _Conflicts
) -> list[str]:
    """The reason for each link whose ends are in two clusters."""
    if not conflicts.codes and not different.height:
        return [WEAK_GROUP_EVIDENCE] * len(refused.left)
    ends = np.unique(label[np.concatenate([refused.left, refused.right])])
    nodes = np.flatnonzero(np.isin(label, ends))
    traits = _traits_of(dict(zip(nodes.tolist(), label[nodes].tolist(), strict=True)), different, conflicts)
    return [
        _refusal(traits.get(one), traits.get(other), conflicts) or WEAK_GROUP_EVIDENCE
        for one, other in zip(label[refused.left].tolist(), label[refused.right].tolist(), strict=True)
    ]
