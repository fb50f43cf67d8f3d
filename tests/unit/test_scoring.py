"""Scores: symmetric, silent on what is missing, never lowered by more agreement."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matching.model import ModelError, model_from_json, read_model
from matching.scoring import score
from tests.unit.test_comparisons import profiles_of

# Frequencies as training leaves them: one common name, one common city, all else rare.
MODEL = replace(
    read_model(),
    prior=1e-4,
    household_prior=1e-4,
    comparisons=tuple(
        replace(
            comparison,
            frequencies={"smith": 0.05, "john": 0.2, "john *": 0.25, "london": 0.9, "ann": 0.01},
            rare_frequency=1e-5,
        )
        for comparison in read_model().comparisons
    ),
)
PAIR = pl.DataFrame({"left_key": [1], "right_key": [2]})
VALUES = {
    "given_name": ["john", "john henry", "jon", "bill", "william", "j", "ann", "zebedee"],
    "family_name": ["smith", "smyth", "smith-jones", "walker", "featherstonehaugh"],
    "phone": ["+16175550101", "+16175550102", "+442071234567"],
    "email": ["kim71@example.org", "kim71@example.com", "pat@example.org"],
    "city": ["london", "londn", "york"],
    "postal_code": ["cr0 4dt", "cr0 4dx", "cr0 9zz", "ls1 1aa"],
    "national_id": ["7577439", "7577493", "1234567"],
}


def weight(left: dict, right: dict, model=MODEL) -> float:
    return score(profiles_of(left, right), PAIR, model)["match_weight"][0]


def with_mailbox(record: dict) -> dict:
    return {**record, "email_mailbox": record.get("email")}


records = st.fixed_dictionaries(
    {attribute: st.none() | st.sampled_from(values) for attribute, values in VALUES.items()}
).map(with_mailbox)


@settings(max_examples=60, deadline=None)
@given(records, records)
def test_left_and_right_may_be_exchanged(left, right):
    assert weight(left, right) == pytest.approx(weight(right, left), abs=1e-5)


@settings(max_examples=60, deadline=None)
@given(records, records, st.sampled_from(sorted(VALUES)))
def test_missing_says_nothing(left, right, attribute):
    empty = with_mailbox({**right, attribute: None})
    scored = score(profiles_of(left, empty), PAIR, MODEL)
    if attribute not in ("given_name", "family_name"):  # a lone name may stand for the other one
        assert scored[f"weight_{attribute}"][0] == 0
    both = [with_mailbox({**record, attribute: None}) for record in (left, right)]
    if attribute not in ("given_name", "family_name"):
        assert scored["match_weight"][0] == pytest.approx(weight(*both), abs=1e-5)


@settings(max_examples=80, deadline=None)
@given(records, records, st.sampled_from(sorted(set(VALUES) - {"given_name", "family_name"})))
def test_full_agreement_never_weighs_less(left, right, attribute):
    if left[attribute] is None or right[attribute] is None:
        return
    agreeing = with_mailbox({**right, attribute: left[attribute]})
    assert weight(left, agreeing) >= weight(left, right) - 1e-5


@pytest.mark.parametrize("attribute", ["given_name", "family_name"])
@pytest.mark.parametrize("value", ["john", "smith", "ann", "william", "zebedee"])
def test_the_same_name_never_weighs_less_than_a_similar_one(attribute, value):
    for other in ("jon", "j", "smyth", "ann marie", "bill", "zebede", "walker"):
        assert weight({attribute: value}, {attribute: value}) >= weight(
            {attribute: value}, {attribute: other}
        )


def test_a_rare_name_says_more_than_a_common_one():
    common = {"family_name": "smith"}
    rare = {"family_name": "featherstonehaugh"}
    assert weight(rare, rare) > weight(common, common) + 5


def test_a_household_is_not_a_person():
    home = {"family_name": "walker", "phone": "+442071234567", "postal_code": "ls1 1aa"}
    one, other = {**home, "given_name": "ann"}, {**home, "given_name": "william"}
    assert score(profiles_of(one, other), PAIR, MODEL)["decision"][0] == "REJECT"
    assert score(profiles_of(one, one), PAIR, MODEL)["decision"][0] == "AUTO_MERGE"


def test_parts_add_up_to_the_whole():
    left = {"given_name": "ann", "family_name": "walker", "phone": "+442071234567", "city": "york"}
    scored = score(profiles_of(left, left), PAIR, MODEL)
    parts = sum(scored[column][0] for column in scored.columns if column.startswith("weight_"))
    prior = np.log2(MODEL.prior / (1 - MODEL.prior - MODEL.household_prior))
    assert scored["match_weight"][0] == pytest.approx(prior + parts + scored["household_weight"][0], abs=1e-4)
    assert scored["confidence"][0] == pytest.approx(100 * scored["match_probability"][0])


def test_a_profile_of_a_common_name_alone_is_not_one_person():
    profiles = profiles_of({"given_name": "john", "family_name": "smith"}, {"phone": "+442071234567"})
    each_with_itself = profiles.select(left_key="profile_key", right_key="profile_key")
    matches = score(profiles, each_with_itself, MODEL)
    assert matches["decision"].to_list()[0] != "AUTO_MERGE"


def test_no_pairs():
    pairs = pl.DataFrame(schema={"left_key": pl.Int64, "right_key": pl.Int64})
    assert score(profiles_of({}), pairs, MODEL).height == 0


def test_a_model_survives_its_json():
    assert model_from_json(MODEL.to_json()) == MODEL


@pytest.mark.parametrize(
    ("find", "put", "complaint"),
    [
        ('test = "nickname"', 'test = "nikname"', "unknown test 'nikname'"),
        ("auto_merge  = 0.90", "auto_merge  = 0.10", "flag_review <= auto_merge"),
        ('name = "phone"', 'name = "telephone"', "name must be one of"),
        ("m = 0.62,", "m = 6.2,", "m must be a probability"),
        ("m = 0.62,", "m = 0.30,", "add up to"),
        ('told_by = ["postal_code"]', 'told_by = ["zip"]', "told_by must be a list of attributes"),
        ('told_by = ["postal_code"]', 'told_by = ["city"]', "told_by must name other attributes"),
        ("shared_at_first = 0.05", "shared_at_first = 1.5", "shared_at_first must be a chance"),
        ("seed    ", "sead    ", "unknown setting 'sead'"),
        ('key   = ["phone"]', 'key   = ["fone"]', "unknown blocking term 'fone'"),
        ('key   = ["phone"]', 'key   = ["last(phone, 0)"]', "the length must be from 1 to"),
        ('key   = ["phone"]', 'key   = ["first(birth_date, 4)"]', "first takes one of email_mailbox, phone"),
        ('key   = ["phone"]', 'key   = ["year(city)"]', "phone: .*year takes one of birth_date"),
        ('key   = ["phone"]', "key   = [1]", "unknown blocking term 1"),
        ("limit = 50", "limit = 5000000000", "mailbox: limit must be a whole number from 2 to"),
        ("give_up = 15", "give_up = 5000000000", "give_up must be a whole number from the limit to"),
        ('name  = "phone"', "name  = 5", "name must be a text"),
        ("prior_pairs         = 50", "prior_pairs = 0", r"\[training\]: prior_pairs must be from"),
        ("prior_pairs         = 50", "prior_pairs = nan", "prior_pairs must be from"),
        ("household = 1.0", "household = -1.0", r"\[prior\]: household must be from"),
        ("random_pairs        = 500_000", "random_pairs = -5", "random_pairs must be from 1"),
        ("iterations          = 200", "iterations = -1", "iterations must be from 1"),
        (
            "junk_dominant_share = 0.50",
            "junk_dominant_share = 5.0",
            "junk_dominant_share must be from 0 to 1",
        ),
        ("[prior]\nhousehold = 1.0", "", r"\[prior\]: setting 'household' is missing"),
        (
            'name = "phone"\nshared = true\nlevels = [\n    { name = "exact",         test = "exact"',
            'name = "phone"\nlevels = [\n    { name = "exact", test = "day_month_swapped"',
            "phone, level 'exact': the test 'day_month_swapped' is one of birth_date alone",
        ),
        ('test = "similar", at_least = 0.80', 'test = "similar"', "the test 'similar' needs at_least"),
        ('test = "similar", at_least = 0.80', 'test = "similar", at_least = 80', "above 0, at most 1"),
        ('test = "nickname"', 'test = "nickname", at_least = 0.8', "'nickname' takes no at_least"),
        ("term_frequency = true", 'term_frequency = "no"', "term_frequency must be true or false"),
    ],
)
def test_a_mistake_in_the_file_is_named(tmp_path, find, put, complaint):
    text = (read_model.__globals__["DEFAULT_PATH"]).read_text(encoding="utf-8")
    assert find in text
    (tmp_path / "model.toml").write_text(text.replace(find, put, 1), encoding="utf-8")
    with pytest.raises(ModelError, match=complaint):
        read_model(tmp_path / "model.toml")


@pytest.mark.parametrize("instead", ["", "[blocking]\nlimit = 5\n"])
def test_rules_are_needed(tmp_path, instead):
    text = (read_model.__globals__["DEFAULT_PATH"]).read_text(encoding="utf-8")
    (tmp_path / "model.toml").write_text(text.partition("[[blocking]]")[0] + instead, encoding="utf-8")
    with pytest.raises(ModelError, match="at least one rule is needed"):
        read_model(tmp_path / "model.toml")
