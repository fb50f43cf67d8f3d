"""Phase 5: compare the candidate pairs, and decide each: AUTO_MERGE, FLAG_REVIEW or REJECT.

The model in force is the current row of identity.match_models. A new version is made when there is none, when
matching/model.toml changed, with --retrain, or when the data has drifted: there are more than twice the
profiles the model was made from, or the pairs merged since stand at other levels (drift.py). A new version
compares all pairs again, otherwise only new ones.

Usage: python matching/run_matching_engine.py [--retrain]
"""

import argparse
import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from psycopg2.extras import Json, execute_values
from psycopg2.sql import SQL, Literal

from db.errors import ConfigurationError, run_script
from db.lake import Lake
from db.one_ahead import OneAhead
from db.phase import Phase, phase
from db.postgres import (
    build_left_indexes,
    bulk_load,
    connect,
    copy_in,
    copy_in_parts,
    copy_out,
    copy_out_lists,
    run_file,
)

HERE = Path(__file__).resolve().parent
BATCH_PAIRS = 250_000
# Profiles now against those the model was made from: beyond this the data is another.
DRIFT_GROWTH = 2.0
BLOCKED = "staging.identity_match_candidates_blocked"
# What it shows: thousands of pairs a row.
LISTS = "staging.candidate_lists"
COMPARED = "staging.compared_pairs"
# Of it; nobody looks pairs up in the run that writes the first ones.
LEFT_INDEXES = ("compared_pairs_key", "compared_pairs_flagged", "compared_pairs_run_id")
# The attributes whose comparisons are one column of it, named after them.
PACKED = (
    ("email", "phone", "given_name"),
    ("family_name", "birth_date", "address"),
    ("city", "postal_code", "national_id"),
)
# The columns of it that queries ask for.
PLANNED = ("left_profile_key", "right_profile_key", "run_id", "match_weight", "decision", "rules")
# Of one attribute, in log2; no value is rare enough to weigh more.
MOST_WEIGHT = 65


