"""From an object of the lake to rows of a raw table, and to rejected lines with their reason.

1. The object is read in blocks; gzip is known by its first bytes and unpacked block by block.
2. Blocks are cut into lines. A line longer than LONGEST_LINE is cut off, so memory stays bounded.
3. A JSON line is parsed and checked in one step (msgspec, a struct of the fields the source names); a line
   that does not pass is looked at a second time, slowly, for the reason, or because it is merely unusual.
   A CSV record becomes a JSON object of its header and its texts.
4. Good lines become COPY text, JSON lines with their text untouched; bad ones become Rejected.

No database here and no lake: bytes in, chunks out.
"""

import csv
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Annotated, BinaryIO

import msgspec

from ingestion.sources import Source

ENDINGS = (".jsonl", ".jsonl.gz", ".csv", ".csv.gz")
COLUMNS = ("object_id", "run_id", "line_number", "is_deleted", "event_ts", "record_id", "payload")
# No valid JSON holds this character, so lines need no quoting.
DELIMITER = "\x01"

BLOCK = 1024 * 1024
LONGEST_LINE = 1024 * 1024
LONGEST_ID = 255
# A whole number has at most so many digits; those of an int64 go the fast way.
LONGEST_NUMBER = 38
LONGEST_REJECTED = 10_000
DEEPEST = 64
# The reason of a line that is not taken in because its record was erased; its text is not kept either.
ERASED = "erased"

# Attributes of which a number is as good as its text.
NUMBERS_TOO = frozenset(("phone", "birth_date", "address", "postal_code", "national_id"))
CSV_DELIMITERS = (",", ";", "\t", "|")
TRUE, FALSE = ("true", "1"), ("", "false", "0")

# The 5th, 8th, 11th ... character of 2026-01-31T23:59:59Z and of 2026-01-31T23:59:59.123Z.
UTC_MARKS = ("--T::Z", "--T::.")
STRINGS = re.compile(rb'"(?:[^"\\]|\\.)*"?')
NUL_ESCAPE = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
WHOLE_PAIRS = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}")
HALF_PAIR = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
BYTE_ORDER_MARK = "\ufeff"
UTC_IN_WORDS = re.compile(r" (UTC|GMT)$")
EPOCH = re.compile(r"-?[0-9]{9,}(\.[0-9]+)?")
# COPY's text format; the other control characters stand for themselves.
COPY_ESCAPES = str.maketrans({"\\": "\\\\", "\n": "\\n", "\r": "\\r", DELIMITER: "\\x01"})


@dataclass(frozen=True)
class Rejected:
    """A line that could not be read: its number (from 1), why, and its text as far as it is kept."""

    line_number: int
    reason: str
    text: str


