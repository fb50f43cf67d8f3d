"""Phase 4.5: find the pairs of profiles that are worth comparing.

1. Profiles that came to life since the mark get their blocking keys, by the blocking rules of
   matching/model.toml; those that died lose them, as those that were erased did (db/init/040 to 042).
2. The blocks they belong to are looked up, and paired by candidate_pairs.py.
3. Values that many clearly different names share are found; what was compared by them is listed again.

Changed rules pair all profiles afresh.

Usage: python matching/run_blocking.py
"""

import argparse
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from psycopg2.extensions import cursor as Cursor
from psycopg2.extras import execute_values
from psycopg2.sql import SQL, Composed, Identifier, Literal

from db.errors import ConfigurationError, run_script
from db.phase import Phase, phase
from db.postgres import (
    array_text,
    build_left_indexes,
    bulk_load,
    connect,
    copy_in,
    copy_in_parts,
    copy_out,
    copy_out_lists,
    copy_out_numbers,
    estimated_rows,
    is_empty,
    page_ranges,
    prefer_lookups,
    run_file,
)
from matching.blocking import COLUMNS, parse_term, read_blocking

if TYPE_CHECKING:
    import polars as pl

    from matching.candidate_pairs import Candidates

HERE = Path(__file__).resolve().parent
MODEL_FILE = HERE / "model.toml"
LISTS = "staging.candidate_lists"
# PostgreSQL's statistics leave out arrays of more than 64 kB.
LIST_PAIRS = 16_000
KEYS = "staging.blocking_keys"
COMPARED = "staging.compared_pairs"
CAPPED_BLOCKS = "staging.capped_blocks"
# On first load keys are made in parts of so many pages of match_profiles, by so many connections.
PART_PAGES = 2_000
READERS = 2
# Up to this share of new profiles, looking up each of their blocks is cheaper than reading all.
FEW = 0.1
# find_shared_values looks for values that strangers share in blocks of so many names, under these keys.
MIN_NAMES = 5
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
    work.cursor.execute(
        "select (select count(*) from staging.match_profiles where run_id > %s), "
        "(select count(*) from staging.erased_blocking_keys)",
        (mark,),
    )
    changed, erased = work.cursor.fetchone()
    work.rows_in = changed + erased
    if not work.rows_in:
        work.skip("no new profiles")
        return
    work.has_work()
    rules = Rules(work.cursor)
    # Whoever is erased last leaves blocks behind that have to be emptied.
    is_first_load = is_empty(work.cursor, KEYS) and not erased
    with bulk_load(work.cursor, LISTS):
        if is_first_load:
            candidates = pair_everything(work, rules, mark)
            pairs, withdrawn = candidates.in_parts(), 0
        else:
            few = work.rows_in < FEW * estimated_rows(work.cursor, KEYS)
            if few:
                prefer_lookups(work.cursor)
            candidates, new, gone = pair_changes(work, rules, mark, few)
            list_own_pairs(work, mark)
            pairs, withdrawn = iter((new, gone)), gone.height
        only_here = list_pairs(work, pairs, withdrawn)
    if not is_first_load:
        work.cursor.execute("reset enable_hashjoin; reset enable_mergejoin")
        # All pairs of a first load are read by whoever reads any.
        # Rules alone: how many there are in a list is how many pairs there are.
        work.refresh_statistics(LISTS, columns=("run_id", "rules"))
    if withdrawn:
        work.cursor.execute("select staging.unlist_unsupported_pairs(%s)", (work.run_id,))
    work.refresh_statistics(CAPPED_BLOCKS)
    count_by_rule(work, candidates.found, only_here)


def bring_in_rules(work: Phase) -> bool:
    """Store the rules of model.toml; true when they changed, and all keys with them."""
    try:
        tables = tomllib.loads(MODEL_FILE.read_text(encoding="utf-8"))
        rules = read_blocking(tables.get("blocking", []))
    except ValueError as error:
        raise ConfigurationError(f"matching/model.toml: {error}. Mend it and run again.") from error
    declared = [
        (place, rule.name, list(rule.key), rule.limit, rule.give_up)
        for place, rule in enumerate(rules, start=1)
    ]
    work.cursor.execute(
        "select rule_id, rule_name, key_terms, block_limit, give_up from staging.blocking_rules order by rule_id"
    )
    known = work.cursor.fetchall()
    if known == declared:
        return False
    work.cursor.execute("select staging.drop_blocking_keys()")
    execute_values(
        work.cursor,
        "insert into staging.blocking_rules (rule_id, rule_name, key_terms, block_limit, give_up) values %s",
        declared,
    )
    if known:
        work.detail["rules_changed"] = True
    return True


