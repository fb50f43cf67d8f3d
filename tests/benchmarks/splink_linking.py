"""Splink 5 on DuckDB: load, train, predict and cluster the records of a CSV file.

As the quick start of its documentation does it, with the comparisons of its library at their defaults and the
columns that are there: first names and surnames by Jaro-Winkler and Jaro, emails by EmailComparison, city,
postal code and phone by ExactMatch with term frequencies. Blocking rules: email; phone; surname and postal
code; first name, surname and city. In memory, two threads.

Usage: python splink_linking.py RECORDS.csv CLUSTERS.csv
"""

import logging
import sys

import duckdb
import splink.comparison_library as cl
from splink import DuckDBAPI, Linker, SettingsCreator, block_on

THREADS = 2
COMPARISONS = {
    "given_name": cl.JaroWinklerAtThresholds("given_name", [0.9, 0.7]),
    "family_name": cl.JaroAtThresholds("family_name", [0.9, 0.7]),
    "email": cl.EmailComparison("email"),
    "phone": cl.ExactMatch("phone").configure(term_frequency_adjustments=True),
    "city": cl.ExactMatch("city").configure(term_frequency_adjustments=True),
    "postal_code": cl.ExactMatch("postal_code").configure(term_frequency_adjustments=True),
}
BLOCKING = [
    ("email",),
    ("phone",),
    ("family_name", "postal_code"),
    ("given_name", "family_name", "city"),
]


def main() -> None:
    """Link the records; each step begins with a line `Phase NAME: ...`."""
    records, clusters = sys.argv[1:]
    logging.getLogger("splink").setLevel(logging.ERROR)

    say("load", "read the records")
    connection = duckdb.connect(":memory:", config={"threads": THREADS})
    columns = ", ".join(["unique_id", *COMPARISONS])
    connection.execute(
        f"create table records as select {columns} from read_csv($1, types={{'unique_id': 'bigint'}}, "
        "all_varchar=false, header=true)",
        [records],
    ).fetchall()
    database = DuckDBAPI(connection=connection)
    settings = SettingsCreator(
        link_type="dedupe_only",
        comparisons=list(COMPARISONS.values()),
        blocking_rules_to_generate_predictions=[block_on(*columns) for columns in BLOCKING],
        # Not needed to cluster, and dear to store.
        retain_intermediate_calculation_columns=False,
        retain_matching_columns=False,
    )
    linker = Linker(database.register(connection.table("records")), settings)

    say("train", "estimate the parameters")
    linker.training.estimate_probability_two_random_records_match(
        [block_on("email"), block_on("phone")], recall=0.7
    )
    linker.training.estimate_u_using_random_sampling(max_pairs=1e6)
    linker.training.estimate_parameters_using_expectation_maximisation(block_on("email"))
    linker.training.estimate_parameters_using_expectation_maximisation(block_on("given_name", "family_name"))

    say("predict", "score the candidate pairs")
    predictions = linker.inference.predict(threshold_match_weight=-10)
    counted = connection.execute(f"select count(*) from {predictions.physical_name}").fetchall()
    print(f"pairs {counted[0][0]}", flush=True)

    say("cluster", "connected components at 0.95")
    found = linker.clustering.cluster_pairwise_predictions_at_threshold(predictions, 0.95)

    say("end", "write the clusters")
    connection.execute(
        f"copy (select unique_id, cluster_id from {found.physical_name}) to '{clusters}' (header)"
    ).fetchall()


def say(step: str, title: str) -> None:
    """Begin a step."""
    print(f"Phase {step}: {title}", flush=True)


if __name__ == "__main__":
    main()
