"""Phase 7: golden customers.

1. Take the customers whose members changed since the last run, and those whom a changed survivorship rule
   can affect.
2. Count the distinct values of each attribute among their records: by whom, how often, first and last.
3. Put the values in order by the attribute's chain of strategies (gold.survivorship_rules); the first is
   golden. An address survives whole: address, city and postal_code come from one record. A standing override
   of a steward is above all rules.
4. Write dim_customers only where something differs; customers who are gone leave it.

Usage: python gold/run_golden_customers.py
"""

import argparse
import hashlib
from pathlib import Path

from psycopg2.extensions import AsIs
from psycopg2.extensions import cursor as Cursor

from db.errors import ConfigurationError, run_script
from db.phase import Phase, phase
from db.postgres import bulk_load, run_file

HERE = Path(__file__).resolve().parent
# In the order of a record's columns; address stands for address, city and postal_code together.
ATTRIBUTES = ("name", "email", "phone", "birth_date", "national_id", "address")
# What a strategy prefers, as a number that is the smaller the better.
STANDINGS = {
    "priority": "case {sources} else 1000000 end",
    "most_frequent": "-record_count",
    "most_recent": "-date_part('epoch', last_seen)",
    "most_complete": "-filled",
    "longest": "-length(value)",
    "oldest": "date_part('epoch', first_seen)",
}
MOST_SOURCES = 63
WORKING = ("sources", "records", "values", "contested", "ranked", "new_values", "standing", "golden")
UPSTREAM = "identity.customers"

Chain = list[tuple[str, list[str] | None]]


def survivorship_chains(cursor: Cursor) -> dict[str, Chain]:
    """attribute -> its steps in order, each (strategy, source order of `priority`).

    Raises ConfigurationError when an attribute has no step.
    """
    cursor.execute(
        "select attribute::text, strategy::text, source_order from gold.survivorship_rules "
        "order by attribute, step"
    )
    chains: dict[str, Chain] = {attribute: [] for attribute in ATTRIBUTES}
    for attribute, strategy, source_order in cursor:
        chains[attribute].append((strategy, source_order))
    for attribute, chain in chains.items():
        if not chain:
            raise ConfigurationError(
                f"gold.survivorship_rules has no step for {attribute}. Give it one: "
                f"insert into gold.survivorship_rules (attribute, step, strategy) "
                f"values ('{attribute}', 1, 'most_recent');"
            )
    return chains


def _take_changed_rules(work: Phase, chains: dict[str, Chain]) -> None:
    """Add the customers whom a chain that changed since it was last applied can affect."""
    cursor = work.cursor
    hashes = {
        attribute: hashlib.sha256(repr(chain).encode()).hexdigest() for attribute, chain in chains.items()
    }
    cursor.execute(
        "select upstream, configuration from identity.ingestion_watermarks "
        "where phase = %s and starts_with(upstream, 'rule:')",
        (work.name,),
    )
    applied = {upstream.removeprefix("rule:"): configuration for upstream, configuration in cursor}
    changed = [attribute for attribute in ATTRIBUTES if applied.get(attribute) != hashes[attribute]]
    if applied and changed:
        run_file(cursor, HERE / "customers_of_changed_rules.sql", {"attributes": changed})
        work.detail["customers_of_changed_rules"] = max(cursor.rowcount, 0)
    for attribute in changed:
        work.advance(f"rule:{attribute}", hashes[attribute])


