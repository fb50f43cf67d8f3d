"""Bytes in, rows and rejected lines out: every kind of bad input with the reason it gets."""

import gzip
import io
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestion.readers import LONGEST_LINE, Reader
from ingestion.sources import Source

ARRIVAL = datetime(2026, 3, 1, 12, tzinfo=UTC)
SHOP = Source(
    name="shop",
    prefix="shop/",
    raw_table="shop_orders",
    staging_table="stg_shop",
    record_id="id",
    event_ts="at",
    attributes={
        "email": ("email",),
        "phone": ("phone",),
        "name": ("first", "last"),
        "address": ("street", "no"),
    },
    day_first=False,
    region=None,
)


def read(data: bytes, key: str = "shop/a.jsonl", is_erased=None) -> tuple[list[tuple], list[tuple]]:
    """Rows (line, deleted, time, id, payload) and rejected lines (line, reason, text) of an object."""
    rows, rejected = [], []
    for chunk in Reader(SHOP, 9, is_erased).read(io.BytesIO(data), key, 5, ARRIVAL):
        for row in chunk.rows:
            object_id, run_id, line, deleted, moment, record_id, payload = row.decode().split("\x01")
            assert (object_id, run_id) == ("5", "9")
            rows.append((int(line), deleted == "t", moment, uncopied(record_id), uncopied(payload)))
        rejected += [(line.line_number, line.reason, line.text) for line in chunk.rejected]
    return rows, rejected


def uncopied(text: str) -> str:
    """A text out of COPY's text format."""
    return (
        text.replace("\\\\", "\0")
        .replace("\\n", "\n")
        .replace("\\r", "\r")
        .replace("\\x01", "\x01")
        .replace("\0", "\\")
    )


