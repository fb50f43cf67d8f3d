"""Phase 7: golden customers.

1. Take the customers whose members changed since the last run, and those whom a changed survivorship rule
   can affect.
2. Read their records, and find the values of each attribute and the golden one among them by the attribute's
   chain of strategies (gold.survivorship_rules) and stewards' overrides: survivorship.py.
3. Write what is not what stands: values go and come, golden records are written, and those of customers who
   are gone leave dim_customers.

Usage: python gold/run_golden_customers.py
"""

import argparse
import hashlib
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from psycopg2.extensions import cursor as Cursor
from psycopg2.sql import SQL

from db.errors import ConfigurationError, run_script
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
    run_file,
    table_identifier,
    uuid_bytes,
)

if TYPE_CHECKING:
    import polars as pl

    from gold.survivorship import Chains

HERE = Path(__file__).resolve().parent
UPSTREAM = "identity.customers"
VALUES, GOLDEN = "gold.customer_attribute_values", "gold.dim_customers"
# So many customers are read at once, and so many of them computed while the last are written.
SLICE = 4_000_000
PART = 100_000
# So many records are asked for by their keys at once; those who want a greater part of all read all.
KEYS = 200_000
MOST = 0.25


def survivorship_chains(cursor: Cursor) -> "Chains":
    """attribute -> its steps in order, each (strategy, source order of `priority`).

    Raises ConfigurationError when an attribute has no step.
    """
    run_file(cursor, HERE / "survivorship_chains.sql")
    chains: Chains = {}
    for attribute, strategy, source_order in cursor:
        if strategy is None:
            raise ConfigurationError(
                f"gold.survivorship_rules has no step for {attribute}. Give it one: "
                f"insert into gold.survivorship_rules (attribute, step, strategy) "
                f"values ('{attribute}', 1, 'most_recent');"
            )
        chains.setdefault(attribute, []).append((strategy, source_order))
    return chains


def _take_changed_rules(work: Phase, chains: "Chains") -> None:
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
    changed = [attribute for attribute in chains if applied.get(attribute) != hashes[attribute]]
    if applied and changed:
        run_file(cursor, HERE / "customers_of_changed_rules.sql", {"attributes": changed})
        work.detail["customers_of_changed_rules"] = max(cursor.rowcount, 0)
    for attribute in changed:
        work.advance(f"rule:{attribute}", hashes[attribute])


def make_golden(work: Phase) -> int:
    """Recompute the customers of gold.working_customers (customer: their numbers from 1, global_customer_id,
    created_at).

    Writes customer_attribute_values and dim_customers under the run of `work`, where something differs.
    Returns how many rows of dim_customers were written or deleted.

    Memory: the records of SLICE customers, 0.3 GB for a million records, with what stands of them; the values
    of two times PART.
    """
    cursor = work.cursor
    chains = survivorship_chains(cursor)
    # A small sample of what is written is enough for the right joins.
    cursor.execute("set local default_statistics_target = 10")
    cursor.execute("select max(customer) from gold.working_customers")
    (last,) = cursor.fetchone()
    slices = [{"first": first, "last": min(first + SLICE - 1, last)} for first in range(1, last + 1, SLICE)]
    build_left_indexes(cursor, VALUES)
    with (
        bulk_load(cursor, VALUES, GOLDEN, leaves=("customer_attribute_values_global_customer_id",)),
        ThreadPoolExecutor(max_workers=1) as aside,
    ):
        written = sum(_make_slice(work, chains, slice_, aside) for slice_ in slices)
    work.refresh_statistics(VALUES, GOLDEN)
    return written


def _make_slice(work: Phase, chains: "Chains", slice_: dict[str, int], aside: Executor) -> int:
    """Recompute a slice of the customers, part by part: while one is written, the next is computed."""
    import polars as pl

    from gold.survivorship import survive

    every_record = aside.submit(_every_record) if _is_most(work.cursor, slice_) else None
    members = _members(work.cursor, slice_)
    overrides = _overrides(work.cursor, slice_)
    records = every_record.result() if every_record else _records(work.cursor, members)
    records = records.join(members, on="record_key", how="left", maintain_order="left")
    # A part's records are found without looking at all others again.
    customer = records["customer"]
    by_customer = customer.arg_sort(nulls_last=True).head(len(customer) - customer.null_count())
    whose = customer.gather(by_customer)
    written = 0
    standing = writing = aside.submit(_standing, work.cursor, slice_)
    for first in range(slice_["first"], slice_["last"] + 1, PART):
        part = pl.col("customer").is_between(first, first + PART, closed="left")
        start, end = whose.search_sorted(pl.Series([first, first + PART])).to_list()
        of_part = records[by_customer[start:end].sort()]
        made_values, made_golden = survive(of_part, chains, overrides.filter(part))
        customers, values, now = standing.result()
        new_values, old_values = _difference(made_values, values.filter(part))
        new_golden, old_golden = _difference(made_golden, customers.filter(part))
        new_golden = new_golden.join(
            customers.select("customer", "created_at", "updated_at"), on="customer", maintain_order="left"
        ).with_columns(updated_at=pl.max_horizontal(pl.lit(now), pl.col("updated_at") + 1))
        written += pl.concat([new_golden["customer"], old_golden["customer"]]).n_unique()
        changes = ((VALUES, old_values, new_values), (GOLDEN, old_golden, new_golden))
        writing.result()
        writing = aside.submit(_write, work, customers.filter(part), changes)
    writing.result()
    return written


