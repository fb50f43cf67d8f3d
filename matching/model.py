"""The matching model: what matching/model.toml declares, with the probabilities training has put in their
place.

A model is a value: it is read from TOML once, replaced by training, and kept as JSON in
identity.match_models.
"""

import math
import tomllib
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from matching.blocking import BlockingRule, read_blocking
from matching.comparisons import ATTRIBUTES, OF_ATTRIBUTES, TAKE_AT_LEAST, TESTS

DEFAULT_PATH = Path(__file__).with_name("model.toml")
# setting -> the least and the most it may be. Of what must be above 0 the least is as good as that.
RANGES = {
    "seed": (0, 2**63 - 1),
    "random_pairs": (1, 1_000_000_000),
    "min_training_pairs": (1, 1_000_000_000),
    "rounds": (1, 1000),
    "iterations": (1, 1_000_000),
    "tolerance": (1e-15, 1),
    "prior_pairs": (1e-9, 1e9),
    "max_frequencies": (1, 1_000_000_000),
    "junk_names": (2, 1_000_000_000),
    "junk_dominant_share": (0, 1),
    "household": (1e-9, 1e9),
}


class ModelError(ValueError):
    """matching/model.toml, or a stored model, says something that cannot be meant."""


@dataclass(frozen=True)
class Level:
    """One outcome of a comparison. m, u: its share among pairs of one person, and of strangers.

    told_by: the attributes whose strongest levels together tell that this one is reached, which then counts as missing;
    none where the data it was trained on say otherwise.
    at_this_level: of strangers who share what a term_frequency test looks at, the share who stand at this
    level and no stronger one (most who share a first name have the very same given name).
    """

    name: str
    test: str | None
    m: float
    u: float
    at_least: float = 0.0
    term_frequency: bool = False
    told_by: tuple[str, ...] = ()
    at_this_level: float = 1.0

    @property
    def weight(self) -> float:
        """log2(m / u)."""
        return math.log2(self.m / self.u)


@dataclass(frozen=True)
class Comparison:
    """The levels of one attribute, strongest first.

    shared: the chance that two people of one household have this attribute in common; 0 where they never do.
    told_by: the attributes whose strongest levels together tell this one, which then counts as missing; none where the
    data it was trained on say otherwise.
    frequencies: value -> share of persons who have it; `rare_frequency` stands for every value not in it.
    """

    name: str
    levels: tuple[Level, ...]
    shared: float = 0.0
    shared_is_learnt: bool = False
    told_by: tuple[str, ...] = ()
    frequencies: dict[str, float] = field(default_factory=dict)
    rare_frequency: float | None = None
    support: float = 0.0

    def level(self, number: int) -> Level:
        """The level with this number: 0 is "else", the last one declared."""
        return self.levels[len(self.levels) - 1 - number]


@dataclass(frozen=True)
class Training:
    seed: int
    random_pairs: int
    min_training_pairs: int
    rounds: int
    iterations: int
    tolerance: float
    prior_pairs: float
    max_frequencies: int
    junk_names: int
    junk_dominant_share: float