GOOD = b'{"id": "g", "at": "2026-02-28T10:00:00Z", "email": "a@b.example"}'


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "not JSON: Input data was truncated"),
        (b'{"id": "a",}', "not JSON: trailing comma in object (byte 11)"),
        (b"{'id': 'a'}", "not JSON: object keys must be strings (byte 1)"),
        (b'{"id": "a"} {"id": "b"}', "not JSON: trailing characters (byte 13)"),
        (b'{"id": "a", "x": NaN}', "not JSON: invalid character (byte 17)"),
        (b'{"id": "a", "x": 01}', "not JSON: invalid number (byte 18)"),
        (b'{"id": "a", "x": "\t"}', "not JSON: invalid character (byte 18)"),
        (b'{"id": "a", "x": "\x01"}', "not JSON: invalid character (byte 18)"),
        (b"hello", "not JSON: invalid character (byte 0)"),
        (b'["a", "b"]', "a list instead of an object"),
        (b"42", "a number instead of an object"),
        (b"4.2", "a number with a fraction instead of an object"),
        (b'"a"', "a text instead of an object"),
        (b"true", "true or false instead of an object"),
        (b"null", "null instead of an object"),
        (b'{"email": "a@b.example"}', "id is missing"),
        (b'{"id": null}', "id is missing"),
        (b'{"id": ""}', "id is empty"),
        (b'{"id": "  "}', "id is empty"),
        (b'{"id": 1.5}', "id is a number with a fraction, not text"),
        (b'{"id": true}', "id is true or false, not text"),
        (b'{"id": ["a"]}', "id is a list, not text"),
        (b'{"id": {"a": 1}}', "id is an object, not text"),
        (b'{"id": "' + b"x" * 256 + b'"}', "id is longer than 255 characters"),
        (b'{"id": 1' + b"0" * 38 + b"}", "id is a number of more than 38 digits"),
        (b'{"id": "a", "phone": 1' + b"0" * 38 + b"}", "phone is a number of more than 38 digits"),
        (b'{"id": "a", "email": 7}', "email is a number, not text"),
        (b'{"id": "a", "email": ["a@b.example"]}', "email is a list, not text"),
        (b'{"id": "a", "phone": {"n": 1}}', "phone is an object, not text"),
        (b'{"id": "a", "phone": true}', "phone is true or false, not text"),
        (b'{"id": "a", "phone": 1.5}', "phone is a number with a fraction, not text"),
        (b'{"id": "a", "last": 7}', "last is a number, not text"),
        (b'{"id": "a", "_deleted": "true"}', "_deleted is a text, not true or false"),
        (b'{"id": "a", "at": "yesterday"}', "at is no time of ISO 8601, nor Unix time"),
        (b'{"id": "a", "at": "2026-02-30T00:00:00Z"}', "at is no time of ISO 8601, nor Unix time"),
        (b'{"id": "a", "at": "2026-01-01T25:00:00Z"}', "at is no time of ISO 8601, nor Unix time"),
        (b'{"id": "a", "at": "infinity"}', "at is no time of ISO 8601, nor Unix time"),
        (b'{"id": "a", "at": true}', "at is true or false, not a time"),
        (b'{"id": "a", "at": []}', "at is a list, not a time"),
        (b'{"id": "a", "at": "1969-12-31T23:59:59Z"}', "at lies before 1970"),
        (b'{"id": "a", "at": -1}', "at lies before 1970"),
        (b'{"id": "a", "at": "2026-03-03T00:00:00Z"}', "at lies in the future"),
        (b'{"id": "a", "at": 99999999999999}', "at lies in the future"),
        (b'{"id": "a", "at": 1e300}', "at is no time of ISO 8601, nor Unix time"),
        (b'{"id": "a\xff"}', "not UTF-8"),
        (b'{"id": "a", "x": "\xff"}', "not UTF-8"),
        (b'{"id": "a", "x": "\xed\xa0\x80"}', "not UTF-8"),
        (b'{"id": "a", "x": "\x00"}', "holds a NUL character"),
        (b'{"id": "a", "x": "\\u0000"}', "holds a NUL character"),
        (b'{"id": "a", "x": "\\\\\\u0000"}', "holds a NUL character"),
        (b'{"id": "a", "\\u0000": 1}', "holds a NUL character"),
        (b'{"id": "a", "x": "\\ud83d"}', "holds half of a surrogate pair"),
        (b'{"id": "a", "x": "\\ude00 \\ud83d\\ude00"}', "holds half of a surrogate pair"),
        (b'{"id": "a", "x": ' + b"[" * 64 + b"]" * 64 + b"}", "nested deeper than 64"),
        (b"[" * 100_000, "nested deeper than 64"),
        (b'{"id": ' + b"9" * 5000 + b"}", "not JSON: Integer value out of range - at `$[...]`"),
        (b'{"id": "a", "x": "' + b"y" * LONGEST_LINE + b'"}', "longer than 1024 KiB"),
    ],
)
def test_a_bad_line_has_its_reason_and_its_neighbours_go_through(line, reason):
    rows, rejected = read(GOOD + b"\n" + line + b"\n" + GOOD)
    assert [row[0] for row in rows] == [1, 3]
    ((number, given_reason, text),) = rejected
    assert (number, given_reason) == (2, reason)
    assert text == line.decode(errors="replace").replace("\0", "\ufffd")[:10_000]


@pytest.mark.parametrize("bare", [b"", b" ", b"0", b"~"])
def test_a_deep_line_is_found_among_lines_without_brackets(bare):
    deep = b'{"id": "a", "x": ' + b"[" * 64 + b"]" * 64 + b"}"
    rows, rejected = read((bare + b"\n") * 100 + deep + b"\n" + GOOD + b"\n")
    assert [row[0] for row in rows] == [102]
    assert rejected[-1][:2] == (101, "nested deeper than 64")


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_escapes_stay_beside_a_line_that_is_no_text(end):
    escaped = b'{"id": "a\\"b", "x": "\\\\ \\n"}'
    rows, rejected = read(escaped + b"\n\xff\n" + escaped + end)
    assert [(row[0], *row[3:]) for row in rows] == [(line, 'a"b', escaped.decode()) for line in (1, 3)]
    assert rejected == [(2, "not UTF-8", "\ufffd")]


