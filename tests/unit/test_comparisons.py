"""Levels of literal pairs: what a person would say of them, in the words of matching/model.toml."""

from datetime import date

import polars as pl
import pytest

from matching.comparisons import ATTRIBUTES, MISSING, ComparedPairs, NumberedProfiles
from matching.model import read_model

MODEL = read_model()


def profiles_of(*records: dict) -> pl.DataFrame:
    """Profiles 1, 2, ... with the given attributes; the others are missing."""
    columns = {"profile_key": pl.Series(range(1, len(records) + 1), dtype=pl.Int64)}
    for attribute in (*ATTRIBUTES, "email_mailbox"):
        kind = pl.Date if attribute == "birth_date" else pl.String
        columns[attribute] = pl.Series([record.get(attribute) for record in records], dtype=kind)
    columns["record_count"] = pl.Series([1] * len(records), dtype=pl.Int32)
    return pl.DataFrame(columns)


def levels_of(profiles: pl.DataFrame, pairs: pl.DataFrame, ignored=None) -> dict:
    numbered = NumberedProfiles(profiles, ignored)
    return ComparedPairs(numbered, *numbered.rows(pairs), MODEL.comparisons).levels


def level_name(left: dict, right: dict, attribute: str) -> str | None:
    pairs = pl.DataFrame({"left_key": [1], "right_key": [2]}, schema_overrides={"left_key": pl.Int64})
    level = levels_of(profiles_of(left, right), pairs)[attribute][0]
    return None if level == MISSING else MODEL.comparison(attribute).level(int(level)).name


def names(given: str | None, family: str | None) -> dict:
    return {"given_name": given, "family_name": family}


@pytest.mark.parametrize(
    ("left", "right", "given", "family"),
    [
        (names("john", "smith"), names("john", "smith"), "exact", "exact"),
        (names("john henry", "smith"), names("john", "smith"), "same_first", "exact"),
        (names("john h", "smith"), names("john henry", "smith"), "same_first", "exact"),
        (names("john henry", "smith"), names("john paul", "smith"), "close", "exact"),
        (names("robert", "smith"), names("bob", "smith"), "nickname", "exact"),
        (names("katherine", "smith"), names("kate", "smyth"), "nickname", "close"),
        (names("stanley", "smith"), names("ztanley", "smith"), "close", "exact"),
        (names("tim", "hill"), names("itm", "hill"), "close", "exact"),
        (names("tim", "hill"), names("jim", "hill"), "else", "exact"),
        (names("j", "smith"), names("john", "smith"), "initial", "exact"),
        (names("george frederick", "smith"), names("frederick", "smith"), "shared_name", "exact"),
        (names("ann", "lane-poole"), names("ann", "poole"), "exact", "shared_name"),
        (names("smith", "john"), names("john", "smith"), "exact", "swapped"),
        (names("wang", "al"), names("alan", "wang"), "nickname", "swapped"),
        (names("allsopp", None), names("frederick", "allsopp"), None, "exact"),
        (names(None, "frederick"), names("frederick", "allsopp"), "exact", None),
        (names("mary", "jones"), names("peter", "walker"), "else", "else"),
        (names("伟", "王"), names("wei", "wang"), None, None),
        (names("花子", "山田"), names("ハナコ", "ヤマダ"), None, None),
        (names("伟", "王"), names("伟", "李"), "exact", "else"),
        (names("wei", "wang 王"), names("wei", "li"), "exact", "else"),
        (names(None, None), names("peter", "walker"), None, None),
    ],
)
def test_names(left, right, given, family):
    assert level_name(left, right, "given_name") == given
    assert level_name(left, right, "family_name") == family
    assert level_name(right, left, "given_name") == given
    assert level_name(right, left, "family_name") == family