class Rules:
    """The rules in force, and the SQL of their keys. ids: in order; limits and terms: by rule_id.

    own: those under whose keys find_shared_values looks for values that strangers share.
    """

    def __init__(self, cursor: Cursor):
        from matching.candidate_pairs import LARGEST, Limits

        cursor.execute(
            "select rule_id, key_terms, block_limit, coalesce(give_up, %s) from staging.blocking_rules "
            "order by rule_id",
            (LARGEST,),
        )
        rules = cursor.fetchall()
        self.ids = [rule_id for rule_id, *_ in rules]
        self.limits = {rule_id: Limits(limit, give_up) for rule_id, _, limit, give_up in rules}
        self.terms = {rule_id: terms for rule_id, terms, *_ in rules}
        self.own = [rule_id for rule_id, terms in self.terms.items() if terms in OWN_KEYS]
        cursor.execute(
            "select term, staging.blocking_term_sql(term) from unnest(%s::text[]) as term",
            (sorted({term for terms in self.terms.values() for term in terms}),),
        )
        self.term_sql = dict(cursor.fetchall())

    def with_values(self, cursor: Cursor) -> list[int]:
        """The rules all columns of which have a value in some profile."""
        # A mailbox is stored where it is another one than the address.
        stored = ["email" if column == "email_mailbox" else column for column in COLUMNS]
        counts = ", ".join(f"count({column})" for column in stored)
        cursor.execute(f"select {counts} from staging.match_profiles")
        empty = {column for column, count in zip(COLUMNS, cursor.fetchone(), strict=True) if not count}
        return [
            rule_id
            for rule_id, terms in self.terms.items()
            if not any(parse_term(term)[1] in empty for term in terms)
        ]

    def new_keys(self, rule_ids: list[int], which: Composed, mark: int = 0) -> tuple[Composed, list[str]]:
        """The query of the keys of new profiles under these rules (new_blocking_keys.sql), and its columns."""
        names = {term: f"term_{place}" for place, term in enumerate(self.term_sql)}
        wanted = {term for rule_id in rule_ids for term in self.terms[rule_id]}
        keys = [
            SQL("coalesce(hashtext({}), 0) as {}").format(
                SQL(" || chr(31) || ").join(Identifier(names[term]) for term in self.terms[rule_id]),
                Identifier(f"key_{rule_id}"),
            )
            for rule_id in rule_ids
        ]
        terms = [
            SQL("{} as {}").format(SQL(text), Identifier(names[term]))
            for term, text in self.term_sql.items()
            if term in wanted
        ]
        query = SQL((HERE / "new_blocking_keys.sql").read_text(encoding="utf-8")).format(
            keys=SQL(",\n    ").join(keys),
            terms=SQL(",\n        ").join(terms),
            which=which,
            mark=Literal(mark),
        )
        return query, ["profile_key", "name", *(f"key_{rule_id}" for rule_id in rule_ids)]

    def stored_keys(self, table: str) -> tuple[str, list[str]]:
        """The query of the keys that a table like staging.blocking_keys holds, and its columns."""
        columns = [f"key_{rule_id}" for rule_id in self.ids]
        keys = ", ".join(f"coalesce({column}, 0) as {column}" for column in columns)
        return f"select profile_key, {keys} from {table}", ["profile_key", *columns]