@pytest.mark.parametrize(
    ("line", "deleted", "moment", "record_id"),
    [
        (GOOD, False, "2026-02-28T10:00:00Z", "g"),
        (b'{"id": 12, "at": "2026-02-28T10:00:00Z"}', False, "2026-02-28T10:00:00Z", "12"),
        (b'{"id": ' + b"9" * 38 + b"}", False, "2026-03-01T12:00:00+00:00", "9" * 38),
        (b'{"id": "12", "at": "2026-02-28T10:00:00.123456Z"}', False, "2026-02-28T10:00:00.123456Z", "12"),
        (b'{"id": "a", "at": "2026-02-28T10:00:00+05:30"}', False, "2026-02-28T04:30:00+00:00", "a"),
        (b'{"id": "a", "at": "2026-02-28 10:00"}', False, "2026-02-28T10:00:00+00:00", "a"),
        (b'{"id": "a", "at": "2026-02-28"}', False, "2026-02-28T00:00:00+00:00", "a"),
        (b'{"id": "a", "at": "2026-02-28 10:00:00 UTC"}', False, "2026-02-28T10:00:00+00:00", "a"),
        (b'{"id": "a", "at": "20260228"}', False, "2026-02-28T00:00:00+00:00", "a"),
        (b'{"id": "a", "at": 1772272800}', False, "2026-02-28T10:00:00+00:00", "a"),
        (b'{"id": "a", "at": 1772272800123}', False, "2026-02-28T10:00:00.123000+00:00", "a"),
        (b'{"id": "a", "at": 1772272800.5}', False, "2026-02-28T10:00:00.500000+00:00", "a"),
        (b'{"id": "a", "at": "1772272800"}', False, "2026-02-28T10:00:00+00:00", "a"),
        (b'{"id": "a", "at": "2026-03-02T23:59:59Z"}', False, "2026-03-02T23:59:59Z", "a"),
        (b'{"id": "a"}', False, "2026-03-01T12:00:00+00:00", "a"),
        (b'{"id": "a", "at": null, "email": null}', False, "2026-03-01T12:00:00+00:00", "a"),
        (b'{"id": "a", "at": ""}', False, "2026-03-01T12:00:00+00:00", "a"),
        (b'{"id": "a", "phone": 5551234, "street": 7}', False, "2026-03-01T12:00:00+00:00", "a"),
        (b'{"id": "a", "_deleted": true}', True, "2026-03-01T12:00:00+00:00", "a"),
        (b'{"id": "a", "_deleted": true, "email": 7}', True, "2026-03-01T12:00:00+00:00", "a"),
        (b'{"id": "a", "_deleted": null}', False, "2026-03-01T12:00:00+00:00", "a"),
        (b' {"id" :\t"a" } ', False, "2026-03-01T12:00:00+00:00", "a"),
        (b'{"id": "a",\r"x": 1}', False, "2026-03-01T12:00:00+00:00", "a"),
        ('{"id": "\N{SNOWMAN}", "x": "Zoë"}'.encode(), False, "2026-03-01T12:00:00+00:00", "\N{SNOWMAN}"),
        (b'{"id": "\\ud83d\\ude00"}', False, "2026-03-01T12:00:00+00:00", "\N{GRINNING FACE}"),
        (b'{"id": "a\\\\b\\n\\u0001", "x": "\\\\u0000"}', False, "2026-03-01T12:00:00+00:00", "a\\b\n\x01"),
        (b'{"id": "a", "id": "b"}', False, "2026-03-01T12:00:00+00:00", "b"),
        (b'{"id": "a", "x": ' + b"[" * 63 + b"]" * 63 + b"}", False, "2026-03-01T12:00:00+00:00", "a"),
        (b'{"id": "a", "x": "' + b"[" * 100 + b'"}', False, "2026-03-01T12:00:00+00:00", "a"),
    ],
)
def test_a_good_line_is_kept_as_it_is(line, deleted, moment, record_id):
    assert read(line + b"\n") == ([(1, deleted, moment, record_id, line.decode())], [])


def test_blank_lines_and_windows_line_ends_are_no_matter():
    rows, rejected = read(b"\xef\xbb\xbf" + GOOD + b"\r\n\r\n  \n" + GOOD + b"\r\n" + GOOD + b"\r")
    assert [(row[0], row[4]) for row in rows] == [(1, GOOD.decode()), (4, GOOD.decode()), (5, GOOD.decode())]
    assert rejected == []


@pytest.mark.parametrize("key", ["a.jsonl", "a.jsonl.gz", "a.csv", "a.csv.gz"])
def test_an_empty_object_has_nothing(key):
    assert read(b"", key) == ([], [])
    assert read(gzip.compress(b""), key) == ([], [])


