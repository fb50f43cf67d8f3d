"""Labelled people of the real world, loaded and clustered by the shell script as a user does it.

Skipped where the data is not there. Choose or leave out: `-m real_data`, `-m "not real_data"`.
"""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import psycopg2
import pytest

from db.settings import PROJECT
from tests.conftest import HOME
from tests.end_to_end.test_shell import Project, copy_project

SHARED = PROJECT.parent / "shared"
SOURCES = """
[historical]
prefix    = "historical/"
raw_table = "historical_people"
record_id = "record_id"

[historical.attributes]
name        = "full_name"
birth_date  = "birth_date"
city        = "birth_place"
postal_code = "postal_code"

[febrl]
prefix    = "febrl/"
raw_table = "febrl_people"
record_id = "record_id"
region    = "AU"

[febrl.attributes]
given_name  = "given_name"
family_name = "surname"
birth_date  = "date_of_birth"
address     = ["street_number", "address_1", "address_2"]
city        = "suburb"
postal_code = "postcode"
national_id = "soc_sec_id"
"""
pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(not (SHARED / "data").is_dir(), reason="the labelled data is not there"),
]


@pytest.mark.parametrize(
    ("source", "file", "floor"),
    [("febrl", "febrl3/people.csv", 0.99), ("historical", "historical_50k/people.jsonl.gz", 0.80)],
)
def test_labelled_people(tmp_path, source, file, floor):
    # Beside the tests' own home, which the servers' user can reach.
    root = HOME.with_name(f"{HOME.name}-{source}")
    project = copy_project(root)
    path = SHARED / "data" / file
    (tmp_path / "sources.toml").write_text(SOURCES)
    own = ("--sources", str(tmp_path / "sources.toml"))
    try:
        for arguments in (("load", str(path), "--source", source), ("--no-producers",)):
            ended = project.run(*own, *arguments)
            assert ended.returncode == 0, ended.stdout + ended.stderr
        print(ended.stdout)
        scores = scored(project, tmp_path / "map.csv", path.with_name("truth.csv"))
        print(source, scores)
        assert scores["missing"] == 0
        assert scores["f1"] >= floor
    finally:
        project.run("reset", "--yes")
        shutil.rmtree(root)


def scored(project: Project, predicted: Path, truth: Path) -> dict[str, float]:
    """What score_clusters.py says about the map of records to customers."""
    stores = project.settings
    with (
        psycopg2.connect(
            host=stores.postgres_host,
            port=stores.postgres_port,
            user=stores.postgres_user,
            password=stores.postgres_password,
            dbname=stores.postgres_db,
        ) as connection,
        connection.cursor() as cursor,
        predicted.open("w", newline="") as file,
    ):
        cursor.execute("select record_id, global_customer_id from identity.customer_identity_map")
        csv.writer(file).writerows([("record_id", "cluster_id"), *cursor])
    connection.close()
    said = subprocess.run(
        [sys.executable, SHARED / "score_clusters.py", predicted, truth], capture_output=True, check=True
    )
    return json.loads(said.stdout)
