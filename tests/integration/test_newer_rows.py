"""Whether a table has rows of later runs is told at the same cost however many others it has."""

import pytest


@pytest.fixture
def filled(database):
    """A table with the rows of two runs, of which the planner knows that one in ten is new."""
    with database.connect() as connection, connection.cursor() as cursor:
        cursor.execute("create table staging.many (run_id integer not null, value integer)")
        cursor.execute("select identity.index_run_id('staging.many')")
        for run_id, first, last in ((1, 1, 90_000), (2, 90_001, 100_000)):
            cursor.execute(
                "insert into staging.many select %s, generate_series(%s, %s)", (run_id, first, last)
            )
        cursor.execute("select brin_summarize_new_values('staging.many_run_id')")
        cursor.execute("analyze staging.many")
        yield cursor


@pytest.mark.parametrize(("mark", "has_newer"), [(0, True), (1, True), (2, False)])
def test_rows_of_later_runs_are_found_without_reading_all_others(filled, mark, has_newer):
    read = "select seq_tup_read + idx_tup_fetch from pg_stat_xact_user_tables where relname = 'many'"
    filled.execute(read)
    (before,) = filled.fetchone()
    filled.execute("select identity.has_newer_rows('staging.many', %s)", (mark,))
    assert filled.fetchone() == (has_newer,)
    filled.execute(read)
    assert filled.fetchone()[0] - before < 1000