def make_golden(work: Phase) -> int:
    """Recompute the customers of gold.working_customers (global_customer_id, is_live).

    Writes customer_attribute_values and dim_customers under the run of `work` and drops its working tables,
    but for gold.working_customers. Returns how many rows of dim_customers were written or deleted.
    """
    cursor = work.cursor
    chains = survivorship_chains(cursor)
    # Rows are many and their handing over is cheap on one machine: let `create table as` take both cores.
    # A small sample of each working table is enough for the right joins.
    cursor.execute(
        "set local parallel_setup_cost = 100; set local parallel_tuple_cost = 0.001; "
        "set local default_statistics_target = 10"
    )
    _check_source_count(cursor)
    run_file(cursor, HERE / "customer_records.sql")
    cursor.execute("create unlogged table gold.working_values as " + _counted_values(cursor))
    cursor.execute("analyze gold.working_values")
    run_file(cursor, HERE / "ranked_values.sql", _chains_as_sql(cursor, chains))
    with bulk_load(cursor, "gold.customer_attribute_values"):
        run_file(cursor, HERE / "write_attribute_values.sql", {"run_id": work.run_id})
    work.refresh_statistics("gold.customer_attribute_values")
    run_file(cursor, HERE / "apply_overrides.sql", {"run_id": work.run_id})
    run_file(cursor, HERE / "golden_records.sql")
    with bulk_load(cursor, "gold.dim_customers"):
        written = run_file(cursor, HERE / "write_golden_records.sql", {"run_id": work.run_id})
    work.refresh_statistics("gold.dim_customers")
    for table in WORKING:
        cursor.execute(f"drop table gold.working_{table}")
    return written


def _check_source_count(cursor: Cursor) -> None:
    cursor.execute("select count(*) from raw.sources")
    (count,) = cursor.fetchone()
    if count > MOST_SOURCES:
        raise ConfigurationError(
            f"There are {count} sources; golden records count them in one number of {MOST_SOURCES} bits. "
            "Give several of them one name in the sources file."
        )


def _counted_values(cursor: Cursor) -> str:
    """attribute_values.sql for each attribute, in one union: the planner gives each a core."""
    template = (HERE / "attribute_values.sql").read_text(encoding="utf-8")
    branches = []
    for attribute in ATTRIBUTES:
        filled = "address_filled" if attribute == "address" else "filled"
        parameters = {"attribute": attribute, "value": AsIs(attribute), "filled": AsIs(filled)}
        branches.append(cursor.mogrify(template, parameters).decode())
    return "\nunion all\n".join(branches)


def _chains_as_sql(cursor: Cursor, chains: dict[str, Chain]) -> dict[str, AsIs]:
    """By attribute, as SQL: each attribute's standing as an array, and its strategies."""
    cursor.execute("select source_system, source_bits from gold.working_sources")
    bits = dict(cursor.fetchall())
    standings, rules = [], []
    for attribute, chain in chains.items():
        steps = ", ".join(_standing(strategy, source_order, bits) for strategy, source_order in chain)
        names = ", ".join(f"'{strategy}'" for strategy, _ in chain)
        standings.append(f"when '{attribute}' then array[{steps}]")
        rules.append(f"when '{attribute}' then array[{names}]")
    return {
        "standings": AsIs(f"(case attribute {' '.join(standings)} end)"),
        "rules": AsIs(f"(case attribute {' '.join(rules)} end)"),
    }


def _standing(strategy: str, source_order: list[str] | None, bits: dict[str, int]) -> str:
    """A value's number under one strategy, as an expression over a row of gold.working_values."""
    ranks = [
        f"when source_bits & {bits[source]} <> 0 then {rank}"
        for rank, source in enumerate(source_order or ())
        if source in bits
    ]
    return STANDINGS[strategy].format(sources=" ".join(ranks) or "when false then 0")


def main(argv: list[str] | None = None) -> int:
    """Run phase 7 on what changed."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args(argv)
    with phase("7", "run_golden_customers") as work:
        cursor = work.cursor
        run_file(cursor, HERE / "touched_customers.sql", {"mark": work.mark(UPSTREAM)})
        _take_changed_rules(work, survivorship_chains(cursor))
        cursor.execute("analyze gold.working_customers")
        cursor.execute("select count(*) from gold.working_customers")
        (work.rows_in,) = cursor.fetchone()
        if work.rows_in:
            work.rows_out = make_golden(work)
        else:
            work.skip("no customer changed")
        work.advance(UPSTREAM)
        cursor.execute("drop table gold.working_customers")
    return 0


if __name__ == "__main__":
    run_script(main)
