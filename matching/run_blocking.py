"""Phase 4.5: find the pairs of profiles that are worth comparing.

1. Profiles that came to life since the mark get their blocking keys, by the blocking rules of
   matching/model.toml; those that died lose them (db/init/040 to 042).
2. The blocks they belong to are looked up, and paired by candidate_pairs.py.
3. Values that many clearly different names share are found; what was compared by them is listed again.

Changed rules pair all profiles afresh.

Usage: python matching/run_blocking.py
"""

import argparse
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from psycopg2.extras import execute_values
from psycopg2.sql import SQL, Literal

from db.errors import ConfigurationError, run_script
from db.phase import Phase, phase
from db.postgres import bulk_load, connect, copy_in, copy_out, copy_out_numbers, run_file
from matching.blocking import COLUMNS, parse_term, read_blocking

if TYPE_CHECKING:
    import polars as pl

    from matching.candidate_pairs import Candidates

HERE = Path(__file__).resolve().parent
MODEL_FILE = HERE / "model.toml"
BLOCKED = "staging.identity_match_candidates_blocked"
KEYS = "staging.blocking_keys"
# On first load keys are made in parts of so many pages of match_profiles, by so many connections.
PART_PAGES = 2_000
READERS = 2
# Up to this share of new profiles, looking up each of their blocks is cheaper than reading all.
FEW = 0.1
# The blocks in which find_shared_values looks for values that strangers share.
MIN_SHARED = 5
OWN_KEYS = (["email"], ["email_mailbox"], ["phone"], ["national_id"])