def test_gzip_is_known_by_its_first_bytes():
    padding = b"\0" * 3 * 1024 * 1024
    packed = gzip.compress(GOOD + b"\n") + padding + gzip.compress(GOOD) + b"\0" * 512
    for key in ("a.jsonl", "a.jsonl.gz"):
        assert [row[0] for row in read(packed, key)[0]] == [1, 2]
    assert [row[0] for row in read(GOOD, "a.jsonl.gz")[0]] == [1]


def test_the_good_lines_of_a_truncated_gzip_go_through():
    lines = b"".join(b'{"id": "%d", "x": "%d"}\n' % (i, i * 7919**5) for i in range(5000))
    packed = gzip.compress(lines)
    rows, ((number, reason, _),) = read(packed[: len(packed) // 2], "a.jsonl.gz")
    assert 100 < len(rows) < 5000
    assert (number, reason) == (len(rows) + 1, "the gzip is truncated here")


def test_a_corrupt_gzip_ends_where_it_breaks():
    packed = bytearray(gzip.compress(GOOD + b"\n"))
    packed[-6] ^= 1
    rows, rejected = read(bytes(packed), "a.jsonl.gz")
    assert [reason for _, reason, _ in rejected] == ["the gzip is corrupt from here on"]
    assert len(rows) <= 1
    rows, ((_, reason, _),) = read(gzip.compress(GOOD + b"\n") + b"rubbish")
    assert (len(rows), reason) == (1, "the gzip is corrupt from here on")


@pytest.mark.parametrize("codec", ["utf-16", "utf-16-be", "utf-16-le"])
def test_utf_16_is_named(codec):
    mark = b"\xfe\xff" if codec == "utf-16-be" else b"\xff\xfe" if codec == "utf-16-le" else b""
    rows, ((number, reason, _),) = read(mark + GOOD.decode().encode(codec))
    assert (rows, number) == ([], 1)
    assert reason.startswith("UTF-16")


def test_a_line_of_50_mb_is_not_held():
    class Long(io.RawIOBase):
        """A first line, 50 MB without an end of line, a last line."""

        def __init__(self):
            self.blocks = [GOOD + b"\n"] + [b"x" * 1_000_000] * 50 + [b"\n" + GOOD]

        def read(self, size):
            return self.blocks.pop(0) if self.blocks else b""

    rows, rejected = [], []
    for chunk in Reader(SHOP, 9).read(Long(), "a.jsonl", 5, ARRIVAL):
        rows += chunk.rows
        rejected += chunk.rejected
    assert len(rows) == 2
    assert [(line.line_number, line.reason, len(line.text)) for line in rejected] == [
        (2, "longer than 1024 KiB", 10_000)
    ]


def test_lines_are_the_same_wherever_blocks_end():
    class Dripping(io.RawIOBase):
        def __init__(self, data, step):
            self.data, self.step = data, step

        def read(self, size):
            block, self.data = self.data[: self.step], self.data[self.step :]
            return block

    data = GOOD + b"\r\n" + b"[]\r\n" + b'{"id": "\\u00e9"}\n' + '{"id": "é"}'.encode() + b"\r"
    whole = read(data)
    assert len(whole[0]) == 3
    for step in (4, 5, 7, 11):
        chunks = list(Reader(SHOP, 9).read(Dripping(data, step), "a.jsonl", 5, ARRIVAL))
        assert sum(len(chunk.rows) for chunk in chunks) == 3
        assert [line.line_number for chunk in chunks for line in chunk.rejected] == [2]


def test_erased_records_are_not_taken_in():
    lines = b'{"id": "a"}\n{"id": 7}\n{"id": "b\\u00e9", "at": "2026-02-28"}\n'
    rows, rejected = read(lines, is_erased={"7", "bé"}.__contains__)
    assert [row[3] for row in rows] == ["a"]
    assert rejected == [(2, "erased", ""), (3, "erased", "")]
    assert read(b"id\na\n7\n", "a.csv", {"7"}.__contains__)[1] == [(3, "erased", "")]


@pytest.mark.parametrize(
    ("line", "key"),
    [
        (b'{"id": "7", "at": "nonsense", "email": "erin@quill.com"}', "a.jsonl"),
        (b'{"email": ["erin@quill.com"], "id" : 7}', "a.jsonl"),
        (b'{"id": "\\u0037", "email": "erin@quill.com", broken', "a.jsonl"),
        (b"7,erin@quill.com,too,many", "a.csv"),
        (b'7,"erin@quill.com', "a.csv"),
    ],
)
def test_nor_is_anything_of_them_kept_where_they_cannot_be_read(line, key):
    head = b"id,email\n" if key.endswith(".csv") else b""
    rows, rejected = read(head + line + b"\n", key, {"7"}.__contains__)
    assert rows == [] and [(reason, text) for _, reason, text in rejected] == [("erased", "")]
    assert [text for _, _, text in read(head + line + b"\n", key, {"8"}.__contains__)[1]] == [line.decode()]


# -- CSV ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "rows", "rejected"),
    [
        (
            b"id,email\n1,a@b\n2,\n",
            [(2, "1", {"id": "1", "email": "a@b"}), (3, "2", {"id": "2", "email": ""})],
            [],
        ),
        (b"\xef\xbb\xbfid;email\r\n1;a,b\r\n", [(2, "1", {"id": "1", "email": "a,b"})], []),
        (b'"id";"email"\r\n"1";"a;b"\r\n', [(2, "1", {"id": "1", "email": "a;b"})], []),
        (b'"id"|"email"\n1|"a"\n', [(2, "1", {"id": "1", "email": "a"})], []),
        (
            b'"name";x\n1;a\n',
            [],
            [(1, "no column id in the header; the object is not read", '"name";x')],
        ),
        (
            b"id,x,x\n1,a,b\n\xef\xbb\xbfid, x,x\n2,c,d\n",
            [(2, "1", {"id": "1", "x": "a", "x_3": "b"}), (4, "2", {"id": "2", "x": "c", "x_3": "d"})],
            [(3, "the header once more, no record", "\ufeffid, x,x")],
        ),
        (b"id\temail\n1\ta", [(2, "1", {"id": "1", "email": "a"})], []),
        (b"id\n1\n\n2", [(2, "1", {"id": "1"}), (4, "2", {"id": "2"})], []),
        (b'id,x\n1,"a ""b"", c"\n', [(2, "1", {"id": "1", "x": 'a "b", c'})], []),
        (
            b'id,x\n1,"two\nlines"\n2,b\n',
            [(2, "1", {"id": "1", "x": "two\nlines"}), (4, "2", {"id": "2", "x": "b"})],
            [],
        ),
        (
            b'id,x\n1,5" nail\n2,b\n',
            [(2, "1", {"id": "1", "x": '5" nail'}), (3, "2", {"id": "2", "x": "b"})],
            [],
        ),
        (b"id,x,x,\n1,a,b,c\n", [(2, "1", {"id": "1", "x": "a", "x_3": "b", "": "c"})], []),
        (b"id,x\n1,a\\b\n", [(2, "1", {"id": "1", "x": "a\\b"})], []),
        ("id,x\n1,é\n".encode(), [(2, "1", {"id": "1", "x": "é"})], []),
        (
            b"id,x\n1,a,b\n2\n3,c\n",
            [(4, "3", {"id": "3", "x": "c"})],
            [(2, "3 fields, the header has 2", "1,a,b"), (3, "1 fields, the header has 2", "2")],
        ),
        (b"id,x\n,a\n", [], [(2, "id is empty", ",a")]),
        (b"id,at\n1,soon\n", [], [(2, "at is no time of ISO 8601, nor Unix time", "1,soon")]),
        (b"id,_deleted\n1,maybe\n", [], [(2, "_deleted is neither true nor false", "1,maybe")]),
        (b"id,x\n1,\xff\n2,b\n", [(3, "2", {"id": "2", "x": "b"})], [(2, "not UTF-8", "1,\ufffd")]),
        (b"id,x\n1,\0\n2,b\n", [(3, "2", {"id": "2", "x": "b"})], [(2, "holds a NUL character", "1,\ufffd")]),
        (
            b'id,x\n1,"a\n2,b\n3,c\n',
            [(3, "2", {"id": "2", "x": "b"}), (4, "3", {"id": "3", "x": "c"})],
            [(2, "not CSV: unexpected end of data", '1,"a')],
        ),
        (
            b'id,x\n1,"a\n2,b\n3,"c\n4,d\n',
            [(3, "2", {"id": "2", "x": "b"}), (5, "4", {"id": "4", "x": "d"})],
            [(2, "not CSV: unexpected end of data", '1,"a'), (4, "not CSV: unexpected end of data", '3,"c')],
        ),
        (b"name,x\n1,a\n", [], [(1, "no column id in the header; the object is not read", "name,x")]),
        (
            b"id,email,email\n1,a,b\n",
            [],
            [(1, "two columns email in the header; the object is not read", "id,email,email")],
        ),
        (b"\xff,id\n1,a\n", [], [(1, "the header is not UTF-8", "\ufffd,id")]),
        (b'id,x\n,"a\nb"\n', [], [(2, "id is empty", ',"a\nb"')]),
        (
            b'id,"first\n(given)",x\n1,a,b\n',
            [],
            [(1, "a quote in the header is not closed on its line; the object is not read", 'id,"first')],
        ),
    ],
)
def test_csv(data, rows, rejected):
    given_rows, given_rejected = read(data, "a.CSV")
    assert [(line, record_id, json.loads(payload)) for line, _, _, record_id, payload in given_rows] == rows
    assert given_rejected == rejected


def test_csv_times_and_withdrawals():
    rows, rejected = read(
        b"id,at,_deleted\n1,2026-02-28T10:00:00Z,\n2,1772272800,TRUE\n3,,0\n4,,1\n", "a.csv"
    )
    assert [(row[3], row[1], row[2]) for row in rows] == [
        ("1", False, "2026-02-28T10:00:00Z"),
        ("2", True, "2026-02-28T10:00:00+00:00"),
        ("3", False, "2026-03-01T12:00:00+00:00"),
        ("4", True, "2026-03-01T12:00:00+00:00"),
    ]
    assert rejected == []


def test_a_quote_that_never_closes_takes_only_its_own_line():
    good = b"%d,some text that is good and goes through\n"
    data = b'id,x\n1,"open\n' + b"".join(good % i for i in range(2, 60_000))
    assert len(data) > 2 * LONGEST_LINE
    rows, rejected = read(data, "a.csv")
    assert len(rows) == 59_998
    assert [(line, reason) for line, reason, _ in rejected] == [(2, "not CSV: unexpected end of data")]


# -- whatever comes -----------------------------------------------------------------------------------------

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
fields = st.sampled_from(["id", "at", "email", "phone", "first", "street", "_deleted", "x"])
json_lines = st.builds(
    lambda record, ascii_only: json.dumps(record, ensure_ascii=ascii_only).encode(errors="surrogatepass"),
    st.dictionaries(fields, json_values, max_size=6),
    st.booleans(),
)


@settings(deadline=None)
@given(st.lists(json_lines | st.binary(max_size=40).map(lambda line: line.replace(b"\n", b"")), max_size=8))
def test_every_line_is_a_row_or_rejected_and_never_an_error(lines):
    rows, rejected = read(b"\n".join(lines))
    numbers = [row[0] for row in rows] + [line for line, _, _ in rejected]
    assert len(numbers) == len(set(numbers))
    if not lines or not lines[0].startswith((b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf", b"\x1f\x8b")):
        assert sorted(numbers) == [number for number, line in enumerate(lines, 1) if line.strip()]


@settings(deadline=None)
@given(st.lists(json_lines, min_size=1, max_size=5))
def test_the_fast_way_and_the_slow_way_agree(lines):
    """A line longer than allowed sends its whole block the slow way; times may be spelled differently."""
    fast = read(b"\n".join(lines))
    slow = read(b"\n".join([*lines, b'{"id": "' + b"x" * LONGEST_LINE + b'"}']))

    def meaning(rows):
        return [(line, deleted, datetime.fromisoformat(at), *rest) for line, deleted, at, *rest in rows]

    assert meaning(fast[0]) == meaning(slow[0])
    assert fast[1] == slow[1][:-1]


@settings(deadline=None)
@given(st.binary(max_size=300), st.sampled_from(["a.jsonl", "a.csv", "a.csv.gz"]))
def test_rubbish_is_never_an_error(data, key):
    read(b"id,x\n" + data if "csv" in key else data, key)
    read(gzip.compress(b"id,x\n")[:-8] + data, key)
