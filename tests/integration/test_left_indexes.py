"""Indexes that the first load of a table leaves: built beside other phases, or by the phase that needs them."""

from concurrent.futures import ThreadPoolExecutor

import polars as pl
import pytest

from db import build_indexes
from db.postgres import build_left_indexes, bulk_load, connect, copy_in
from tests.pipeline import wait_for

TABLE = "identity.refused_links"
LEFT = ("refused_links_match_weight", "refused_links_right")
ROWS = pl.DataFrame(
    {
        "left_profile_key": [1, 1],
        "right_profile_key": [2, 3],
        "run_id": [1, 1],
        "match_weight": [4.0, 5.0],
        "refused_reason": ["birth_date", "birth_date"],
    }
)
INDEXES = "select indexname from pg_indexes where tablename = 'refused_links' order by 1"
STATISTICS = "select count(*) from pg_stats where tablename = 'refused_links'"
WAITING = "select index_name from gold.indexes_to_build order by 1"
ALL = [("refused_links_match_weight",), ("refused_links_pkey",), ("refused_links_right",)]


@pytest.fixture
def loaded(database):
    """A first load that has left two indexes of three."""
    load(leaves=LEFT)
    return database


def load(**how: object) -> None:
    """Fill the table, which is empty."""
    with (
        connect() as connection,
        connection.cursor() as cursor,
        bulk_load(cursor, TABLE, with_keys=True, **how),
    ):
        copy_in(cursor, TABLE, ROWS)


def test_the_load_does_without_them(loaded):
    assert loaded.query(INDEXES) == [("refused_links_pkey",)]
    assert loaded.query(WAITING) == [
        ("identity.refused_links_match_weight",),
        ("identity.refused_links_right",),
    ]


def test_they_are_built_beside(loaded, capsys):
    assert loaded.query(STATISTICS) == [(0,)]
    assert build_indexes.main([]) == 0
    assert loaded.query(STATISTICS) == [(5,)]
    assert "2 in" in capsys.readouterr().out
    assert loaded.query(INDEXES) == ALL
    assert loaded.query(WAITING) == []
    assert build_indexes.main([]) == 0
    assert capsys.readouterr().out == ""


def test_two_that_build_at_once_leave_statistics(loaded):
    with connect() as writer, ThreadPoolExecutor(2) as builders:
        # A row that is not committed yet keeps both from building what they have taken up.
        writer.cursor().execute(f"update {TABLE} set run_id = 1")
        building = [builders.submit(build_indexes.build_one) for _ in LEFT]
        waiting = "select count(*) from pg_locks where relation = %s::regclass and not granted"
        wait_for(lambda: loaded.query(waiting, (TABLE,)) == [(len(LEFT),)])
        writer.commit()
        assert all(builder.result() for builder in building)
    assert loaded.query(INDEXES) == ALL
    assert loaded.query(STATISTICS) == [(5,)]


def test_a_phase_that_needs_them_builds_those_of_its_tables(loaded):
    with connect() as connection, connection.cursor() as cursor:
        build_left_indexes(cursor, "identity.memberships")
        cursor.execute(WAITING)
        assert len(cursor.fetchall()) == 2
        build_left_indexes(cursor, TABLE)
    assert loaded.query(INDEXES) == ALL
    assert loaded.query(WAITING) == []


def test_what_another_process_builds_is_waited_for_or_passed_over(loaded):
    with connect() as connection, connection.cursor() as cursor:
        build_left_indexes(cursor, TABLE)
        assert build_indexes.main([]) == 0
        with connect() as other, other.cursor() as late:
            late.execute("set lock_timeout = '200ms'")
            with pytest.raises(Exception, match="lock timeout"):
                build_left_indexes(late, TABLE)
            other.rollback()
    assert loaded.query(INDEXES) == ALL


def test_one_that_the_schema_has_made_meanwhile_is_not_made_twice(loaded):
    loaded.execute("create index refused_links_right on identity.refused_links (right_profile_key)")
    assert build_indexes.main([]) == 0
    assert loaded.query(INDEXES) == ALL


def test_a_table_emptied_and_filled_again_leaves_them_again(loaded):
    build_indexes.main([])
    loaded.execute(f"truncate {TABLE}")
    load(leaves=LEFT)
    assert len(loaded.query(WAITING)) == 2
    build_indexes.main([])
    assert loaded.query(INDEXES) == ALL