@dataclass
class Chunk:
    """Some lines of an object. `rows`: COPY text of COLUMNS with DELIMITER between, without line ends."""

    rows: list[bytes] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Bytes held, about."""
        return sum(map(len, self.rows)) + sum(len(line.text) + 100 for line in self.rejected)


class BadLine(Exception):
    """Why a line is rejected."""


class Damaged(Exception):
    """Why an object cannot be read any further."""


class Reader:
    """Reads the objects of one source in one run.

    is_erased: whether a record id belongs to an erased record, which is not taken in again; None: none is.
    """

    def __init__(self, source: Source, run_id: int, is_erased: Callable[[str], bool] | None = None):
        self.source, self.run_id, self.is_erased = source, run_id, is_erased
        self.field_types = _field_types(source)
        # Where a line of JSON says its record id, whatever else is wrong with it.
        name = re.escape(msgspec.json.encode(source.record_id))
        self.written_ids = re.compile(name + rb'\s*:\s*("(?:[^"\\]|\\.)*"|-?[0-9]+)')
        self.decode = msgspec.json.Decoder(_line_type(source, self.field_types)).decode

    def read(self, stream: BinaryIO, key: str, object_id: int, last_modified: datetime) -> Iterator[Chunk]:
        """The object's lines in chunks of about BLOCK bytes.

        last_modified: the time of a line that tells none; a line may not be of later than the day after it.
        Whatever is in the object, the only errors raised are those of reading the stream.
        """
        reading = _CsvReading if key.lower().endswith((".csv", ".csv.gz")) else _JsonReading
        yield from reading(self, object_id, last_modified).chunks(_lines(_unpacked(stream)))


class _Reading:
    """One object being read."""

    def __init__(self, reader: Reader, object_id: int, last_modified: datetime):
        self.reader, self.source = reader, reader.source
        self.head = f"{object_id}{DELIMITER}{reader.run_id}{DELIMITER}"
        self.arrival = last_modified.astimezone(UTC).isoformat()
        # The last character is above any that can follow the date in a timestamp.
        self.latest = (last_modified.astimezone(UTC) + timedelta(days=1)).date().isoformat() + "~"

    def event_time(self, value: object) -> str:
        """What is given as the time of an event, as PostgreSQL reads it; BadLine if it is none."""
        name = self.source.event_ts
        if value is None or (isinstance(value, str) and not value.strip()):
            return self.arrival
        if isinstance(value, (bool, list, dict)):
            raise BadLine(f"{name} is {_kind(value)}, not a time")
        try:
            if isinstance(value, str) and value[4:20:3] in UTC_MARKS and value[-1] == "Z":
                datetime.fromisoformat(value)
                return self.checked(value)
            if not isinstance(value, str) or EPOCH.fullmatch(value.strip()):
                seconds = float(value)
                # From 1e11 on, seconds would lie beyond the year 5000, milliseconds from 1973.
                seconds = seconds / 1000 if abs(seconds) >= 1e11 else seconds
                moment = datetime.fromtimestamp(seconds, UTC)
            else:
                moment = datetime.fromisoformat(UTC_IN_WORDS.sub("+00:00", value.strip()))
                moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
        except (ValueError, OverflowError, OSError) as error:
            raise BadLine(f"{name} is no time of ISO 8601, nor Unix time") from error
        return self.checked(moment.isoformat())

    def checked(self, moment: str) -> str:
        """The time in ISO 8601, if it is a possible one. Zones are not looked at: a day is near enough."""
        if moment < "1970":
            raise BadLine(f"{self.source.event_ts} lies before 1970")
        if moment > self.latest:
            raise BadLine(f"{self.source.event_ts} lies in the future")
        return moment


class _JsonReading(_Reading):
    """One JSON object per line."""

    def chunks(self, blocks: Iterable["_Lines"]) -> Iterator[Chunk]:
        for block in blocks:
            chunk = Chunk()
            self._add_lines(chunk, block)
            if block.damage:
                chunk.rejected.append(block.damage)
            yield chunk

    def _add_lines(self, chunk: Chunk, block: "_Lines") -> None:
        """The hot path: a line that is as it should be costs one parse, one time check and one format."""
        decode, head, latest, is_erased = self.reader.decode, self.head, self.latest, self.reader.is_erased
        add, parse_time, is_plain = chunk.rows.append, datetime.fromisoformat, block.is_plain
        for number, line in enumerate(block.lines, block.first):
            if not (is_plain or _is_plain(line, [line])):
                self._add_slowly(chunk, [(number, line)])
                continue
            try:
                record = decode(line)
                record_id, moment = record.record_id, record.event_ts
                if type(record_id) is int:
                    record_id = str(record_id)
                elif record_id.isspace():
                    raise ValueError
                if moment is None:
                    moment = self.arrival
                elif type(moment) is str and moment[4:20:3] in UTC_MARKS and moment[-1] == "Z":
                    parse_time(moment)
                    if not "1970" <= moment <= latest:
                        raise ValueError
                else:
                    moment = self.event_time(moment)
                if is_erased and is_erased(record_id):
                    raise BadLine
                if block.has_escapes and b"\\" in line:
                    if NUL_ESCAPE.search(line):
                        raise ValueError
                    record_id, line = copied(record_id), line.replace(b"\\", b"\\\\")
            except (msgspec.DecodeError, ValueError, RecursionError, BadLine):
                self._add_slowly(chunk, [(number, line)])
                continue
            deleted = "t" if record.is_deleted else "f"
            add(f"{head}{number}\x01{deleted}\x01{moment}\x01{record_id}\x01".encode() + line)

    def _add_slowly(self, chunk: Chunk, lines: Iterable[tuple[int, bytes]]) -> None:
        for number, line in lines:
            try:
                if not line.strip():
                    continue
                record_id, moment, deleted = self._examine(line)
            except BadLine as bad:
                is_erased = self.reader.is_erased and self.names_erased(line)
                chunk.rejected.append(
                    Rejected(number, ERASED, "") if is_erased else Rejected(number, str(bad), _kept(line))
                )
                continue
            if self.reader.is_erased and self.reader.is_erased(record_id):
                chunk.rejected.append(Rejected(number, ERASED, ""))
                continue
            head = DELIMITER.join(
                (f"{self.head}{number}", "t" if deleted else "f", moment, copied(record_id), "")
            )
            chunk.rows.append(head.encode() + line.replace(b"\\", b"\\\\").replace(b"\r", b"\\r"))

    def names_erased(self, line: bytes) -> bool:
        """Whether a line that cannot be read names a record that was erased, as far as that can be told."""
        for value in self.reader.written_ids.findall(line):
            with suppress(msgspec.DecodeError, BadLine):
                if self.reader.is_erased(_record_id(self.source.record_id, msgspec.json.decode(value))):
                    return True
        return False

    def _examine(self, line: bytes) -> tuple[str, str, bool]:
        """Record id, time and whether it is withdrawn, of every line the hot path accepts and some more."""
        if len(line) > LONGEST_LINE:
            raise BadLine(f"longer than {LONGEST_LINE // 1024} KiB")
        if b"\0" in line or NUL_ESCAPE.search(line):
            raise BadLine("holds a NUL character")
        try:
            line.decode()
        except UnicodeDecodeError as error:
            raise BadLine("not UTF-8") from error
        if _depth(line) > DEEPEST:
            raise BadLine(f"nested deeper than {DEEPEST}")
        try:
            record = msgspec.json.decode(line)
        except (msgspec.DecodeError, RecursionError) as error:
            if HALF_PAIR.search(WHOLE_PAIRS.sub(b"", line)):
                raise BadLine("holds half of a surrogate pair") from error
            raise BadLine(f"not JSON: {str(error).removeprefix('JSON is malformed: ')}") from error
        if not isinstance(record, dict):
            raise BadLine(f"{_kind(record)} instead of an object")

        record_id = _record_id(self.source.record_id, record.get(self.source.record_id))
        deleted = record.get("_deleted")
        if deleted is not None and not isinstance(deleted, bool):
            raise BadLine(f"_deleted is {_kind(deleted)}, not true or false")
        moment = self.event_time(record.get(self.source.event_ts) if self.source.event_ts else None)
        if not deleted:
            for name, numbers_too in self.reader.field_types.items():
                value = record.get(name)
                if not (value is None or isinstance(value, str) or (numbers_too and type(value) is int)):
                    raise BadLine(f"{name} is {_kind(value)}, not text")
                if type(value) is int:
                    _digits(name, value)
        return record_id, moment, bool(deleted)


class _CsvReading(_Reading):
    """Records of texts below a header (RFC 4180; comma, semicolon, tab or bar)."""

    def __init__(self, reader: Reader, object_id: int, last_modified: datetime):
        super().__init__(reader, object_id, last_modified)
        # The columns, and their names as they are given, of which two may be the same.
        self.header: list[str] = []
        self.names: list[str] = []
        self.delimiter = ","
        # Lines of a record whose quote is still open, and the number of the first.
        self.open_lines: list[bytes] = []
        self.open_first = self.open_size = 0
        csv.field_size_limit(LONGEST_LINE)

    def chunks(self, blocks: Iterable["_Lines"]) -> Iterator[Chunk]:
        for block in blocks:
            chunk, lines = Chunk(), list(enumerate(block.lines, block.first))
            while lines and not self.header:
                number, line = lines.pop(0)
                try:
                    self._read_header(line.removesuffix(b"\r"))
                except BadLine as bad:
                    chunk.rejected.append(Rejected(number, str(bad), _kept(line)))
                    yield chunk
                    return
            self._add_lines(chunk, lines)
            if block.is_last:
                while self.open_lines:
                    self._give_up(chunk)
            if block.damage:
                chunk.rejected.append(block.damage)
            yield chunk

    def _read_header(self, line: bytes) -> None:
        """The columns, out of the first line that is not blank."""
        if not line.strip():
            return
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            raise BadLine("the header is not UTF-8") from error
        if "\0" in text or len(line) > LONGEST_LINE:
            raise BadLine("not a CSV header")
        wrong, most_columns = "", 1
        for self.delimiter in CSV_DELIMITERS:
            try:
                names = next(csv.reader([text], delimiter=self.delimiter, strict=True))
            except csv.Error as error:
                # With another delimiter the quotes may stand right.
                is_open = "unexpected end of data" in str(error)
                quote = "a quote in the header is not closed on its line; the object is not read"
                wrong = wrong or (quote if is_open else f"not a CSV header: {error}")
                continue
            self.header = self.names = [name.strip() for name in names]
            if self.source.record_id in self.header:
                break
            most_columns = max(most_columns, len(names))
        else:
            missing = f"no column {self.source.record_id} in the header; the object is not read"
            raise BadLine(wrong if wrong and most_columns == 1 else missing)
        named = {self.source.record_id, self.source.event_ts, "_deleted", *self.reader.field_types}
        self.header = list(self.names)
        for index, name in enumerate(self.names):
            if name in self.names[:index]:
                if name in named:
                    raise BadLine(f"two columns {name} in the header; the object is not read")
                self.header[index] = f"{name}_{index + 1}"

        def place(name: str | None) -> int | None:
            return self.header.index(name) if name in self.header else None

        self.id_at, self.moment_at, self.deleted_at = map(
            place, (self.source.record_id, self.source.event_ts, "_deleted")
        )

    def _add_lines(self, chunk: Chunk, lines: list[tuple[int, bytes]]) -> None:
        """Cut lines into records: a record goes on while a quote is open."""
        records = []
        for number, line in lines:
            odd_quotes = line.count(b'"') & 1
            if not self.open_lines and not odd_quotes:
                records.append((number, line))
                continue
            if not self.open_lines:
                self.open_first, self.open_size = number, 0
            self.open_lines.append(line)
            self.open_size += len(line) + 1
            if odd_quotes and len(self.open_lines) > 1:
                record = self._parsed(b"\n".join(self.open_lines))
                if isinstance(record, list) and len(record) == len(self.header):
                    self._add_records(chunk, records)
                    self._add_record(chunk, self.open_first, record, b"\n".join(self.open_lines))
                    records, self.open_lines = [], []
                    continue
                self._add_records(chunk, records)
                records = []
                self._give_up(chunk)
            elif self.open_size > LONGEST_LINE:
                self._add_records(chunk, records)
                records = []
                self._give_up(chunk)
        self._add_records(chunk, records)

    def _give_up(self, chunk: Chunk) -> None:
        """The open quote closes nowhere: its line stands alone, and those after it are looked at anew."""
        first, lines = self.open_first, self.open_lines
        self.open_lines = []
        self._add_records(chunk, [(first, lines[0])])
        self._add_lines(chunk, list(enumerate(lines[1:], first + 1)))

    def _parsed(self, line: bytes) -> list[str] | BadLine:
        """The texts of one record."""
        if len(line) > LONGEST_LINE:
            return BadLine(f"longer than {LONGEST_LINE // 1024} KiB")
        if b"\0" in line:
            return BadLine("holds a NUL character")
        try:
            text = line.decode()
            return next(csv.reader([text], delimiter=self.delimiter, strict=True), [])
        except UnicodeDecodeError:
            return BadLine("not UTF-8")
        except csv.Error as error:
            return BadLine(f"not CSV: {error}")

    def _add_records(self, chunk: Chunk, records: list[tuple[int, bytes]]) -> None:
        """Parse all records at once, one by one where something is wrong with them."""
        if not records:
            return
        text = b"\n".join(line for _, line in records)
        try:
            if b"\0" in text or max(len(line) for _, line in records) > LONGEST_LINE:
                raise ValueError
            rows = list(csv.reader(text.decode().split("\n"), delimiter=self.delimiter, strict=True))
            # As many rows as lines, and each took at least one: so each is of its own line.
            if len(rows) != len(records):
                raise ValueError
        except (ValueError, csv.Error):
            rows = [self._parsed(line) for _, line in records]
        for (number, line), row in zip(records, rows, strict=True):
            self._add_record(chunk, number, row, line)

    def _is_header(self, row: list[str]) -> bool:
        """Whether a record is the header once more, as where objects were written one after the other."""
        return [name.removeprefix(BYTE_ORDER_MARK).strip() for name in row] == self.names

    def names_erased(self, row: list[str] | BadLine, line: bytes) -> bool:
        """Whether a record, readable or not, names one that was erased, as far as that can be told."""
        if isinstance(row, BadLine):
            row = [text.strip(' "') for text in line.decode(errors="replace").split(self.delimiter)]
        return self.id_at < len(row) and self.reader.is_erased(row[self.id_at])

    def _add_record(self, chunk: Chunk, number: int, row: list[str] | BadLine, line: bytes) -> None:
        try:
            if self.reader.is_erased and self.names_erased(row, line):
                chunk.rejected.append(Rejected(number, ERASED, ""))
                return
            if isinstance(row, BadLine):
                raise row
            if not row or (len(row) == 1 and not row[0].strip() and len(self.header) > 1):
                return
            if len(row) != len(self.header):
                raise BadLine(f"{len(row)} fields, the header has {len(self.header)}")
            if self.source.record_id in row[self.id_at] and self._is_header(row):
                raise BadLine("the header once more, no record")
            record_id = _record_id(self.source.record_id, row[self.id_at])
            moment = self.arrival if self.moment_at is None else self.event_time(row[self.moment_at])
            deleted = "" if self.deleted_at is None else row[self.deleted_at].strip().lower()
            if deleted not in TRUE and deleted not in FALSE:
                raise BadLine("_deleted is neither true nor false")
        except BadLine as bad:
            chunk.rejected.append(Rejected(number, str(bad), _kept(line)))
            return
        head = DELIMITER.join(
            (f"{self.head}{number}", "t" if deleted in TRUE else "f", moment, copied(record_id), "")
        )
        payload = msgspec.json.encode(dict(zip(self.header, row, strict=True)))
        chunk.rows.append(head.encode() + payload.replace(b"\\", b"\\\\"))


@dataclass
class _Lines:
    """Whole lines of an object, without their ends, from line number `first` on.

    is_plain: they are UTF-8, no longer and no deeper than allowed, and have no stray carriage return.
    has_escapes: there are backslashes in them.
    damage: what ended the object early.
    """

    first: int
    lines: list[bytes]
    is_plain: bool = False
    has_escapes: bool = False
    is_last: bool = False
    damage: Rejected | None = None


def _lines(blocks: Iterator[bytes]) -> Iterator[_Lines]:
    """Cut blocks into lines. A line beyond LONGEST_LINE is cut off and then still longer than that."""
    number, rest, damage = 1, b"", None
    try:
        for block in blocks:
            if number == 1 and not rest:
                if block.startswith((b"\xff\xfe", b"\xfe\xff")):
                    raise Damaged("UTF-16; deliver the object in UTF-8. It is not read")
                block = block.removeprefix(b"\xef\xbb\xbf")
            cut = block.rfind(b"\n")
            if cut < 0:
                rest = (rest + block)[: LONGEST_LINE + 1]
                continue
            text = rest + block[:cut]
            rest = block[cut + 1 :]
            if b"\r" in text:
                text = text.removesuffix(b"\r").replace(b"\r\n", b"\n")
            lines = text.split(b"\n")
            yield _Lines(number, lines, _is_plain(text, lines), b"\\" in text)
            number += len(lines)
    except Damaged as error:
        damage = Rejected(number, str(error), _kept(rest))
        rest = b""
    lines = [rest.removesuffix(b"\r")] if rest else []
    yield _Lines(number, lines, has_escapes=b"\\" in rest, is_last=True, damage=damage)


def _is_plain(text: bytes, lines: list[bytes]) -> bool:
    if b"\r" in text or max(map(len, lines)) > LONGEST_LINE:
        return False
    # Where there are few brackets beside those that lines begin with, no line is deep.
    opening = len(lines) if min(lines)[:1] == max(lines)[:1] == b"{" else 0
    if text.count(b"{") + text.count(b"[") - opening >= DEEPEST and any(map(_depth, lines)):
        return False
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _unpacked(stream: BinaryIO) -> Iterator[bytes]:
    """The object's bytes in blocks of at most BLOCK, out of gzip where it is that."""
    block = stream.read(BLOCK)
    if not block.startswith(b"\x1f\x8b"):
        while block:
            yield block
            block = stream.read(BLOCK)
        return
    unpacker = zlib.decompressobj(wbits=31)
    while True:
        try:
            unpacked = unpacker.decompress(block, BLOCK)
        except zlib.error as error:
            raise Damaged("the gzip is corrupt from here on") from error
        if unpacked:
            yield unpacked
        if unpacker.eof:
            # Members of gzip may follow one another; zeros after the last are padding.
            block = unpacker.unused_data.lstrip(b"\0")
            while not block:
                if not (block := stream.read(BLOCK)):
                    return
                block = block.lstrip(b"\0")
            unpacker = zlib.decompressobj(wbits=31)
            continue
        block = unpacker.unconsumed_tail or (b"" if len(unpacked) == BLOCK else stream.read(BLOCK))
        if not block and len(unpacked) < BLOCK:
            raise Damaged("the gzip is truncated here")


