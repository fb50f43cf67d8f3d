"""Phase 4.5: find the pairs of profiles that are worth comparing.

Brings the blocking rules of matching/model.toml into staging.blocking_rules and calls
staging.find_candidates (db/init/040_blocking_tables.sql). Changed rules pair all profiles afresh.

Usage: python matching/run_blocking.py
"""

import argparse
import tomllib
from pathlib import Path

from psycopg2.extras import execute_values

from db.errors import ConfigurationError, run_script
from db.phase import Phase, phase
from matching.blocking import read_blocking

MODEL_FILE = Path(__file__).with_name("model.toml")
# A block over its rule's limit pairs everybody with this many of its profiles.
ANCHORS = 5
BLOCKED = "staging.identity_match_candidates_blocked"


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
    clear_compared(work)
    work.cursor.execute("select staging.find_candidates(%s, %s, %s)", (work.run_id, mark, ANCHORS))
    (work.rows_out,) = work.cursor.fetchone()
    work.refresh_statistics(BLOCKED)
    work.cursor.execute("select count(*) from staging.capped_blocks")
    (work.detail["capped_blocks"],) = work.cursor.fetchone()


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


def clear_compared(work: Phase) -> None:
    """Empty the list, unless the matching engine has not got to it yet."""
    work.cursor.execute(
        "select not exists ("
        "select 1 from staging.identity_match_candidates_blocked where run_id > coalesce(("
        "select run_id from identity.ingestion_watermarks "
        "where phase = 'run_matching_engine' and upstream = 'staging.identity_match_candidates_blocked'), 0))"
    )
    if work.cursor.fetchone()[0]:
        work.cursor.execute("truncate staging.identity_match_candidates_blocked")


if __name__ == "__main__":
    run_script(main)
