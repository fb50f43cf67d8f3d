"""Lines of several sources cleaned together: the latest of each record, under the settings of its source."""

import json
from datetime import UTC, date, datetime

import polars as pl

from staging.source_records import COLUMNS, Delivered, clean_records, mark_latest

TODAY = date(2026, 2, 1)


def lines(*rows: tuple[int, int, int, str], deleted: bool = False) -> pl.DataFrame:
    """Lines of (record key, object, line number, day)."""
    return pl.DataFrame(
        [
            (key, place, number, datetime.fromisoformat(day).replace(tzinfo=UTC), deleted)
            for key, place, number, day in rows
        ],
        schema={
            "record_key": pl.Int64,
            "object_id": pl.Int32,
            "line_number": pl.Int32,
            "event_ts": pl.Datetime("us", "UTC"),
            "is_deleted": pl.Boolean,
        },
        orient="row",
    )


def source(system: str, region: str | None = None, day_first: bool = False, **attributes: list[str]) -> dict:
    return {
        "source_system": system,
        "record_id_field": "id",
        "attributes": attributes,
        "region": region,
        "day_first": day_first,
    }


def delivered(origin: dict, *payloads: dict | str, deleted: bool = False) -> Delivered:
    """One line of each payload, all of them the latest of their record."""
    rows = [(number, 1, number, "2026-01-01") for number in range(len(payloads))]
    texts = [payload if isinstance(payload, str) else json.dumps(payload) for payload in payloads]
    latest = mark_latest(lines(*rows, deleted=deleted), {1: 1})
    return Delivered(origin, latest, "\n".join(texts).encode())


def cleaned(*batch: Delivered) -> list[list[dict]]:
    return [records.to_dicts() for _, records in clean_records([*batch], region="US", today=TODAY)]


def test_a_number_of_more_than_128_bits_is_an_id_as_any_other():
    ((row, other),) = cleaned(
        delivered(source("crm", name=["n"]), {"id": 2**128, "n": "Ana Lima"}, {"id": "b"})
    )
    assert (row["record_id"], row["given_name"], other["record_id"]) == (str(2**128), "ana", "b")


def test_the_latest_is_the_newest_then_the_later_delivery_then_the_later_line():
    marked = mark_latest(
        lines(
            (1, 7, 1, "2026-01-02"), (1, 7, 2, "2026-01-01"),
            (2, 7, 3, "2026-01-01"), (2, 8, 1, "2026-01-01"),
            (3, 8, 2, "2026-01-01"), (3, 8, 3, "2026-01-01"),
            (4, 8, 4, "2026-01-01"),
        ),
        {8: 1, 7: 2},  # object 7 was delivered after object 8
    )  # fmt: skip
    assert marked["is_latest"].to_list() == [True, False, True, False, False, True, True]


def test_no_repeated_record_no_line_left_out():
    assert mark_latest(lines((1, 1, 1, "2026-01-01"), (2, 1, 2, "2026-01-01")), {1: 1})["is_latest"].all()


def test_each_source_is_read_by_its_own_settings_and_gets_its_own_records():
    shop = source("shop", "GB", True, phone=["tel"], birth_date=["born"])
    desk = source("desk", phone=["call"], birth_date=["born"], city=["town"])
    shops, desks = cleaned(
        delivered(shop, {"id": "1", "tel": "020 7946 0018", "born": "03/04/1980"}),
        delivered(desk, {"id": 2, "call": "(212) 736-5000", "born": "03/04/1980", "town": " St.  Louis"}),
    )
    assert [list(row) for row in (*shops, *desks)] == [list(COLUMNS)] * 2
    assert [(row["record_id"], row["phone"], row["birth_date"], row["city"]) for row in (*shops, *desks)] == [
        ("1", "+442079460018", date(1980, 4, 3), None),
        ("2", "+12127365000", date(1980, 3, 4), "St. Louis"),
    ]


def test_a_field_named_twice_has_its_last_value_and_several_fields_are_joined():
    shop = source("shop", email=["mail"], name=["first", "last"])
    ((row,),) = cleaned(
        delivered(shop, '{"id":"1","mail":"a@b.org","first":"Ann","mail":"c@d.org","last":"Lee"}')
    )
    assert (row["email"], row["name"], row["given_name"], row["family_name"]) == (
        "c@d.org", "Ann Lee", "ann", "lee",
    )  # fmt: skip


def test_what_is_left_out_is_kept_with_its_reason_and_a_withdrawn_record_says_nothing():
    shop = source("shop", email=["mail"], phone=["tel"], name=["name"])
    ((row, fine),) = cleaned(
        delivered(shop, {"id": "1", "mail": "ann@", "tel": "12", "name": 'Ann "Lee"'}, {"id": "2"})
    )
    assert json.loads(row["issues"]) == {
        "email": {"value": "ann@", "reason": "no_domain"},
        "phone": {"value": "12", "reason": "too_short"},
    }
    assert fine["issues"] is None
    ((gone,),) = cleaned(delivered(shop, {"id": "1", "mail": "ann@", "name": "Ann Lee"}, deleted=True))
    assert (gone["record_id"], gone["is_deleted"], gone["email"], gone["name"], gone["issues"]) == (
        "1", True, None, None, None,
    )  # fmt: skip
