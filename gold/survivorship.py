"""From the records of customers to their golden records: a pure function of columns, no database in it.

1. Count the distinct values of each attribute among a customer's records: by whom, how often, first and last.
2. Put the values in order by the attribute's chain of strategies; the first is golden. Equal by every
   strategy, the value that sorts first by its bytes is.
3. An address survives whole: address, city and postal_code are one value up to here, and are taken apart now.
4. The standing override of a steward is golden, whatever the records say.

Memory: beside the records, their numbers once more and the values of one attribute at a time.
"""

import numpy as np
import polars as pl

from db.errors import ConfigurationError

# As the enumerations gold.canonical_attribute and gold.golden_rule have them.
ATTRIBUTES = ("name", "email", "phone", "birth_date", "national_id", "address", "city", "postal_code")
RULES = (
    "priority", "most_frequent", "most_recent", "most_complete", "longest", "oldest",
    "only_value", "tie_break", "steward_override",
)  # fmt: skip
ONLY_VALUE, TIE_BREAK = RULES.index("only_value"), RULES.index("tie_break")
# The attributes of one address, which share a chain and survive together.
ADDRESS = ("address", "city", "postal_code")
CHAINED = tuple(attribute for attribute in ATTRIBUTES if attribute not in ADDRESS[1:])
# Between the parts of an address while they are one value.
SEPARATOR = "\x1f"
SOURCES_SEPARATOR = ","
MOST_SOURCES = 63

# The order in which records were seen; at the same time, the order of the bytes of their keys.
SEEN = (pl.col("customer"), pl.col("last_seen"), pl.col("record_key").reinterpret(signed=False))
COUNTED = ("customer", "record_key", "first_seen", "last_seen", "record_count", "source_bits", "standing")

# By attribute its steps in order, each (strategy, source order of `priority`).
Chains = dict[str, list[tuple[str, list[str] | None]]]