def pair_everything(work: Phase, rules: Rules, mark: int) -> "Candidates":
    """The candidate pairs of all profiles, none of which had keys before.

    Two connections have the server make keys, part by part. They are stored, values that strangers share are found,
    and profiles paired with themselves, while pairs are made.
    Memory: per profile 24 bytes and 20 for each rule that has a key, and what candidate_pairs says.
    """
    import numpy as np
    import polars as pl

    from matching.candidate_pairs import Members, candidate_pairs

    rule_ids = rules.with_values(work.cursor)
    with ThreadPoolExecutor(READERS) as readers, ThreadPoolExecutor(1) as writer:
        parts = [
            readers.submit(read_part, rules, rule_ids, part)
            for part in page_ranges(work.cursor, "staging.match_profiles", PART_PAGES)
        ]
        storing = writer.submit(store_all_keys, work, [*parts])
        keys = pl.concat(part.result() for part in parts).sort("profile_key")
        parts.clear()
        members = {}
        for rule_id in rule_ids:
            key = keys[f"key_{rule_id}"].to_numpy()
            row = np.flatnonzero(key).astype(np.int32)
            members[rule_id] = Members(key[row], row)
        profile_keys, names = keys["profile_key"].to_numpy(), keys["name"].to_numpy()
        del keys
        large = many_names(members, names, rules.own)
        sharing = writer.submit(find_shared_values, work, large, is_first=True)
        listing = writer.submit(list_own_pairs, work, mark)
        candidates = candidate_pairs(profile_keys, members, rules.limits)
        for writing in (storing, sharing, listing):
            writing.result()
    store_capped(work, candidates)
    return candidates


def pair_changes(
    work: Phase, rules: Rules, mark: int, few: bool
) -> "tuple[Candidates, pl.DataFrame, pl.DataFrame]":
    """The candidates of the blocks that profiles came to or went from since the mark; the pairs that were not known
    yet; and the known pairs that no rule finds any more, as pairs of rule -1.

    Memory: the members of these blocks, 40 bytes each.
    """
    import polars as pl

    from matching.candidate_pairs import block_changes, pairs_of_changes

    build_left_indexes(work.cursor, KEYS, COMPARED)
    work.cursor.execute("select staging.take_dead_keys(%s)", (mark,))
    dead = by_rule(read_keys(work.cursor, *rules.stored_keys("pg_temp.dead_keys")))
    waiting = waiting_pairs(work.cursor)
    which = SQL(
        "not exists (select from staging.blocking_keys as known where known.profile_key = p.profile_key)"
    )
    keys = read_keys(work.cursor, *rules.new_keys(rules.ids, which, mark))
    new = by_rule(keys)
    touched = pl.concat([new, dead]).select("rule_id", "key").unique()
    with ThreadPoolExecutor(1) as writer, connect() as connection, connection.cursor() as reader:
        # While keys are stored and values that strangers share are found, what was there before this run is read.
        storing = writer.submit(store_and_index_keys, work, keys)
        if few:
            prefer_lookups(reader)
        capped = known_capped_blocks(reader, touched)
        changes = block_changes(new, dead, capped, rules.limits)
        members = read_members(reader, changes.filter(~pl.col("is_partial")))
        candidates = pairs_of_changes(members, new, dead, changes, rules.limits)
        is_large = pl.col("profile_count").fill_null(0) >= MIN_NAMES
        own = (
            touched.filter(pl.col("rule_id").is_in(rules.own))
            .join(candidates.sizes, on=["rule_id", "key"], how="left")
            .select("rule_id", "key", is_large=is_large)
        )
        capping = writer.submit(store_capped, work, candidates, capped)
        sharing = writer.submit(find_shared_values, work, own, is_first=False)
        known = partial(known_pairs, reader, waiting)
        withdrawn = no_longer_found(reader, known, rules, candidates, members, touched, dead["profile_key"])
        pairs = not_known_yet(known, candidates.pairs, keys["profile_key"])
        for writing in (storing, capping, sharing):
            writing.result()
    return candidates, pairs, withdrawn


def known_capped_blocks(cursor: Cursor, blocks: "pl.DataFrame") -> "pl.DataFrame":
    """Those of the blocks (rule_id, key) that were capped before, as CAPPED."""
    import polars as pl

    from matching.candidate_pairs import CAPPED

    return copy_out(
        cursor,
        (HERE / "known_capped_blocks.sql").read_text(encoding="utf-8"),
        CAPPED | {"anchors": pl.String},
        listed_blocks(blocks),
    ).with_columns(pl.col("anchors").str.split(" ").cast(pl.List(pl.Int64), strict=False).list.drop_nulls())