def main(argv: list[str] | None = None) -> int:
    """Run the phase."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args(argv)
    with phase("4.5", "run_blocking") as work:
        block(work)
    return 0


def block(work: Phase) -> None:
    """List the candidate pairs of what is new; pairs not compared yet stay listed."""
    mark = work.mark("staging.match_profiles")
    if bring_in_rules(work):
        mark = 0
    work.advance("staging.match_profiles")
    work.cursor.execute("select count(*) from staging.match_profiles where run_id > %s", (mark,))
    (work.rows_in,) = work.cursor.fetchone()
    if not work.rows_in:
        work.skip("no new profiles")
        return
    work.cursor.execute("select rule_id, block_limit, key_terms from staging.blocking_rules order by rule_id")
    rules = work.cursor.fetchall()
    limits = {rule_id: limit for rule_id, limit, _ in rules}
    work.cursor.execute(f"select not exists (select from {KEYS})")
    (is_first_load,) = work.cursor.fetchone()
    if is_first_load:
        candidates = pair_everything(work, limits, {rule_id: terms for rule_id, _, terms in rules})
    else:
        prefer_lookups(work)
        candidates = pair_changes(work, mark, limits)
    with bulk_load(work.cursor, BLOCKED):
        work.rows_out = copy_in(work.cursor, BLOCKED, candidates.pairs.with_columns(run_id=work.run_id))
    run_file(work.cursor, HERE / "list_own_pairs.sql", {"run_id": work.run_id, "mark": mark})
    work.cursor.execute("select staging.find_shared_values(%s, %s)", (work.run_id, is_first_load))
    work.cursor.execute("reset enable_hashjoin; reset enable_mergejoin")
    work.cursor.execute(
        f"select exists (select from {BLOCKED} where run_id = %s and rule_id = -1)", (work.run_id,)
    )
    if work.cursor.fetchone()[0]:
        work.cursor.execute("select staging.unlist_unsupported_pairs(%s)", (work.run_id,))
    work.refresh_statistics(BLOCKED)
    count_by_rule(work, candidates)


def bring_in_rules(work: Phase) -> bool:
    """Store the rules of model.toml; true when they changed, and all keys with them."""
    try:
        tables = tomllib.loads(MODEL_FILE.read_text(encoding="utf-8"))
        rules = read_blocking(tables.get("blocking", []))
    except ValueError as error:
        raise ConfigurationError(f"matching/model.toml: {error}. Mend it and run again.") from error
    declared = [(place, rule.name, list(rule.key), rule.limit) for place, rule in enumerate(rules, start=1)]
    work.cursor.execute(
        "select rule_id, rule_name, key_terms, block_limit from staging.blocking_rules order by rule_id"
    )
    known = work.cursor.fetchall()
    if known == declared:
        return False
    work.cursor.execute("select staging.drop_blocking_keys()")
    execute_values(
        work.cursor,
        "insert into staging.blocking_rules (rule_id, rule_name, key_terms, block_limit) values %s",
        declared,
    )
    if known:
        work.detail["rules_changed"] = True
    return True


def prefer_lookups(work: Phase) -> None:
    """Have blocks looked up by the indexes of their keys, where few profiles are new.

    The planner cannot know how many profiles share a key, and would read those of all blocks.
    """
    work.cursor.execute("select reltuples from pg_class where oid = %s::regclass", (KEYS,))
    (known,) = work.cursor.fetchone()
    if work.rows_in < FEW * known:
        work.cursor.execute("set local enable_hashjoin = off; set local enable_mergejoin = off")


def pair_everything(work: Phase, limits: dict[int, int], terms: dict[int, list[str]]) -> "Candidates":
    """The candidate pairs of all profiles, none of which had keys before.

    Two connections have the server make keys, part by part; they are stored and indexed while pairs are made.
    Memory: 200 bytes a profile, and what candidate_pairs says.
    """
    import numpy as np
    import polars as pl

    from matching.candidate_pairs import Members, candidate_pairs

    # They are made again while pairs are made.
    work.cursor.execute("select staging.drop_key_indexes()")
    work.cursor.execute("select pg_relation_size('staging.match_profiles') / 8192")
    (pages,) = work.cursor.fetchone()
    rules = rules_with_values(work, terms)
    query = keys_query(work, rules)
    with (
        bulk_load(work.cursor, KEYS, with_keys=True),
        ThreadPoolExecutor(READERS) as readers,
        ThreadPoolExecutor(1) as writer,
    ):
        parts = [
            readers.submit(read_keys, query, rules, first, first + PART_PAGES)
            for first in range(0, pages + 1, PART_PAGES)
        ]
        storing = [writer.submit(lambda part=part: store_keys(work, part.result(), limits)) for part in parts]
        keys = pl.concat(part.result() for part in parts).sort("profile_key")
        rules = [rule_id for rule_id in rules if (keys[f"key_{rule_id}"] != 0).any()]
        storing.append(writer.submit(index_keys, work, rules))
        profile_keys = keys["profile_key"].to_numpy()
        members = {}
        for rule_id in rules:
            key = keys[f"key_{rule_id}"].to_numpy()
            row = np.flatnonzero(key)
            members[rule_id] = Members(key[row], row.astype(np.int32), np.ones(len(row), dtype=bool))
        del keys
        candidates = candidate_pairs(profile_keys, members, limits)
        for stored in storing:
            stored.result()
    large = [
        pl.DataFrame({"key": members[rule_id].key})["key"]
        .value_counts()
        .filter(pl.col("count") >= MIN_SHARED)
        .select(rule_id=pl.lit(rule_id, pl.Int16), key="key")
        for rule_id in members
        if terms[rule_id] in OWN_KEYS
    ]
    nothing = pl.DataFrame(schema={"rule_id": pl.Int16, "key": pl.Int64})
    give_keys(work, "touched_keys", pl.concat([nothing, *large]))
    store_capped(work, candidates)
    return candidates


def pair_changes(work: Phase, mark: int, limits: dict[int, int]) -> "Candidates":
    """The candidate pairs of the blocks that profiles came to or went from since the mark.

    Memory: the members of these blocks, 40 bytes each.
    """
    import polars as pl

    from matching.candidate_pairs import MEMBERS, block_changes, pairs_of_changes

    work.cursor.execute("select staging.take_dead_keys(%s)", (mark,))
    dead = copy_out_numbers(work.cursor, (HERE / "dead_keys.sql").read_text(encoding="utf-8"), MEMBERS)
    keys = read_part(work.cursor, keys_query(work, list(limits), mark), list(limits), 0, 2**32 - 1)
    keys = without_known(work, keys)
    store_keys(work, keys, limits)
    new = (
        keys.unpivot(index="profile_key", variable_name="rule_id", value_name="key")
        .filter(pl.col("key") != 0)
        .with_columns(pl.col("rule_id").str.strip_prefix("key_").cast(pl.Int16))
        .select(*MEMBERS)
    )
    index_keys(work, sorted(new["rule_id"].unique()))
    changed = pl.concat([new, dead]).select("rule_id", "key").unique()
    give_keys(work, "touched_keys", changed)
    capped = copy_out(
        work.cursor,
        (HERE / "known_capped_blocks.sql").read_text(encoding="utf-8"),
        {"rule_id": pl.Int16, "key": pl.Int64, "profile_count": pl.Int64, "anchor_limit": pl.Int64}
        | {"anchors": pl.String},
    ).with_columns(pl.col("anchors").str.split(" ").cast(pl.List(pl.Int64)))
    changes = block_changes(new, dead, capped, limits)
    looked_up = changes.filter(~pl.col("is_partial")).select("rule_id", "key")
    give_keys(work, "looked_up", looked_up)
    lookup = (HERE / "block_members.sql").read_text(encoding="utf-8")
    branches = [lookup.format(rule_id=rule_id) for rule_id in sorted(looked_up["rule_id"].unique())]
    members = (
        copy_out_numbers(work.cursor, "\nunion all\n".join(branches), MEMBERS) if branches else new.clear()
    )
    candidates = pairs_of_changes(members, new, changes, limits)
    store_capped(work, candidates)
    withdraw_unsupported(work, candidates, members)
    return candidates


def rules_with_values(work: Phase, terms: dict[int, list[str]]) -> list[int]:
    """The rules all columns of which have a value in some profile."""
    columns = ", ".join(f"count({column})" for column in COLUMNS)
    work.cursor.execute(f"select {columns} from staging.match_profiles")
    empty = {column for column, count in zip(COLUMNS, work.cursor.fetchone(), strict=True) if not count}
    return [
        rule_id for rule_id, key in terms.items() if not any(parse_term(term)[1] in empty for term in key)
    ]


def keys_query(work: Phase, rules: list[int], mark: int = 0) -> SQL:
    """new_blocking_keys.sql with the keys of these rules."""
    work.cursor.execute("select staging.blocking_key_columns_sql(%s::smallint[])", (rules,))
    (columns,) = work.cursor.fetchone()
    text = (HERE / "new_blocking_keys.sql").read_text(encoding="utf-8")
    return SQL(text.replace("%(mark)s", "{mark}")).format(keys=SQL(columns), mark=Literal(mark))


def read_keys(query: SQL, rules: list[int], first: int, last: int) -> "pl.DataFrame":
    """As `read_part`, over a connection of its own."""
    with connect() as connection, connection.cursor() as cursor:
        return read_part(cursor, query, rules, first, last)


def read_part(cursor, query: SQL, rules: list[int], first: int, last: int) -> "pl.DataFrame":
    """profile_key and key_<rule_id> of the new profiles in the pages from first to before last; 0 is no key."""
    import polars as pl

    return copy_out_numbers(
        cursor,
        query,
        {"profile_key": pl.Int64} | {f"key_{rule_id}": pl.Int64 for rule_id in rules},
        {"first": f"({first},0)", "last": f"({last},0)"},
    )


def without_known(work: Phase, keys: "pl.DataFrame") -> "pl.DataFrame":
    """The keys of profiles that have none yet: one that only got its second record has."""
    import polars as pl

    work.cursor.execute("create temp table keyed (profile_key bigint) on commit drop")
    copy_in(work.cursor, "pg_temp.keyed", keys.select("profile_key"))
    known = copy_out_numbers(
        work.cursor,
        f"select profile_key from pg_temp.keyed inner join {KEYS} using (profile_key)",
        {"profile_key": pl.Int64},
    )
    return keys.join(known, on="profile_key", how="anti", maintain_order="left")


def store_keys(work: Phase, keys: "pl.DataFrame", limits: dict[int, int]) -> None:
    """Add the keys of profiles to staging.blocking_keys."""
    import numpy as np
    import polars as pl

    if not keys.height:
        return

    nothing = np.zeros(keys.height, dtype=np.int64)
    columns = [keys[f"key_{rule_id}"] if f"key_{rule_id}" in keys.columns else nothing for rule_id in limits]
    key = pl.Series("keys", np.stack(columns, axis=1).reshape(-1))
    rows = keys.select("profile_key", pl.lit(work.run_id, pl.Int32).alias("run_id")).with_columns(
        key.set(key == 0, None).reshape((keys.height, len(limits))).arr.to_list()
    )
    copy_in(work.cursor, KEYS, rows)


def index_keys(work: Phase, rules: list[int]) -> None:
    """See to it that the keys of these rules have their index."""
    work.cursor.execute("select staging.index_blocking_keys(%s::smallint[])", (rules,))
    work.refresh_statistics(KEYS)


def give_keys(work: Phase, table: str, keys: "pl.DataFrame") -> None:
    """Make a temporary table of blocks: rule_id, key."""
    work.cursor.execute(
        f"create temp table {table} (rule_id smallint not null, key bigint not null) on commit drop"
    )
    copy_in(work.cursor, f"pg_temp.{table}", keys)
    work.cursor.execute(f"analyze {table}")


def store_capped(work: Phase, candidates: "Candidates") -> None:
    """Bring staging.capped_blocks up to date for the blocks in touched_keys."""
    work.cursor.execute(
        "create temp table capped (rule_id smallint, key bigint, profile_count bigint, anchor_limit bigint, "
        "anchors bigint[]) on commit drop"
    )
    copy_in(work.cursor, "pg_temp.capped", candidates.capped.drop("is_afresh"))
    work.cursor.execute("analyze capped")
    run_file(work.cursor, HERE / "keep_capped_blocks.sql", {"run_id": work.run_id})


def withdraw_unsupported(work: Phase, candidates: "Candidates", members: "pl.DataFrame") -> None:
    """List what was compared in capped blocks and no rule supports in their new shape."""
    import polars as pl

    reshaped = candidates.capped.filter("is_afresh").join(members, on=["rule_id", "key"])
    reshaped = reshaped.filter(pl.col("profile_key") > pl.col("anchor_limit"))
    if not reshaped.height:
        return
    work.cursor.execute(
        "create temp table reshaped_members (rule_id smallint, key bigint, profile_key bigint) on commit drop"
    )
    copy_in(work.cursor, "pg_temp.reshaped_members", reshaped.select("rule_id", "key", "profile_key"))
    work.cursor.execute("analyze reshaped_members")
    work.cursor.execute("select staging.list_unsupported_pairs(%s)", (work.run_id,))


def count_by_rule(work: Phase, candidates: "Candidates") -> None:
    """Write staging.blocking_rule_metrics of this run, and what is capped onto the receipt."""
    work.cursor.execute(
        "select blocking_rules.rule_id, rule_name, count(capped_blocks.key) from staging.blocking_rules "
        "left join staging.capped_blocks using (rule_id) group by rule_id, rule_name order by rule_id"
    )
    rules = work.cursor.fetchall()
    only_here = candidates.only_here()
    execute_values(
        work.cursor,
        "insert into staging.blocking_rule_metrics (run_id, rule_id, rule_name, pair_count, only_here_count, "
        "capped_block_count) values %s",
        [
            (work.run_id, rule_id, name, candidates.found.get(rule_id, 0), only_here.get(rule_id, 0), capped)
            for rule_id, name, capped in rules
        ],
    )
    work.detail["capped_blocks"] = sum(capped for _, _, capped in rules)


if __name__ == "__main__":
    run_script(main)