def survive(
    records: pl.DataFrame, chains: Chains, overrides: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The values of customers and their golden records.

    records: customer (a number), record_key, event_ts (microseconds), source_system, and the ATTRIBUTES as
    text. overrides: customer, attribute, value, made_at (microseconds), at most one per customer and attribute.
    Values: customer, record_key, first_seen, last_seen (null: when first seen), record_count, attribute, rule,
    is_golden, source_list, value; in order of customer and attribute. Golden records: customer, record_count,
    source_count, canonical_*; in order of customer.
    """
    sources = sorted(records["source_system"].unique())
    if len(sources) > MOST_SOURCES:
        raise ConfigurationError(
            f"There are {len(sources)} sources; golden records count them in one number of {MOST_SOURCES} "
            "bits. Give several of them one name in the sources file."
        )
    source_bits = {source: 1 << place for place, source in enumerate(sources)}
    sightings = _sightings(records, source_bits)
    values = _values(sightings, chains, source_bits)
    values = _overridden(values, overrides.join(records, on="customer", how="semi"))
    return values, _golden_records(sightings, values)


def _sightings(records: pl.DataFrame, source_bits: dict[str, int]) -> pl.DataFrame:
    """The records in order of customer, time and key, each as if it were a value that was seen once."""
    place = records["source_system"].cast(pl.Enum(list(source_bits))).to_physical()
    parts = [pl.col(part).str.replace_all(SEPARATOR, " ", literal=True) for part in ADDRESS]
    sightings = records.with_columns(parts).select(
        "customer",
        "record_key",
        pl.col("event_ts").alias("first_seen"),
        pl.col("event_ts").alias("last_seen"),
        pl.lit(1, pl.Int64).alias("record_count"),
        pl.lit(0, pl.Int64).alias("standing"),
        pl.Series("source_bits", np.left_shift(1, place.cast(pl.Int64).to_numpy()), dtype=pl.Int64),
        _filled(ATTRIBUTES).alias("filled"),
        _filled(ADDRESS).alias("address_filled"),
        *ATTRIBUTES,
    )
    # A row out of many chunks is looked for in each.
    sightings = sightings.rechunk()
    return sightings[sightings.select(pl.arg_sort_by(SEEN)).to_series()]


def _filled(attributes: tuple[str, ...]) -> pl.Expr:
    """How many of the attributes a record has."""
    return pl.sum_horizontal(pl.col(attribute).is_not_null().cast(pl.Int64) for attribute in attributes)


def _values(sightings: pl.DataFrame, chains: Chains, source_bits: dict[str, int]) -> pl.DataFrame:
    """One row per customer, attribute and distinct value, with its rule and whether it is golden."""
    found = {}
    for attribute in CHAINED:
        said, filled = pl.col(attribute), "filled"
        if attribute == "address":
            whole = pl.concat_str([pl.col(part).fill_null("") for part in ADDRESS], separator=SEPARATOR)
            said, filled = pl.when(pl.col("address_filled") > 0).then(whole), "address_filled"
        counted = _distinct(sightings.select(*COUNTED, pl.col(filled).alias("filled"), said.alias("value")))
        ranked = counted.with_columns(standing=_standing(counted, chains[attribute], source_bits))
        if attribute != "address":
            found[attribute] = ranked
            continue
        # A part that several addresses share goes with the best of them.
        ranked = ranked[ranked.select(pl.arg_sort_by(SEEN)).to_series()]
        parts = ranked["value"].str.split_exact(SEPARATOR, len(ADDRESS) - 1).struct.unnest()
        for part, values in zip(ADDRESS, parts, strict=True):
            found[part] = _distinct(ranked.with_columns(value=values.replace("", None)))
    values = pl.concat(
        [
            rows.with_columns(attribute=pl.lit(ATTRIBUTES.index(name), pl.Int64))
            for name, rows in found.items()
        ],
        rechunk=True,
    )
    in_order = (values["customer"] * len(ATTRIBUTES) + values["attribute"]).to_numpy().argsort(kind="stable")
    # No source says the values of no record; polars needs something to replace.
    names = {0: ""} | {
        bits: SOURCES_SEPARATOR.join(source for source, bit in source_bits.items() if bits & bit)
        for bits in values["source_bits"].unique()
    }
    return values.select(
        "customer",
        "record_key",
        "first_seen",
        pl.when(pl.col("last_seen") > pl.col("first_seen")).then("last_seen").alias("last_seen"),
        "record_count",
        attribute=_named(pl.col("attribute"), ATTRIBUTES),
        rule=_named(pl.col("standing") % len(RULES), RULES),
        is_golden=pl.col("standing") < len(RULES),
        source_list=pl.col("source_bits").replace_strict(names, return_dtype=pl.Enum(list(names.values()))),
        value="value",
    )[in_order]


def _named(number: pl.Expr, names: tuple[str, ...]) -> pl.Expr:
    return number.cast(pl.UInt8).cat.to(pl.Enum(names))


def _distinct(rows: pl.DataFrame) -> pl.DataFrame:
    """One row per customer and distinct value of rows in the order SEEN; a row may have none.

    Of rows with the same value the latest has the record_key; the lowest standing holds.
    """
    said = rows["value"].is_not_null().to_numpy().nonzero()[0]
    value = rows["value"].gather(said)
    begins = _begins(rows["customer"].to_numpy()[said])
    # Most customers say one value, and their rows stand together already.
    others = (value != value.shift(1)).fill_null(False).to_numpy() & ~begins
    customer = begins.cumsum() - 1
    contested = np.zeros(len(said), bool)
    contested[customer[others]] = True
    contested = contested[customer].nonzero()[0]
    together = pl.DataFrame(
        {"customer": customer[contested], "value": value.gather(contested), "row": contested}
    ).sort("customer", "value", maintain_order=True)
    order = np.arange(len(said))
    order[contested] = together["row"].to_numpy()
    begins[contested] = together.select(
        (pl.col("value") != pl.col("value").shift(1, fill_value=""))
        | (pl.col("customer") != pl.col("customer").shift(1, fill_value=-1))
    ).to_series()
    first = begins.nonzero()[0]
    last = np.append(first[1:], len(said))[: len(first)] - 1
    column = {name: rows[name].to_numpy()[said[order]] for name in rows.columns if name != "value"}
    return pl.DataFrame(
        {
            "customer": column["customer"][first],
            "record_key": column["record_key"][last],
            "first_seen": np.minimum.reduceat(column["first_seen"], first),
            "last_seen": column["last_seen"][last],
            "record_count": np.add.reduceat(column["record_count"], first),
            "source_bits": np.bitwise_or.reduceat(column["source_bits"], first),
            "filled": np.maximum.reduceat(column["filled"], first),
            "standing": np.minimum.reduceat(column["standing"], first),
            "value": value.gather(order[first]),
        }
    )


def _begins(customer: np.ndarray) -> np.ndarray:
    """Where the rows of the next customer begin, of rows in the order of customers."""
    return np.append(True, customer[1:] != customer[:-1])[: len(customer)]


def _standing(
    counted: pl.DataFrame, chain: list[tuple[str, list[str] | None]], source_bits: dict[str, int]
) -> pl.Series:
    """Of each value the place among the customer's, from 0, times len(RULES), plus the rule.

    The rule is the first step in which the value differs from its opponent: for the first in place the
    runner-up, for another the first.
    """
    standing = np.full(counted.height, ONLY_VALUE)
    rivals = counted["customer"].is_duplicated().to_numpy().nonzero()[0]
    merits = counted[rivals].select(
        "customer", *(_preference(strategy, order, source_bits) for strategy, order in chain), "value"
    )
    in_order = merits.select(pl.arg_sort_by(merits.columns)).to_series()
    merits = merits[in_order]
    begins = _begins(merits["customer"].to_numpy())
    row = np.arange(len(begins))
    leader = row[begins][begins.cumsum() - 1]
    opponent = np.where(begins, row + 1, leader)
    rule = np.full(len(row), TIE_BREAK)
    for strategy, _ in reversed(chain):
        merit = merits[strategy].to_numpy()
        rule = np.where(merit != merit[opponent], RULES.index(strategy), rule)
    standing[rivals[in_order.to_numpy()]] = (row - leader) * len(RULES) + rule
    return pl.Series(standing, dtype=pl.Int64)


def _preference(strategy: str, source_order: list[str] | None, source_bits: dict[str, int]) -> pl.Expr:
    """What a strategy prefers, as a number that is the smaller the better, by the strategy's name."""
    if strategy == "priority":
        rank = pl.lit(len(source_order), pl.Int64)
        for place, source in reversed(list(enumerate(source_order))):
            said = pl.col("source_bits") & source_bits.get(source, 0)
            rank = pl.when(said != 0).then(pl.lit(place, pl.Int64)).otherwise(rank)
        return rank.alias(strategy)
    return {
        "most_frequent": -pl.col("record_count"),
        "most_recent": -pl.col("last_seen"),
        "most_complete": -pl.col("filled"),
        "longest": -pl.col("value").str.len_chars().cast(pl.Int64),
        "oldest": pl.col("first_seen"),
    }[strategy].alias(strategy)


def _overridden(values: pl.DataFrame, overrides: pl.DataFrame) -> pl.DataFrame:
    """The values with what stewards say: their value is golden, added where no record says it."""
    if overrides.height == 0:
        return values
    attribute, rule, source_list = (values.schema[name] for name in ("attribute", "rule", "source_list"))
    overrides = overrides.with_columns(pl.col("attribute").cast(attribute))
    key = ["customer", "attribute"]
    values = values.join(
        overrides.select(*key, said="value"), on=key, how="left", maintain_order="left"
    ).with_columns(
        rule=pl.when(pl.col("said").is_null()).then("rule").otherwise(pl.lit("steward_override", rule)),
        is_golden=pl.when(pl.col("said").is_null()).then("is_golden").otherwise(pl.col("value") == pl.col("said")),
    ).drop("said")  # fmt: skip
    unsaid = overrides.join(values, on=[*key, "value"], how="anti").select(
        "customer",
        pl.lit(None, pl.Int64).alias("record_key"),
        pl.col("made_at").alias("first_seen"),
        pl.lit(None, pl.Int64).alias("last_seen"),
        pl.lit(0, pl.Int64).alias("record_count"),
        "attribute",
        pl.lit("steward_override", rule).alias("rule"),
        pl.lit(True).alias("is_golden"),
        pl.lit("", source_list).alias("source_list"),
        "value",
    )
    return pl.concat([values, unsaid]).sort(*key, maintain_order=True)


def _golden_records(sightings: pl.DataFrame, values: pl.DataFrame) -> pl.DataFrame:
    """One row per customer: the golden value of each attribute."""
    customer = sightings["customer"].to_numpy()
    first = _begins(customer).nonzero()[0]
    golden = pl.DataFrame(
        {
            "customer": customer[first],
            "record_count": np.diff(first, append=len(customer)),
            "source_count": np.bitwise_count(
                np.bitwise_or.reduceat(sightings["source_bits"].to_numpy(), first)
            ),
        },
        schema={"customer": pl.Int64, "record_count": pl.Int64, "source_count": pl.Int64},
    )
    said = values.filter("is_golden").partition_by("attribute", as_dict=True, include_key=False)
    for attribute in ATTRIBUTES:
        column = f"canonical_{attribute}"
        if (attribute,) in said:
            best = said[attribute,].select("customer", pl.col("value").alias(column))
            golden = golden.join(best, on="customer", how="left", maintain_order="left")
        else:
            golden = golden.with_columns(pl.lit(None, pl.String).alias(column))
    return golden