def read_part(rules: Rules, rule_ids: list[int], part: tuple[str, str]) -> "pl.DataFrame":
    """The keys of the profiles between two row addresses, over a connection of its own."""
    which = SQL("p.ctid >= {} and p.ctid < {}").format(*map(Literal, part))
    with connect() as connection, connection.cursor() as cursor:
        return read_keys(cursor, *rules.new_keys(rule_ids, which))


def read_keys(
    cursor: Cursor, query: str | Composed, columns: list[str], parameters: object = None
) -> "pl.DataFrame":
    """The keys of profiles; 0 is no key."""
    import polars as pl

    schema = {name: pl.Int32 if name.startswith("key_") else pl.Int64 for name in columns}
    return copy_out_numbers(cursor, query, schema, parameters)


def by_rule(keys: "pl.DataFrame") -> "pl.DataFrame":
    """One row per profile and rule that says something about it: rule_id, key, profile_key."""
    import polars as pl
    import polars.selectors as cs

    from matching.candidate_pairs import MEMBERS

    return (
        keys.unpivot(cs.starts_with("key_"), index="profile_key", variable_name="rule_id", value_name="key")
        .filter(pl.col("key") != 0)
        .with_columns(pl.col("rule_id").str.strip_prefix("key_").cast(pl.Int16), pl.col("key").cast(pl.Int64))
        .select(*MEMBERS)
    )


def read_members(cursor: Cursor, blocks: "pl.DataFrame") -> "pl.DataFrame":
    """The members of blocks: rule_id, key, profile_key."""
    import polars as pl

    from matching.candidate_pairs import MEMBERS

    lookup = SQL((HERE / "block_members.sql").read_text(encoding="utf-8"))
    branches = [
        lookup.format(rule_id=Literal(rule_id), keys=Literal(array_text(of_rule["key"])))
        for (rule_id,), of_rule in blocks.partition_by("rule_id", as_dict=True).items()
    ]
    if not branches:
        return pl.DataFrame(schema=MEMBERS)
    return copy_out_numbers(cursor, SQL("\nunion all\n").join(branches), MEMBERS)


def listed_blocks(blocks: "pl.DataFrame") -> dict[str, str]:
    """rule_ids and keys of blocks, as parameters."""
    return {"rule_ids": array_text(blocks["rule_id"]), "keys": array_text(blocks["key"])}


def store_all_keys(work: Phase, parts: "list[Future[pl.DataFrame]]") -> None:
    """Fill staging.blocking_keys part by part; lets go of a part once it is stored."""
    rule_ids = set()
    with bulk_load(work.cursor, KEYS, leaves=("blocking_keys_key",)):
        while parts:
            rule_ids |= store_keys(work, parts.pop(0).result())
    index_keys(work, rule_ids)


def store_keys(work: Phase, keys: "pl.DataFrame") -> set[int]:
    """Add the keys of profiles to staging.blocking_keys; returns the rules that say something about them."""
    import polars as pl

    columns = [name for name in keys.columns if name.startswith("key_") and (keys[name] != 0).any()]
    rows = keys.select(
        "profile_key",
        *(pl.when(pl.col(name) != 0).then(name).alias(name) for name in columns),
    )
    copy_in(work.cursor, KEYS, rows)
    return {int(name.removeprefix("key_")) for name in columns}


def store_and_index_keys(work: Phase, keys: "pl.DataFrame") -> None:
    """Add the keys of profiles to those that are indexed."""
    index_keys(work, store_keys(work, keys))
    build_left_indexes(work.cursor, KEYS)
    work.refresh_statistics(KEYS)


def index_keys(work: Phase, rule_ids: set[int]) -> None:
    """See to it that the keys of these rules will have their index."""
    work.cursor.execute("select staging.leave_key_indexes(%s::smallint[])", (sorted(rule_ids),))


def find_shared_values(work: Phase, touched: "pl.DataFrame", *, is_first: bool) -> None:
    """Find the values that strangers share in the touched blocks of own keys: rule_id, key, is_large.

    is_first: none were found before.
    """
    work.cursor.execute(
        "create temp table touched_keys (rule_id smallint, key bigint, is_large boolean) on commit drop"
    )
    copy_in(work.cursor, "pg_temp.touched_keys", touched)
    work.cursor.execute("analyze touched_keys")
    work.cursor.execute("select staging.find_shared_values(%s, %s)", (work.run_id, is_first))


