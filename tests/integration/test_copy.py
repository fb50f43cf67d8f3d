"""COPY both ways: what goes in comes out, whatever the types and whatever is missing."""

import polars as pl
import pytest

from db.postgres import (
    bulk_load,
    connect,
    copy_in,
    copy_in_parts,
    copy_out,
    copy_out_lines,
    copy_out_lists,
    copy_out_numbers,
)

TABLE = (
    "create temp table copied (number bigint, small smallint, share real, yes boolean, said text, born date, "
    "seen timestamptz, customer uuid, decided identity.match_decision, sources text[])"
)
ROWS = pl.DataFrame(
    {
        "number": [1, None],
        "small": [-3, None],
        "share": [0.5, None],
        "yes": [True, None],
        "said": ['a "quoted",\ntext\\ with \x01', None],
        "born": ["1980-02-29", None],
        "seen": ["2026-01-02 03:04:05.678901+00", None],
        "customer": ["c6dc407e-f7ca-89e1-80c9-463b1441221f", None],
        "decided": ["AUTO_MERGE", None],
        "sources": [["crm", "shop"], None],
    }
)


@pytest.fixture
def cursor(database):
    """A cursor with the table `copied`."""
    with connect() as connection, connection.cursor() as cursor:
        cursor.execute(TABLE)
        yield cursor


def test_what_goes_in_comes_out(cursor):
    assert copy_in(cursor, "pg_temp.copied", ROWS) == 2
    cursor.execute("select copied::text from copied order by number")
    assert [row for (row,) in cursor.fetchall()] == [
        '(1,-3,0.5,t,"a ""quoted"",\ntext\\\\ with \x01",1980-02-29,"2026-01-02 03:04:05.678901+00",'
        'c6dc407e-f7ca-89e1-80c9-463b1441221f,AUTO_MERGE,"{crm,shop}")',
        "(,,,,,,,,,)",
    ]


def test_an_empty_text_is_not_null(cursor):
    copy_in(cursor, "pg_temp.copied", pl.DataFrame({"said": ["", None]}))
    said = copy_out(
        cursor, "select said, said is null as missing from copied", {"said": pl.String, "missing": pl.String}
    )
    assert sorted(said["missing"]) == ["f", "t"]


def test_rows_in_parts_are_one_copy(cursor):
    parts = [
        pl.DataFrame({"number": range(first, last), "said": ["x"] * (last - first)})
        for first, last in ((0, 3), (3, 3), (3, 100_000))
    ]
    assert copy_in_parts(cursor, "pg_temp.copied", iter(parts)) == 100_000
    cursor.execute("select count(*), sum(number), min(said) from copied")
    assert cursor.fetchone() == (100_000, sum(range(100_000)), "x")
    assert copy_in_parts(cursor, "pg_temp.copied", iter([])) == 0


def test_a_part_that_cannot_be_made_ends_the_copy(cursor):
    def parts():
        yield pl.DataFrame({"number": [1]})
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        copy_in_parts(cursor, "pg_temp.copied", parts())


def test_more_rows_than_one_piece(cursor):
    rows = pl.DataFrame({"number": range(150_000), "small": [7] * 150_000})
    copy_in(cursor, "pg_temp.copied", rows)
    out = copy_out_numbers(
        cursor, "select number, small from copied order by number", {"number": pl.Int64, "small": pl.Int16}
    )
    assert out.equals(rows.cast({"small": pl.Int16}))


def test_numbers_of_no_rows(cursor):
    assert copy_out_numbers(cursor, "select number from copied", {"number": pl.Int64}).height == 0


@pytest.mark.parametrize("query", ["select null::bigint", "select 1::smallint", "select 1::bigint, 2"])
def test_numbers_that_are_not_what_was_said_are_refused(cursor, query):
    with pytest.raises(ValueError, match="other types"):
        copy_out_numbers(cursor, query, {"number": pl.Int64})


def test_json_lines_come_out_as_they_are_but_for_white_space(cursor):
    lines = [r'{"a": "back\\slash, \n and \u00e9 \\t"}', '{"a":\t"tab",\r "b": "é"}', "{}"]
    copy_in(cursor, "pg_temp.copied", pl.DataFrame({"said": lines}))
    out = copy_out_lines(cursor, "select said from copied")
    assert out.decode().splitlines() == [lines[0], lines[1].replace("\t", " ").replace("\r", " "), "{}"]


def test_rows_of_a_first_load_need_no_marks_by_their_readers(database, cursor):
    table = "gold.customer_composition_totals"
    for source_mask, expected in ((1, 1), (2, 0)):
        with bulk_load(cursor, table):
            rows = {"source_mask": [source_mask], "record_count": [1], "customer_count": [1]}
            copy_in(cursor, table, pl.DataFrame(rows))
        cursor.execute(f"analyze {table}")
        cursor.execute("select relallvisible from pg_class where oid = %s::regclass", (table,))
        assert cursor.fetchone() == (expected,)


LISTS = {"key": pl.Int64, "bits": pl.Int32}


def test_lists_come_out_as_their_elements_one_after_the_other(cursor):
    cursor.execute("create temp table lists (place serial, key bigint[], bits integer[]) on commit drop")
    lists = [([1, -(2**63), 3], [7, -1, 0]), ([], []), (list(range(20_000)), list(range(20_000, 0, -1)))]
    schema = {name: pl.List(kind) for name, kind in LISTS.items()}
    parts = (pl.DataFrame({"key": [key], "bits": [bits]}, schema=schema) for key, bits in lists)
    assert copy_in_parts(cursor, "pg_temp.lists", parts) == 3
    out = copy_out_lists(cursor, "select key, bits from lists order by place", LISTS)
    assert out["key"].to_list() == [number for key, _ in lists for number in key]
    assert out["bits"].to_list() == [number for _, bits in lists for number in bits]


def test_elements_of_no_list(cursor):
    out = copy_out_lists(cursor, "select array[1::bigint], array[1] where false", LISTS)
    assert (out.height, out.schema) == (0, LISTS)


@pytest.mark.parametrize("query", ["select array[1], array[1]", "select array[null::bigint], array[1]"])
def test_elements_that_are_not_what_was_said_are_refused(cursor, query):
    with pytest.raises(ValueError, match="of another type"):
        copy_out_lists(cursor, query, LISTS)