def main(argv: list[str] | None = None) -> int:
    """Run the phase."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--retrain", action="store_true", help="train a new model version on the data there is"
    )
    arguments = parser.parse_args(argv)
    with phase("5", "run_matching_engine") as work:
        match(work, retrain=arguments.retrain)
    return 0


def match(work: Phase, retrain: bool = False) -> None:
    """Compare what blocking listed since the mark; everything, under a new model version."""
    mark = work.mark(BLOCKED)
    work.advance(BLOCKED)
    reason = reason_for_new_version(work, retrain)
    has_pairs = work.has_newer(LISTS, mark)
    work.cursor.execute("select exists (select 1 from staging.match_profiles where record_count > 0)")
    (has_profiles,) = work.cursor.fetchone()
    if not has_profiles or (reason is None and not has_pairs):
        work.skip("no candidate pairs")
        return
    work.has_work()
    # Only with new pairs, so that a run with nothing new changes nothing.
    reason = reason or growth_since_training(work) or drift_since_training(work)
    if reason is not None:
        run_file(work.cursor, HERE / "pairs_of_all_runs.sql", {"run_id": work.run_id})
        mark = 0
    junk = shared_values(work)
    with ThreadPoolExecutor(1) as reader:
        reading = reader.submit(read_profiles, mark, junk, everything=reason is not None)
        listed = read_pairs(work, mark)
        # Meanwhile, what is compared again, or counts no longer.
        if reason is None:
            build_left_indexes(work.cursor, COMPARED)
            run_file(work.cursor, HERE / "withdraw_candidates.sql", {"run_id": work.run_id, "mark": mark})
            remove_former(work, listed)
        else:
            work.cursor.execute(f"truncate {COMPARED}")
        profiles = reading.result()
    pairs = Pairs(profiles, listed)
    work.rows_in = len(pairs.rules)
    if reason is not None:
        model, compared, frequencies = trained_version(profiles, pairs, junk)
    else:
        model, compared, frequencies = current_version(work, profiles, pairs, junk)
    with ThreadPoolExecutor(1) as scorer, ThreadPoolExecutor(1) as aside:
        # The first one is scored while the version is stored.
        batches = OneAhead(scorer, scored_batches(model, compared, frequencies, pairs.rules, work.run_id))
        drawing = aside.submit(int)
        if reason is not None:
            store_version(work, model, reason, len(pairs.rules))
            drawing = aside.submit(draw_weights, model, work.detail["model_version"], work.run_id)
        store_pairs(work, batches, len(pairs.rules))
        drawing.result()
    if reason is None:
        work.refresh_statistics(COMPARED, columns=PLANNED)
    # What is compared waits no longer.
    work.cursor.execute(f"truncate {LISTS}")


def configuration_hash() -> str:
    """Hash of matching/model.toml."""
    return hashlib.sha256((HERE / "model.toml").read_bytes()).hexdigest()


def reason_for_new_version(work: Phase, retrain: bool) -> str | None:
    """Why a new version of the model is due whatever the data, in plain words; None when none is."""
    work.cursor.execute("select configuration_hash from identity.match_models where is_current")
    current = work.cursor.fetchone()
    if current is None:
        return "there was none"
    if retrain:
        return "asked for with --retrain"
    if current[0] != configuration_hash():
        return "matching/model.toml changed"
    return None


def growth_since_training(work: Phase) -> str | None:
    """By how much the profiles are more than those the current version was made from, if far more."""
    # There cannot be more than those and what came since, which is soon counted.
    work.cursor.execute(
        "select profile_count, profile_count + (select count(*) from staging.match_profiles "
        "where match_profiles.run_id > match_models.run_id and record_count > 0) "
        "from identity.match_models where is_current"
    )
    trained_on, at_most = work.cursor.fetchone()
    if at_most <= DRIFT_GROWTH * trained_on:
        return None
    work.cursor.execute("select count(*) from staging.match_profiles where record_count > 0")
    (profile_count,) = work.cursor.fetchone()
    if profile_count > DRIFT_GROWTH * trained_on:
        return f"the data has grown from {trained_on:,} to {profile_count:,} profiles"
    return None


def drift_since_training(work: Phase) -> str | None:
    """How the pairs merged since the current version was made differ from those merged then, if they do."""
    from matching.drift import add_levels, drift

    work.cursor.execute((HERE / "match_levels.sql").read_text(encoding="utf-8"))
    counted = work.cursor.fetchall()
    training = [levels for is_training, levels in counted if is_training]
    since = [levels for is_training, levels in counted if not is_training]
    return drift(add_levels(training), add_levels(since))


def read_pairs(work: Phase, mark: int):
    """The pairs to compare: left_key, right_key, rules; as they were listed, some perhaps twice."""
    import polars as pl

    listed = copy_out_lists(
        work.cursor,
        f"select left_profile_keys, right_profile_keys, rules from {LISTS} where run_id > %s",
        {"left_key": pl.Int64, "right_key": pl.Int64, "rules": pl.Int32},
        (mark,),
    )
    return listed.filter(pl.col("rules") >= 0) if (listed["rules"].min() or 0) < 0 else listed


class Pairs:
    """Listed pairs in order of their keys, each once: left, right (rows of the profiles), rules.

    A pair of a profile that has died since is left out. Of one that is listed twice that listing counts the first rule
    of which comes first.
    """

    def __init__(self, profiles, listed):
        import numpy as np

        left, right = profiles.find(listed["left_key"]), profiles.find(listed["right_key"])
        rules = listed["rules"].to_numpy()
        if min(left.min(initial=0), right.min(initial=0)) < 0:
            alive = (left >= 0) & (right >= 0)
            left, right, rules = left[alive], right[alive], rules[alive]
        pair = left * np.int64(len(profiles)) + right
        # A few sorted lists one after the other, which a stable sort but merges.
        order = np.argsort(pair, kind="stable")
        pair = pair[order]
        is_again = np.append(False, pair[1:] == pair[:-1])[: len(pair)]
        if is_again.any():
            order = order[np.lexsort((rules[order] & -rules[order], pair))][~is_again]
        self.left, self.right, self.rules = left[order], right[order], rules[order]


def read_profiles(mark: int, junk: dict[str, list[str]], everything: bool):
    """The live profiles that the pairs name, or all of them, in order of their keys, as NumberedProfiles; over a
    connection of its own. junk: attribute -> values that count as missing."""
    import polars as pl

    from matching.comparisons import NumberedProfiles

    texts = (
        "email",
        "email_mailbox",
        "phone",
        "given_name",
        "family_name",
        "birth_date",
        "address",
        "city",
        "postal_code",
        "national_id",
    )
    which = SQL("true")
    if not everything:
        named = SQL((HERE / "named_profiles.sql").read_text(encoding="utf-8")).format(mark=Literal(mark))
        which = SQL("match_profiles.profile_key in ({})").format(named)
    with connect() as connection, connection.cursor() as cursor:
        profiles = copy_out(
            cursor,
            SQL((HERE / "candidate_profiles.sql").read_text(encoding="utf-8")).format(which=which),
            {"profile_key": pl.Int64} | dict.fromkeys(texts, pl.String),
        )
    profiles = profiles.with_columns(pl.coalesce("email_mailbox", "email"))
    # As phase 4 first wrote them they are in order.
    if not profiles["profile_key"].is_sorted():
        profiles = profiles.sort("profile_key")
    return NumberedProfiles(profiles, junk)


def shared_values(work: Phase) -> dict[str, list[str]]:
    """attribute -> values that many clearly different names share; they count as missing."""
    work.cursor.execute("select attribute, value from staging.shared_values order by attribute, value")
    shared: dict[str, list[str]] = {}
    for attribute, value in work.cursor.fetchall():
        shared.setdefault(attribute, []).append(value)
    return shared


def trained_version(profiles, pairs: Pairs, junk: dict[str, list[str]]):
    """(model, the pairs as it compares them, its frequencies) of a new version, trained on these pairs."""
    from matching.model import ModelError, read_model
    from matching.training import train_and_compare

    try:
        declared = read_model()
    except ModelError as error:
        raise ConfigurationError(f"matching/model.toml: {error}. Mend it and run again.") from error
    return train_and_compare(profiles, pairs.left, pairs.right, pairs.rules, declared, junk)


def store_version(work: Phase, model, reason: str, pair_count: int) -> None:
    """Store a new version of the model as the current one."""
    trained = not model.notes
    work.cursor.execute("update identity.match_models set is_current = false where is_current")
    work.cursor.execute(
        "insert into identity.match_models (method, is_current, profile_count, pair_count, parameters, "
        "configuration_hash, reason, run_id) values (%s, true, %s, %s, %s, %s, %s, %s) "
        "returning model_version",
        (
            "em" if trained else "defaults",
            model.profiles,
            pair_count,
            Json(None, dumps=lambda _: model.to_json()),
            configuration_hash(),
            "; ".join([reason, *model.notes]),
            work.run_id,
        ),
    )
    (version,) = work.cursor.fetchone()
    work.detail["model_version"] = version
    work.detail["model"] = f"new version {version} ({'trained' if trained else 'written defaults'}): {reason}"


def draw_weights(model, version: int, run_id: int) -> None:
    """Draw the weights of a version to the lake, as reports/run=NNNNNN/match_weights.svg."""
    from matching.weights_chart import weights_chart

    chart = weights_chart(model, f"Match weights, model version {version}")
    Lake.from_settings().put(f"reports/run={run_id:06d}/match_weights.svg", chart.encode(), "image/svg+xml")


def current_version(work: Phase, profiles, pairs, junk: dict[str, list[str]]):
    """(model, the pairs as it compares them, its frequencies) in force."""
    from matching.comparisons import ComparedPairs
    from matching.model import model_from_json
    from matching.scoring import Frequencies

    work.cursor.execute("select parameters::text from identity.match_models where is_current")
    (text,) = work.cursor.fetchone()
    model = replace(model_from_json(text), junk=junk)
    compared = ComparedPairs(profiles, pairs.left, pairs.right, model.comparisons, model.places)
    return model, compared, Frequencies(profiles)


def scored_batches(model, compared, frequencies, rules, run_id: int):
    """The pairs in batches of BATCH_PAIRS: as rows of staging.compared_pairs, counted by score, and how those that
    merge spread over levels. rules: of each pair.
    """
    from matching.drift import match_levels
    from matching.scoring import count_scores, score_in_parts

    done = 0
    for scored in score_in_parts(compared, model, model.profiles, BATCH_PAIRS, frequencies):
        rows = candidate_rows(scored, rules[done : done + scored.height], model, run_id)
        done += scored.height
        yield rows, count_scores(scored, rows["rules"]), match_levels(scored, model.comparisons)


def store_pairs(work: Phase, batches: OneAhead, pair_count: int) -> None:
    """Store scored pairs, as scored_batches gives them: each batch while the next one is scored.

    Memory: the profiles' values, per pair its keys and levels, and two batches of BATCH_PAIRS scored pairs.
    """
    from matching.drift import add_levels
    from matching.scoring import DECISIONS

    counts, levels = [], []
    with (
        bulk_load(work.cursor, COMPARED, leaves=LEFT_INDEXES),
        work.progress(pair_count, "pairs") as bar,
    ):

        def rows_of_batches():
            for rows, by_score, of_batch in batches:
                counts.append(by_score)
                levels.append(of_batch)
                yield rows
                bar.update(rows.height)

        copy_in_parts(work.cursor, COMPARED, rows_of_batches())
    work.rows_out = pair_count
    by_score = sum(counts)
    for decision, count in reversed(list(zip(DECISIONS.categories, by_score.sum(axis=(0, 2)), strict=True))):
        work.detail[decision] = int(count)
    work.detail["match_levels"] = add_levels(levels)
    store_counts(work, by_score)


def store_counts(work: Phase, by_score) -> None:
    """Store how many pairs of two profiles were compared: by_score as count_scores gives it."""
    from numpy import ndenumerate

    from matching.scoring import DECISIONS, TWENTIETHS

    by_score[0] = 0  # a profile with itself
    execute_values(
        work.cursor,
        "insert into staging.compared_pair_counts as known values %s "
        "on conflict (run_id, rule_id, match_decision, score_from) do update "
        "set pair_count = known.pair_count + excluded.pair_count",
        [
            (work.run_id, rule_id, DECISIONS.categories[decision], 100 // TWENTIETHS * place, int(count))
            for (rule_id, decision, place), count in ndenumerate(by_score)
            if count
        ],
    )


def remove_former(work: Phase, pairs) -> None:
    """Remove what is stored of these pairs, if anything."""
    work.cursor.execute(
        "create temp table recompared (left_profile_key bigint not null, right_profile_key bigint not null) "
        "on commit drop"
    )
    keys = pairs.select(left_profile_key="left_key", right_profile_key="right_key")
    copy_in(work.cursor, "pg_temp.recompared", keys)
    work.cursor.execute("analyze recompared")
    run_file(work.cursor, HERE / "remove_former_comparisons.sql")


def candidate_rows(scored, rules, model, run_id: int):
    """Scored pairs as rows of staging.compared_pairs."""
    import polars as pl

    return scored.select(
        pl.col("left_key").alias("left_profile_key"),
        pl.col("right_key").alias("right_profile_key"),
        *(packed_comparisons(names, model) for names in PACKED),
        pl.lit(run_id, pl.Int32).alias("run_id"),
        pl.col("match_weight").cast(pl.Float32),
        pl.col("decision").to_physical().cast(pl.Int16),
        pl.Series("rules", rules),
    )


def packed_comparisons(names: tuple[str, ...], model):
    """Levels and weights of three comparisons as one number; see staging.packed_comparison."""
    import polars as pl

    compared = {comparison.name for comparison in model.comparisons}
    packed = pl.lit(0, pl.Int64)
    for place, name in enumerate(names):
        if name in compared:
            weight = pl.col(f"weight_{name}").clip(-MOST_WEIGHT, MOST_WEIGHT)
            thousandths = (weight * 1000).round().cast(pl.Int64) + 65536
            level = (pl.col(f"level_{name}") + 1).cast(pl.Int64)
            packed += (level + thousandths * 16) * (1 << 21 * place)
    return packed.alias("_".join(names))


if __name__ == "__main__":
    run_script(main)