def many_names(members: dict, names, own: list[int]) -> "pl.DataFrame":
    """The blocks of own keys that have MIN_NAMES names, as large ones: rule_id, key, is_large.

    names: the hash of the name of each row, 0 is none.
    """
    import polars as pl

    parts = [pl.DataFrame(schema={"rule_id": pl.Int16, "key": pl.Int64})]
    for rule_id in set(own) & set(members):
        of_rule = members[rule_id]
        named = pl.DataFrame({"key": of_rule.key, "name": names[of_rule.row]}).filter(pl.col("name") != 0)
        parts.append(
            named.join(named.group_by("key").len().filter(pl.col("len") >= MIN_NAMES), on="key", how="semi")
            .group_by("key")
            .agg(pl.col("name").n_unique())
            .filter(pl.col("name") >= MIN_NAMES)
            .select(pl.lit(rule_id, pl.Int16).alias("rule_id"), pl.col("key").cast(pl.Int64))
        )
    return pl.concat(parts).with_columns(is_large=pl.lit(True))


def store_capped(work: Phase, candidates: "Candidates", known: "pl.DataFrame | None" = None) -> None:
    """Bring staging.capped_blocks up to date; known: the blocks looked at that were in it."""
    capped = candidates.capped.drop("is_afresh")
    gone = capped.clear() if known is None else known.join(capped, on=["rule_id", "key"], how="anti")
    work.cursor.execute(
        "create temp table capped (rule_id smallint, key bigint, profile_count bigint, anchor_limit bigint, "
        "anchors bigint[], example bigint) on commit drop"
    )
    copy_in(work.cursor, "pg_temp.capped", capped)
    run_file(work.cursor, HERE / "keep_capped_blocks.sql", {"run_id": work.run_id} | listed_blocks(gone))


def not_known_yet(
    known: "Callable[[pl.Series], pl.DataFrame]", pairs: "pl.DataFrame", new: "pl.Series"
) -> "pl.DataFrame":
    """The pairs but those that blocks paired afresh find again; new: the profiles that have no pairs yet."""
    import polars as pl

    from matching.candidate_pairs import PAIR

    old = pairs
    for side in PAIR:
        old = old.join(pl.DataFrame({side: new}), on=side, how="anti")
    if not old.height:
        return pairs
    return pairs.join(known(old["left_profile_key"]), on=PAIR, how="anti", maintain_order="left")


def waiting_pairs(cursor: Cursor) -> "pl.DataFrame":
    """left_profile_key, right_profile_key, is_found of the pairs of former runs that phase 5 has not taken yet, as it
    failed; is_found: else they are to be withdrawn.

    Memory: 20 bytes for each of them.
    """
    import polars as pl

    from matching.candidate_pairs import PAIR

    listed = copy_out_lists(
        cursor,
        f"select left_profile_keys, right_profile_keys, rules from {LISTS}",
        dict.fromkeys(PAIR, pl.Int64) | {"rules": pl.Int32},
    )
    # What is found again after it was to be withdrawn is compared; what is withdrawn after is listed no longer.
    return listed.filter(pl.col("rules") != 0).group_by(PAIR).agg(is_found=pl.col("rules").max() > 0)


def known_pairs(cursor: Cursor, waiting: "pl.DataFrame", left_keys: "pl.Series") -> "pl.DataFrame":
    """The pairs of these left sides that a rule found, and that are in force once phase 5 has taken what waits."""
    import polars as pl

    from matching.candidate_pairs import PAIR

    compared = copy_out_numbers(
        cursor,
        (HERE / "compared_pairs.sql").read_text(encoding="utf-8"),
        dict.fromkeys(PAIR, pl.Int64),
        {"profile_keys": array_text(left_keys.unique().sort())},
    )
    if not waiting.height:
        return compared
    found = waiting.filter("is_found", pl.col("left_profile_key").is_in(left_keys.unique().implode()))
    return pl.concat([compared.join(waiting, on=PAIR, how="anti"), found.select(PAIR)])