@pytest.mark.parametrize(
    ("attribute", "left", "right", "expected"),
    [
        ("phone", "+16175550101", "+16175550101", "exact"),
        ("phone", "+16175550101", "+16175550102", "one_edit"),
        ("phone", "+16175550101", "+16175551001", "one_edit"),
        ("phone", "+16175550101", "+16175559999", "else"),
        ("birth_date", date(1980, 3, 4), date(1980, 3, 4), "exact"),
        ("birth_date", date(1980, 3, 4), date(1980, 4, 3), "day_month"),
        ("birth_date", date(1980, 3, 14), date(1980, 3, 19), "one_digit"),
        ("birth_date", date(1980, 3, 14), date(1908, 3, 14), "one_digit"),
        ("birth_date", date(1980, 3, 14), date(1980, 11, 27), "same_year"),
        ("birth_date", date(1980, 3, 14), date(1976, 3, 14), "same_day"),
        ("birth_date", date(1980, 1, 1), date(1981, 1, 1), "else"),
        ("birth_date", date(1980, 3, 14), None, None),
        ("postal_code", "cr0 4dt", "cr0 4dt", "exact"),
        ("postal_code", "cr0 4dt", "cr0 4dx", "one_edit"),
        ("postal_code", "90210", "90377", "area"),
        ("postal_code", "90210", "10013", "else"),
        ("city", "sydney", "sydny", "close"),
        ("address", "12 high street", "high street 12", "close"),
        ("national_id", "7577439", "7577493", "one_edit"),
        ("national_id", "7577439", "1234567", "else"),
    ],
)
def test_values(attribute, left, right, expected):
    assert level_name({attribute: left}, {attribute: right}, attribute) == expected
    assert level_name({attribute: right}, {attribute: left}, attribute) == expected


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        (("kim@example.org", "kim@example.org"), ("kim@example.org", "kim@example.org"), "exact"),
        (("kim+shop@example.org", "kim@example.org"), ("kim@example.org", "kim@example.org"), "same_mailbox"),
        (("j.smith71@gmail.com", None), ("j.smith71@gmial.com", None), "same_local"),
        (("info@a.com", None), ("info@walker.com", None), "else"),
        (("jsmith71@gmail.com", None), ("jsmth71@gmail.com", None), "one_edit"),
        (("jsmith71@gmail.com", None), ("pwalker@gmail.com", None), "else"),
    ],
)
def test_emails(left, right, expected):
    one, other = ({"email": email, "email_mailbox": mailbox or email} for email, mailbox in (left, right))
    assert level_name(one, other, "email") == expected
    assert level_name(other, one, "email") == expected


def test_what_others_tell_says_nothing_more():
    john = names("john", "smith") | {"postal_code": "10115", "city": "berlin", "email": "john.smith@a.com"}
    john["email_mailbox"] = john["email"]
    other = john | {"email": "john.smith@b.com", "email_mailbox": "john.smith@b.com"}
    assert level_name(john, other, "email") is None
    assert level_name(john, other | {"given_name": "johann"}, "email") == "same_local"
    assert level_name(john, john, "email") == "exact"
    assert level_name(john, john, "city") is None
    assert level_name(john, john | {"city": "bonn"}, "city") is None
    assert level_name(john, john | {"postal_code": "10119"}, "city") == "exact"


def test_ignored_values_are_missing():
    profiles = profiles_of({"phone": "+16175550101"}, {"phone": "+16175550101"})
    pairs = pl.DataFrame({"left_key": [1], "right_key": [2]})
    assert levels_of(profiles, pairs, {"phone": ["+16175550101"]})["phone"][0] == MISSING


def test_a_pair_of_an_unknown_profile_is_an_error():
    with pytest.raises(KeyError):
        levels_of(profiles_of({}, {}), pl.DataFrame({"left_key": [1], "right_key": [3]}))


def test_no_pairs():
    pairs = pl.DataFrame(schema={"left_key": pl.Int64, "right_key": pl.Int64})
    assert len(levels_of(profiles_of({}), pairs)["email"]) == 0
