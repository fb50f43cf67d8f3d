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
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from psycopg2.extensions import cursor as Cursor
from psycopg2.extras import execute_values
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
VALUES, GOLDEN = "gold.attribute_values", "gold.dim_customers"
# What the kind of a value is made of, and its number.
KIND = ("attribute", "rule", "is_golden", "source_list")
Kinds = dict[tuple[str, str, bool, str], int]
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

    Writes attribute_values and dim_customers under the run of `work`, where something differs.
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
    kinds = _kinds(cursor)
    known = len(kinds)
    build_left_indexes(cursor, VALUES)
    with (
        bulk_load(cursor, VALUES, GOLDEN, leaves=("attribute_values_global_customer_id",)),
        ThreadPoolExecutor(max_workers=2) as aside,
    ):
        written = sum(_make_slice(work, chains, slice_, kinds, aside) for slice_ in slices)
    _write_kinds(cursor, kinds, known)
    work.refresh_statistics(VALUES, GOLDEN)
    return written


def _make_slice(work: Phase, chains: "Chains", slice_: dict[str, int], kinds: Kinds, aside: Executor) -> int:
    """Recompute a slice of the customers, part by part: while one is written, the next is computed."""
    import polars as pl

    from gold.survivorship import survive

    every_record = _every_record(work.cursor, aside) if _is_most(work.cursor, slice_) else []
    members = _members(work.cursor, slice_)
    overrides = _overrides(work.cursor, slice_)
    standing = writing = aside.submit(_standing, work.cursor, slice_)
    records = [some.result() for some in every_record] if every_record else _records(members)
    customer = pl.concat(some["record_key"] for some in records).to_frame()
    members = members.select("customer", "record_key")
    customer = customer.join(members, on="record_key", how="left", maintain_order="left")["customer"]
    by_customer = customer.arg_sort(nulls_last=True).head(len(customer) - customer.null_count())
    in_order = pl.DataFrame({"customer": customer.gather(by_customer), "row": by_customer})
    written = 0
    for first in range(slice_["first"], slice_["last"] + 1, PART):
        mine = _of_part(in_order, first).sort("row")
        of_part = _gather(records, mine["row"]).with_columns(mine["customer"])
        made_values, made_golden = survive(of_part, chains, _of_part(overrides, first))
        made_values = _with_kinds(made_values, kinds)
        customers, values, now = standing.result()
        customers, values = _of_part(customers, first), _of_part(values, first)
        new_values, old_values = _difference(made_values, values)
        new_golden, old_golden = _difference(made_golden, customers)
        new_golden = new_golden.join(
            customers.select("customer", "created_at", "updated_at"), on="customer", maintain_order="left"
        ).with_columns(updated_at=pl.max_horizontal(pl.lit(now), pl.col("updated_at") + 1))
        written += pl.concat([new_golden["customer"], old_golden["customer"]]).n_unique()
        ids = customers.select("customer", uuid_bytes("global_customer_id"))
        new_values, new_golden = (
            new.join(ids, on="customer", maintain_order="left").with_columns(run_id=pl.lit(work.run_id))
            for new in (new_values, new_golden)
        )
        writing.result()
        writing = aside.submit(_write, work.cursor, old_values, new_values, old_golden, new_golden)
    writing.result()
    return written


def _gather(frames: "list[pl.DataFrame]", rows: "pl.Series") -> "pl.DataFrame":
    """Some rows, in their order, of frames that stand one below the other; each is in one piece, for of many pieces
    a row is looked for in each."""
    import polars as pl

    found, first = [], 0
    for frame in frames:
        start, end = rows.to_numpy().searchsorted((first, first + frame.height))
        found.append(frame[rows[start:end] - first])
        first += frame.height
    return pl.concat(found)


def _of_part(rows: "pl.DataFrame", first: int) -> "pl.DataFrame":
    """The rows of PART customers, found without looking at all others; the rows are in the order of customers."""
    start, end = rows["customer"].to_numpy().searchsorted((first, first + PART))
    return rows[start:end]


def _is_most(cursor: Cursor, slice_: dict[str, int]) -> bool:
    """Whether a slice is so great a part of all customers, who fit in one, that all records are read for it."""
    customer_count = estimated_rows(cursor, UPSTREAM)
    touched_count = slice_["last"] - slice_["first"] + 1
    return customer_count <= SLICE and touched_count > customer_count * MOST


def _members(cursor: Cursor, slice_: dict[str, int]) -> "pl.DataFrame":
    """customer, record_key, source_number: the records of a slice."""
    import polars as pl

    query = (HERE / "members.sql").read_text(encoding="utf-8")
    member = {"customer": pl.Int64, "record_key": pl.Int64, "source_number": pl.Int16}
    return copy_out_numbers(cursor, query, member, slice_)


def _every_record(cursor: Cursor, aside: Executor) -> "list[Future[pl.DataFrame]]":
    """All records, each source's by a connection of its own: they are not changed here, and read beside the
    members."""

    def of_source(source_number: int) -> "pl.DataFrame":
        with connect() as connection:
            return _copied_records(connection.cursor(), None, source_number)

    cursor.execute("select source_number from raw.sources order by source_number")
    return [aside.submit(of_source, source_number) for (source_number,) in cursor.fetchall()]


def _records(members: "pl.DataFrame") -> "list[pl.DataFrame]":
    """The records of the members, by a connection of their own: they are read beside what stands of them."""
    asked = [
        (array_text(some["record_key"]), source_number)
        for (source_number,), of_source in members.partition_by("source_number", as_dict=True).items()
        for some in of_source.iter_slices(KEYS)
    ]
    with connect() as connection:
        return [_copied_records(connection.cursor(), *some) for some in asked or [("{}", 0)]]