def _field_types(source: Source) -> dict[str, bool]:
    """The fields attributes are made of, and whether a number is accepted for them."""
    types: dict[str, bool] = {}
    for attribute, names in source.attributes.items():
        for name in names:
            if name not in (source.record_id, source.event_ts, "_deleted"):
                types[name] = types.get(name, True) and attribute in NUMBERS_TOO
    return types


def _line_type(source: Source, field_types: dict[str, bool]) -> type[msgspec.Struct]:
    """The struct a good line is parsed into: all that is checked, and no more."""
    text_id = Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST_ID)]
    whole = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
    fields = [("record_id", text_id | whole), ("is_deleted", bool, False)]
    names = {"record_id": source.record_id, "is_deleted": "_deleted"}
    namespace = {} if source.event_ts else {"event_ts": None}
    if source.event_ts:
        fields.append(("event_ts", str | int | float | None, None))
        names["event_ts"] = source.event_ts
    for index, (name, numbers_too) in enumerate(field_types.items()):
        fields.append((f"field_{index}", str | whole | None if numbers_too else str | None, None))
        names[f"field_{index}"] = name
    return msgspec.defstruct("Line", fields, rename=names, gc=False, namespace=namespace)


def _record_id(name: str, value: object) -> str:
    """A record id as text; a whole number is its digits."""
    if value is None:
        raise BadLine(f"{name} is missing")
    if type(value) is int:
        value = _digits(name, value)
    if not isinstance(value, str):
        raise BadLine(f"{name} is {_kind(value)}, not text")
    if not value.strip():
        raise BadLine(f"{name} is empty")
    if len(value) > LONGEST_ID:
        raise BadLine(f"{name} is longer than {LONGEST_ID} characters")
    return value