def no_longer_found(
    cursor: Cursor,
    known: "Callable[[pl.Series], pl.DataFrame]",
    rules: Rules,
    candidates: "Candidates",
    members: "pl.DataFrame",
    touched: "pl.DataFrame",
    dead: "pl.Series",
) -> "pl.DataFrame":
    """The known pairs of capped blocks that have a new shape which no rule finds any more: as pairs of rule -1.

    cursor: sees what was there before this run. known: gives the known pairs of some left sides. touched: the blocks
    that this run changes. dead: profiles, with which their pairs went.
    Memory: the known pairs of these blocks, 40 bytes for each block that both sides share.
    """
    import polars as pl

    from matching.candidate_pairs import BLOCK, PAIR, pairs_in_blocks, unsupported

    afresh = candidates.capped.filter("is_afresh")
    reshaped = members.join(afresh, on=BLOCK).filter(
        pl.col("profile_key") > pl.col("anchor_limit"), ~pl.col("profile_key").is_in(dead.implode())
    )
    nothing = candidates.pairs.clear()
    if not reshaped.height:
        return nothing
    pairs = pairs_in_blocks(known(reshaped["profile_key"]), reshaped).select(PAIR).unique().sort(PAIR)
    keys = read_keys(
        cursor,
        *rules.stored_keys(f"{KEYS} where profile_key = any(%s::bigint[])"),
        (array_text(reshaped["profile_key"].unique().sort()),),
    )
    shared = pairs_in_blocks(pairs, by_rule(keys))
    others = known_capped_blocks(cursor, shared.select(BLOCK).unique().join(touched, on=BLOCK, how="anti"))
    capped = pl.concat([frame.select(*BLOCK, "anchor_limit") for frame in (others, candidates.capped)])
    withdrawn = unsupported(pairs, shared, capped)
    return withdrawn.with_columns(
        rules=pl.lit(-1, nothing.schema["rules"]), rule_id=pl.lit(-1, nothing.schema["rule_id"])
    )


def list_own_pairs(work: Phase, mark: int) -> None:
    """List the profiles that several records share, since the mark."""
    run_file(work.cursor, HERE / "list_own_pairs.sql", {"run_id": work.run_id, "mark": mark})


def list_pairs(work: Phase, parts: "Iterator[pl.DataFrame]", withdrawn: int) -> Counter[int]:
    """List the pairs to compare, and those to withdraw; returns rule_id -> pairs that no other rule found.

    Memory: two parts.
    """
    import polars as pl

    from matching.candidate_pairs import of_one_rule

    only_here = Counter()
    work.rows_out = -withdrawn

    def lists() -> "Iterator[pl.DataFrame]":
        for part in parts:
            only_here.update(of_one_rule(part))
            work.rows_out += part.height
            for pairs in part.iter_slices(LIST_PAIRS):
                yield pairs.select(
                    run_id=pl.lit(work.run_id, pl.Int32),
                    left_profile_keys=pl.col("left_profile_key").implode(),
                    right_profile_keys=pl.col("right_profile_key").implode(),
                    rules=pl.col("rules").implode(),
                )

    copy_in_parts(work.cursor, LISTS, lists())
    return only_here


def count_by_rule(work: Phase, found: dict[int, int], only_here: Counter[int]) -> None:
    """Write staging.blocking_rule_metrics of this run, and what is capped onto the receipt. found, only_here: by
    rule_id, the pairs it found, and those that no other did."""
    work.cursor.execute(
        "select blocking_rules.rule_id, rule_name, count(capped_blocks.key) from staging.blocking_rules "
        "left join staging.capped_blocks using (rule_id) group by rule_id, rule_name order by rule_id"
    )
    rules = work.cursor.fetchall()
    execute_values(
        work.cursor,
        "insert into staging.blocking_rule_metrics (run_id, rule_id, rule_name, pair_count, only_here_count, "
        "capped_block_count) values %s",
        [
            (work.run_id, rule_id, name, found.get(rule_id, 0), only_here[rule_id], capped)
            for rule_id, name, capped in rules
        ],
    )
    work.detail["capped_blocks"] = sum(capped for _, _, capped in rules)


if __name__ == "__main__":
    run_script(main)