@dataclass(frozen=True)
class Model:
    """Everything scoring needs.

    prior, household_prior: chance that two random profiles are one person, or two people of one household;
    None before training, when 1 / (number of profiles) is taken.
    junk: attribute -> values that many clearly different names share; they count as missing.
    places: city -> postal areas (postal_code without its last three characters) of the people who live there.
    notes: what training has to say, in plain words.
    """

    comparisons: tuple[Comparison, ...]
    blocking: tuple[BlockingRule, ...]
    training: Training
    auto_merge: float
    flag_review: float
    prior: float | None = None
    household_prior: float | None = None
    household: float = 1.0
    profiles: int = 0
    training_pairs: int = 0
    junk: dict[str, list[str]] = field(default_factory=dict)
    places: dict[str, list[str]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def comparison(self, name: str) -> Comparison:
        return next(comparison for comparison in self.comparisons if comparison.name == name)

    def priors(self, profiles: int) -> tuple[float, float]:
        """The chances of same person and same household for a pair, written default where not trained."""
        if self.prior is not None:
            return self.prior, self.household_prior
        chance = 1 / max(2, profiles)
        return chance, min(0.25, self.household * chance)

    def to_json(self) -> str:
        return msgspec.json.encode(self, order="sorted").decode()

    def decide(self, probability: float) -> str:
        if probability >= self.auto_merge:
            return "AUTO_MERGE"
        return "FLAG_REVIEW" if probability >= self.flag_review else "REJECT"


def _take(table: dict, known: dict, where: str) -> dict:
    """The entries of `table` as `known` (name -> type) and RANGES want them.

    Raises ModelError naming what is wrong.
    """
    if not isinstance(table, dict):
        raise ModelError(f"{where}: must be a table, not {table!r}")
    for key in table:
        if key not in known:
            raise ModelError(f"{where}: unknown setting {key!r} (known: {', '.join(known)})")
    for key, kind in known.items():
        if key not in table:
            raise ModelError(f"{where}: setting {key!r} is missing")
        value = table[key]
        if isinstance(value, bool) or not isinstance(value, (int, float) if kind is float else kind):
            raise ModelError(f"{where}: {key} must be a {kind.__name__}, not {value!r}")
        least, most = RANGES.get(key, (-math.inf, math.inf))
        if not least <= value <= most:
            raise ModelError(f"{where}: {key} must be from {least:g} to {most:g}, not {value!r}")
    return table


def _read_level(table: dict, attribute: str, where: str, last: bool) -> Level:
    if not isinstance(table, dict) or not isinstance(table.get("name"), str):
        raise ModelError(f"{where}: every level needs a name")
    where = f"{where}, level {table['name']!r}"
    unknown = set(table) - {"name", "test", "at_least", "m", "u", "term_frequency", "told_by"}
    if unknown:
        raise ModelError(f"{where}: unknown setting {sorted(unknown)[0]!r}")
    if last != ("test" not in table):
        raise ModelError(
            f"{where}: the last level, and only it, has no test" if last else f"{where}: needs a test"
        )
    test = table.get("test")
    if not last and (not isinstance(test, str) or test not in TESTS):
        raise ModelError(f"{where}: unknown test {test!r} (known: {', '.join(sorted(TESTS))})")
    if attribute not in OF_ATTRIBUTES.get(test, ATTRIBUTES):
        raise ModelError(f"{where}: the test {test!r} is one of {' and '.join(OF_ATTRIBUTES[test])} alone")
    at_least, takes = table.get("at_least"), test in TAKE_AT_LEAST
    if takes != (at_least is not None):
        raise ModelError(f"{where}: the test {test!r} {'needs' if takes else 'takes no'} at_least")
    if takes and not (type(at_least) in (int, float) and 0 < at_least <= 1):
        raise ModelError(f"{where}: at_least must be a similarity above 0, at most 1, not {at_least!r}")
    if not isinstance(table.get("term_frequency", False), bool):
        raise ModelError(f"{where}: term_frequency must be true or false, not {table['term_frequency']!r}")
    for chance in ("m", "u"):
        value = table.get(chance)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1:
            raise ModelError(f"{where}: {chance} must be a probability between 0 and 1, not {value!r}")
    return Level(
        name=table["name"],
        test=test,
        m=float(table["m"]),
        u=float(table["u"]),
        at_least=float(at_least or 0.0),
        term_frequency=table.get("term_frequency", False),
        told_by=_read_told_by(table, where),
    )


def _read_told_by(table: dict, where: str) -> tuple[str, ...]:
    told_by = table.get("told_by", [])
    if not isinstance(told_by, list) or not all(name in ATTRIBUTES for name in told_by):
        raise ModelError(f"{where}: told_by must be a list of attributes, not {told_by!r}")
    return tuple(told_by)


def _read_comparison(table: dict, place: int) -> Comparison:
    where = f"[[comparison]] number {place}"
    name = table.get("name") if isinstance(table, dict) else table
    if name not in ATTRIBUTES:
        raise ModelError(f"{where}: name must be one of {', '.join(ATTRIBUTES)}, not {name!r}")
    where = f"[[comparison]] {name}"
    unknown = set(table) - {"name", "levels", "shared", "shared_at_first", "told_by"}
    if unknown:
        raise ModelError(f"{where}: unknown setting {sorted(unknown)[0]!r}")
    declared = table.get("levels")
    if not isinstance(declared, list) or len(declared) < 2:
        raise ModelError(f"{where}: needs a list of at least two levels, strongest first")
    levels = tuple(
        _read_level(level, name, where, last=number == len(declared))
        for number, level in enumerate(declared, start=1)
    )
    for chance in ("m", "u"):
        total = sum(getattr(level, chance) for level in levels)
        if abs(total - 1) > 0.005:
            raise ModelError(f"{where}: the {chance} of its levels add up to {total:.4f}, not to 1")
    shared = table.get("shared", 0.0)
    if not isinstance(shared, bool | float) or not 0 <= shared <= 1:
        raise ModelError(f"{where}: shared must be true or a chance between 0 and 1, not {shared!r}")
    learnt = shared is True
    at_first = table.get("shared_at_first", 0.5)
    if not isinstance(at_first, float) or not 0 < at_first < 1 or ("shared_at_first" in table and not learnt):
        raise ModelError(f"{where}: shared_at_first must be a chance, beside shared = true, not {at_first!r}")
    told_by = _read_told_by(table, where)
    if name in (*told_by, *(teller for level in levels for teller in level.told_by)):
        raise ModelError(f"{where}: told_by must name other attributes")
    return Comparison(
        name=name,
        levels=levels,
        shared=at_first if learnt else float(shared),
        shared_is_learnt=learnt,
        told_by=told_by,
    )


def read_model(path: Path = DEFAULT_PATH) -> Model:
    """The untrained model that a TOML file declares. Raises ModelError that names the table with the
    mistake."""
    try:
        tables = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ModelError(f"{path}: {error}") from None
    unknown = set(tables) - {"thresholds", "training", "prior", "comparison", "blocking"}
    if unknown:
        raise ModelError(f"{path}: unknown table [{sorted(unknown)[0]}]")
    thresholds = _take(
        tables.get("thresholds", {}), {"auto_merge": float, "flag_review": float}, "[thresholds]"
    )
    if not 0 < thresholds["flag_review"] <= thresholds["auto_merge"] < 1:
        raise ModelError("[thresholds]: 0 < flag_review <= auto_merge < 1 must hold")
    training = _take(tables.get("training", {}), Training.__annotations__, "[training]")
    prior = _take(tables.get("prior", {}), {"household": float}, "[prior]")
    comparisons = tuple(
        _read_comparison(table, place) for place, table in enumerate(tables.get("comparison", []), start=1)
    )
    names = [comparison.name for comparison in comparisons]
    if not names or len(set(names)) != len(names):
        raise ModelError("[[comparison]]: at least one is needed, and one per attribute")
    try:
        blocking = read_blocking(tables.get("blocking", []))
    except ValueError as error:
        raise ModelError(str(error)) from None
    return Model(
        comparisons=comparisons,
        blocking=blocking,
        training=Training(**training),
        auto_merge=float(thresholds["auto_merge"]),
        flag_review=float(thresholds["flag_review"]),
        household=float(prior["household"]),
    )


def model_from_json(text: str) -> Model:
    """The model that `Model.to_json` wrote."""
    return msgspec.json.decode(text, type=Model)


__all__ = [
    "Comparison",
    "Level",
    "Model",
    "ModelError",
    "Training",
    "model_from_json",
    "read_model",
    "replace",
]