def _digits(name: str, value: int) -> str:
    """The digits of a whole number, if they are not too many."""
    if abs(value) >= 10**LONGEST_NUMBER:
        raise BadLine(f"{name} is a number of more than {LONGEST_NUMBER} digits")
    return str(value)


def _kind(value: object) -> str:
    """What a JSON value is, in a user's words."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, float):
        return "a number with a fraction"
    return {int: "a number", str: "a text", list: "a list", dict: "an object"}[type(value)]


def _depth(line: bytes) -> int:
    """How deep lists and objects are nested; exact where it matters."""
    if line.count(b"[") + line.count(b"{") <= DEEPEST:
        return 0
    depth = deepest = 0
    for bracket in re.findall(rb"[\[\]{}]", STRINGS.sub(b"", line)):
        depth += 1 if bracket in b"[{" else -1
        deepest = max(deepest, depth)
    return deepest


def _kept(line: bytes) -> str:
    """The text of a rejected line as PostgreSQL can hold it: cut, and with what is no character replaced."""
    return line[: 4 * LONGEST_REJECTED].decode(errors="replace").replace("\0", "\ufffd")[:LONGEST_REJECTED]


def copied(text: str) -> str:
    """A text in COPY's text format."""
    return text.translate(COPY_ESCAPES)