def _copied_records(cursor: Cursor, record_keys: str | None, source_number: int = 0) -> "pl.DataFrame":
    """The records of a source, 0 is any: those of these keys, or all; in one piece."""
    import polars as pl

    from gold.survivorship import ATTRIBUTES

    schema = {"record_key": pl.Int64, "event_ts": pl.Int64, "source_system": pl.String}
    schema |= dict.fromkeys(ATTRIBUTES, pl.String)
    query = (HERE / "customer_records.sql").read_text(encoding="utf-8")
    asked = {"record_keys": record_keys, "source_number": source_number}
    return copy_out(cursor, query, schema, asked).rechunk()


def _overrides(cursor: Cursor, slice_: dict[str, int]) -> "pl.DataFrame":
    """The overrides that count for a slice, in the order of customers."""
    import polars as pl

    from gold.survivorship import ATTRIBUTES

    schema = {"attribute": pl.Enum(ATTRIBUTES), "value": pl.String, "made_at": pl.Int64}
    query = (HERE / "winning_overrides.sql").read_text(encoding="utf-8")
    return _in_order(copy_out(cursor, query, {"customer": pl.Int64} | schema, slice_))


def _standing(cursor: Cursor, slice_: dict[str, int]) -> "tuple[pl.DataFrame, pl.DataFrame, int]":
    """The customers of a slice with the golden records that stand, the values that stand, both in the order of
    customers, and the time of this transaction. Times are in microseconds.
    """
    import polars as pl

    from gold.survivorship import ATTRIBUTES

    text, number = pl.String, pl.Int64
    golden = {
        "customer": number, "global_customer_id": text, "created_at": number, "updated_at": number,
        "row_address": text, "record_count": number, "source_count": number,
        **dict.fromkeys((f"canonical_{attribute}" for attribute in ATTRIBUTES), text),
    }  # fmt: skip
    value = {
        "customer": number, "row_address": text, "record_key": number, "first_seen": number,
        "last_seen": number, "record_count": number, "kind": pl.Int32, "value": text,
    }  # fmt: skip
    customers = (HERE / "standing_golden_records.sql").read_text(encoding="utf-8")
    values = (HERE / "standing_values.sql").read_text(encoding="utf-8")
    cursor.execute("select (date_part('epoch', now()) * 1e6)::bigint")
    (now,) = cursor.fetchone()
    return (
        _in_order(copy_out(cursor, customers, golden, slice_)),
        _in_order(copy_out(cursor, values, value, slice_)),
        now,
    )


def _in_order(rows: "pl.DataFrame") -> "pl.DataFrame":
    """The rows in the order of customers, in one piece."""
    rows = rows.rechunk()
    return rows if rows["customer"].is_sorted() else rows.sort("customer", maintain_order=True)


def _kinds(cursor: Cursor) -> Kinds:
    """The kinds of values there are."""
    cursor.execute(
        "select attribute::text, rule::text, is_golden, array_to_string(sources, ','), kind "
        "from gold.value_kinds order by kind"
    )
    return {tuple(kind): number for *kind, number in cursor}


def _with_kinds(values: "pl.DataFrame", kinds: Kinds) -> "pl.DataFrame":
    """The values with the numbers of their kinds in place of what makes these; a new kind gets the next."""
    import polars as pl

    from gold.survivorship import ATTRIBUTES, RULES

    attribute, rule, sources = (values[name].to_physical().cast(pl.Int64) for name in (*KIND[:2], KIND[3]))
    code = (sources * len(ATTRIBUTES) + attribute) * len(RULES) + rule
    code = code * 2 + values["is_golden"].cast(pl.Int64)
    first = code.arg_unique()
    numbers = [kinds.setdefault(kind, len(kinds) + 1) for kind in values[first].select(KIND).iter_rows()]
    return values.drop(KIND).with_columns(
        kind=code.replace_strict(code.gather(first), pl.Series(numbers, dtype=pl.Int32))
    )


def _write_kinds(cursor: Cursor, kinds: Kinds, known: int) -> None:
    """Write the kinds after the first `known`."""
    execute_values(
        cursor,
        "insert into gold.value_kinds (kind, attribute, rule, is_golden, sources) values %s",
        [(number, *kind) for kind, number in list(kinds.items())[known:]],
        template="(%s, %s, %s, %s, string_to_array(%s, ','))",
    )
    if len(kinds) > known:
        cursor.execute("analyze gold.value_kinds")


def _difference(made: "pl.DataFrame", standing: "pl.DataFrame") -> "tuple[pl.DataFrame, pl.DataFrame]":
    """Of the rows that were made those that do not stand, and of those that stand those that were not made."""
    standing = standing.select("row_address", *made.columns).drop_nulls("row_address")
    if standing.height == 0:
        return made, standing
    same = {"on": made.columns, "how": "anti", "nulls_equal": True, "maintain_order": "left"}
    return made.join(standing, **same), standing.join(made, **same)


def _write(
    cursor: Cursor,
    old_values: "pl.DataFrame",
    new_values: "pl.DataFrame",
    old_golden: "pl.DataFrame",
    new_golden: "pl.DataFrame",
) -> None:
    """Write what is new and take away what is old, in both tables."""
    for table, old, new in ((VALUES, old_values, new_values), (GOLDEN, old_golden, new_golden)):
        if old.height:
            cursor.execute(
                SQL("delete from {} where ctid = any(%s::tid[])").format(table_identifier(table)),
                (array_text(old["row_address"]),),
            )
        copy_in(cursor, table, new.drop("customer"))


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