def _is_most(cursor: Cursor, slice_: dict[str, int]) -> bool:
    """Whether a slice is so great a part of all customers, who fit in one, that all records are read for it."""
    customer_count = estimated_rows(cursor, UPSTREAM)
    touched_count = slice_["last"] - slice_["first"] + 1
    return customer_count <= SLICE and touched_count > customer_count * MOST


def _members(cursor: Cursor, slice_: dict[str, int]) -> "pl.DataFrame":
    """customer, record_key: the records of a slice."""
    import polars as pl

    query = (HERE / "members.sql").read_text(encoding="utf-8")
    return copy_out_numbers(cursor, query, {"customer": pl.Int64, "record_key": pl.Int64}, slice_)


def _every_record() -> "pl.DataFrame":
    """All records, by a connection of their own: they are not changed here, and read beside the members."""
    with connect() as connection:
        return _copied_records(connection.cursor(), None)


def _records(cursor: Cursor, members: "pl.DataFrame") -> "pl.DataFrame":
    """The records of the members."""
    import polars as pl

    keys = [array_text(some["record_key"]) for some in members.iter_slices(KEYS)] or ["{}"]
    return pl.concat(_copied_records(cursor, some) for some in keys)


def _copied_records(cursor: Cursor, record_keys: str | None) -> "pl.DataFrame":
    import polars as pl

    from gold.survivorship import ATTRIBUTES

    schema = {"record_key": pl.Int64, "event_ts": pl.Int64, "source_system": pl.String}
    schema |= dict.fromkeys(ATTRIBUTES, pl.String)
    query = (HERE / "customer_records.sql").read_text(encoding="utf-8")
    return copy_out(cursor, query, schema, {"record_keys": record_keys})


def _overrides(cursor: Cursor, slice_: dict[str, int]) -> "pl.DataFrame":
    """The overrides that count for a slice."""
    import polars as pl

    from gold.survivorship import ATTRIBUTES

    schema = {"attribute": pl.Enum(ATTRIBUTES), "value": pl.String, "made_at": pl.Int64}
    query = (HERE / "winning_overrides.sql").read_text(encoding="utf-8")
    return copy_out(cursor, query, {"customer": pl.Int64} | schema, slice_)


def _standing(cursor: Cursor, slice_: dict[str, int]) -> "tuple[pl.DataFrame, pl.DataFrame, int]":
    """The customers of a slice with the golden records that stand, the values that stand, and the time of
    this transaction. Times are in microseconds.
    """
    import polars as pl

    from gold.survivorship import ATTRIBUTES, RULES

    text, number = pl.String, pl.Int64
    golden = {
        "customer": number, "global_customer_id": text, "created_at": number, "updated_at": number,
        "row_address": text, "record_count": number, "source_count": number,
        **dict.fromkeys((f"canonical_{attribute}" for attribute in ATTRIBUTES), text),
    }  # fmt: skip
    value = {
        "customer": number, "row_address": text, "record_key": number, "first_seen": number,
        "last_seen": number, "record_count": number, "attribute": pl.Enum(ATTRIBUTES), "rule": pl.Enum(RULES),
        "is_golden": pl.Boolean, "source_list": text, "value": text,
    }  # fmt: skip
    customers = (HERE / "standing_golden_records.sql").read_text(encoding="utf-8")
    values = (HERE / "standing_values.sql").read_text(encoding="utf-8")
    cursor.execute("select (date_part('epoch', now()) * 1e6)::bigint")
    (now,) = cursor.fetchone()
    return copy_out(cursor, customers, golden, slice_), copy_out(cursor, values, value, slice_), now


def _difference(made: "pl.DataFrame", standing: "pl.DataFrame") -> "tuple[pl.DataFrame, pl.DataFrame]":
    """Of the rows that were made those that do not stand, and of those that stand those that were not made."""
    standing = standing.select("row_address", *made.columns).drop_nulls("row_address")
    if standing.height == 0:
        return made, standing
    same = {"on": made.columns, "how": "anti", "nulls_equal": True, "maintain_order": "left"}
    return made.join(standing, **same), standing.join(made, **same)


def _write(
    work: Phase,
    customers: "pl.DataFrame",
    changes: "tuple[tuple[str, pl.DataFrame, pl.DataFrame], ...]",
) -> None:
    """Of each table delete the old rows, by their address, and load the new ones."""
    import polars as pl

    ids = customers.select("customer", uuid_bytes("global_customer_id"))
    for table, old, new in changes:
        if old.height:
            work.cursor.execute(
                SQL("delete from {} where ctid = any(%s::tid[])").format(table_identifier(table)),
                (array_text(old["row_address"]),),
            )
        rows = new.join(ids, on="customer", maintain_order="left").drop("customer")
        copy_in(work.cursor, table, rows.with_columns(run_id=pl.lit(work.run_id)))


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
            work.has_work()
            work.rows_out = make_golden(work)
        else:
            work.skip("no customer changed")
        work.advance(UPSTREAM)
        cursor.execute("drop table gold.working_customers")
    return 0


if __name__ == "__main__":
    run_script(main)
