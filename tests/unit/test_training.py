"""Training against a textbook EM, and on people made up so that the truth is known."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from matching.comparisons import MISSING, ComparedPairs, NumberedProfiles
from matching.model import read_model
from matching.scoring import Frequencies, score, score_in_parts
from matching.training import (
    Patterns,
    count_patterns,
    expectation_maximisation,
    free_attributes,
    homes,
    in_order,
    junk_values,
    learn_places,
    number_held_values,
    train,
    train_and_compare,
    untold,
    value_shares,
    with_frequencies,
)
from tests.unit.test_comparisons import profiles_of

WRITTEN = read_model()


def textbook_em(levels, u, counts, total_pairs, m, prior, prior_pairs, iterations):
    """EM of Fellegi and Sunter's two classes with u known, one pattern and one attribute at a time."""
    start = [list(chances) for chances in m]
    m = [list(chances) for chances in m]
    for _ in range(iterations):
        posterior = []
        for pattern in levels:
            match, stranger = prior, 1 - prior
            for k, level in enumerate(pattern):
                if level >= 0:
                    match *= m[k][level]
                    stranger *= u[k][level]
            posterior.append(match / (match + stranger))
        for k in range(len(m)):
            seen = [0.0] * len(m[k])
            for pattern, count, chance in zip(levels, counts, posterior, strict=True):
                if pattern[k] >= 0:
                    seen[pattern[k]] += count * chance
            total = sum(seen)
            m[k] = [
                (s + prior_pairs * w) / (total + prior_pairs) for s, w in zip(seen, start[k], strict=True)
            ]
        prior = sum(count * chance for count, chance in zip(counts, posterior, strict=True)) / total_pairs
    return m, prior


def test_em_agrees_with_a_textbook_em():
    # No attribute is shared in a household, so two classes are left.
    comparisons = tuple(
        replace(WRITTEN.comparison(name), shared=0.0, shared_is_learnt=False)
        for name in ("phone", "postal_code", "address", "national_id")
    )
    model = replace(WRITTEN, comparisons=comparisons, prior=0.01, household_prior=1e-12, profiles=1000)
    random = np.random.default_rng(3)
    u = [np.array([level.u for level in reversed(c.levels)]) for c in comparisons]
    u = [(chances + 0.02) / (chances + 0.02).sum() for chances in u]
    m = [np.array([level.m for level in reversed(c.levels)]) for c in comparisons]
    is_match = random.random(20_000) < 0.1
    drawn = np.column_stack(
        [
            np.where(
                is_match,
                random.choice(len(u[k]), 20_000, p=m[k] / m[k].sum()),
                random.choice(len(u[k]), 20_000, p=u[k]),
            )
            for k in range(4)
        ]
    ).astype(np.int8)
    drawn[random.random(drawn.shape) < 0.2] = -1
    levels, counts = np.unique(drawn, axis=0, return_counts=True)
    log_u = np.column_stack([np.log2(np.append(u[k], 1.0))[levels[:, k]] for k in range(4)])
    free = np.repeat(counts[:, None], 4, axis=1).astype(float)
    patterns = Patterns(levels, log_u, free, counts.astype(float))

    trained = expectation_maximisation(patterns, model, model, total_pairs=20_000)
    expected_m, expected_prior = textbook_em(
        levels.tolist(), u, counts, 20_000, m, 0.01, WRITTEN.training.prior_pairs, WRITTEN.training.iterations
    )
    assert trained.prior == pytest.approx(expected_prior, rel=0.01)
    for k, comparison in enumerate(trained.comparisons):
        found = [level.m for level in reversed(comparison.levels)]
        assert found == pytest.approx(expected_m[k], rel=0.01, abs=1e-4)


def people(count: int, seed: int) -> tuple[pl.DataFrame, pl.DataFrame, set[tuple[int, int]]]:
    """Profiles of `count` people with two records each, their candidate pairs, and which pairs are true.

    The second record keeps the phone in 8 of 10, the email in 9 of 10, the family name in 95 of 100;
    households of two share family name and phone. Every third second record has a phone and nothing else.
    """
    random = np.random.default_rng(seed)
    starts, middles, ends = (
        "bdfgklmnprst",
        ["anto", "eli", "ivere", "obu", "ustav"],
        ["ssa", "rick", "lyn", "mont"],
    )
    given = np.array([a + b + c for a in starts for b in middles for c in ends])
    family = np.array(
        [a + b + c for a in middles for b in starts for c in ("erson", "walk", "quist", "hill")]
    )
    household = np.arange(count) // 2
    home_family = random.integers(0, len(family), count)[household]
    own_phone = np.where(random.random(count) < 0.7, np.arange(count) + count, household)
    own_given = (random.random(count) ** 2 * len(given)).astype(int)
    records = []
    for person in range(count):
        first = {
            "given_name": str(given[own_given[person]]),
            "family_name": str(family[home_family[person]]),
            "phone": f"+1617{int(own_phone[person]):07d}",
            "email": f"{random.integers(10**9)}@example.org",
        }
        second = dict(first)
        if random.random() > 0.8:
            second["phone"] = f"+1212{person:07d}"
        if random.random() > 0.9:
            second["email"] = f"{random.integers(10**9)}@example.com"
        if random.random() > 0.95:
            second["family_name"] = str(random.choice(family))
        if person % 3 == 0:
            second = {"phone": first["phone"]}
        records += [first, second]
    for record in records:
        record["email_mailbox"] = record.get("email")
    profiles = profiles_of(*records)
    found = {}
    for rule, key in ((0, "email"), (2, "phone"), (6, ("given_name", "family_name"))):
        columns = [key] if isinstance(key, str) else list(key)
        keyed = profiles.select("profile_key", *columns).drop_nulls()
        joined = keyed.join(keyed, on=columns).filter(pl.col("profile_key") < pl.col("profile_key_right"))
        for left, right in joined.select("profile_key", "profile_key_right").rows():
            found[left, right] = found.get((left, right), 0) | (1 << rule)
    pairs = pl.DataFrame(
        [(left, right, rules) for (left, right), rules in sorted(found.items())],
        schema={"left_key": pl.Int64, "right_key": pl.Int64, "rules": pl.Int32},
        orient="row",
    )
    return profiles, pairs, {(2 * person + 1, 2 * person + 2) for person in range(count)}


@pytest.fixture(scope="module")
def trained():
    profiles, pairs, truth = people(1500, seed=7)
    small = replace(WRITTEN, training=replace(WRITTEN.training, random_pairs=100_000))
    return profiles, pairs, truth, train(profiles, pairs, small)


def test_the_blocking_rules_of_the_made_up_people_are_those_of_the_file():
    assert [WRITTEN.blocking[number].name for number in (0, 2, 6)] == ["mailbox", "phone", "full_name"]


def test_m_and_the_prior_come_near_the_truth(trained):
    profiles, _, truth, model = trained
    assert model.prior == pytest.approx(len(truth) / (profiles.height * (profiles.height - 1) / 2), rel=0.25)
    assert model.comparison("family_name").levels[0].m == pytest.approx(0.95, abs=0.04)
    assert model.comparison("email").levels[0].m == pytest.approx(0.90, abs=0.05)


def test_true_matches_do_not_spoil_the_u_of_an_email(trained):
    profiles, _, _, model = trained
    # Two random records share an email once in 4000 pairs, but two strangers never do.
    assert model.comparison("email").levels[0].u < 1e-5


def test_probabilities_are_calibrated(trained):
    profiles, pairs, truth, model = trained
    scored = score(profiles, pairs, model)
    true = np.array([pair in truth for pair in scored.select("left_key", "right_key").rows()])
    probability = scored["match_probability"].to_numpy()
    assert true[probability >= 0.9].mean() > 0.97
    assert true[probability < 0.1].mean() < 0.05
    assert probability.mean() == pytest.approx(true.mean(), abs=0.03)


def test_the_same_data_gives_the_same_model(trained):
    profiles, pairs, _, model = trained
    again = train(profiles.reverse(), pairs, replace(WRITTEN, training=model.training))
    assert again.to_json() == model.to_json()


def test_too_little_data_keeps_what_is_written_and_says_so():
    profiles, pairs, _ = people(20, seed=1)
    model = train(profiles, pairs, WRITTEN)
    assert model.comparisons == WRITTEN.comparisons
    assert "too few to train on" in model.notes[0]


def test_a_value_of_many_names_is_junk_and_a_household_is_not():
    calls = [
        {"given_name": "a", "family_name": name, "phone": "+18005550100"}
        for name in ("smith", "jones", "walker", "garcia", "ferrari")
    ]
    home = [{"given_name": name, "family_name": "moore", "phone": "+16175550101"} for name in "abcdefg"]
    junk = junk_values(profiles_of(*calls, *home), names=5, dominant_share=0.5)
    assert junk["phone"].rows() == [("+18005550100", 5, 5)]


def test_levels_out_of_order_are_pooled():
    comparison = WRITTEN.comparison("phone")
    exact, close, other = comparison.levels
    odd = replace(comparison, levels=(replace(exact, m=0.1, u=0.1), replace(close, m=0.5, u=0.01), other))
    ordered = in_order(replace(WRITTEN, comparisons=(odd,))).comparisons[0].levels
    assert ordered[0].weight == pytest.approx(ordered[1].weight)
    assert ordered[1].weight > ordered[2].weight


def test_a_city_and_a_postal_code_meet_where_the_data_has_both():
    known = [{"family_name": f"name{n}", "city": "london", "postal_code": f"n{n % 3} 1ab"} for n in range(9)]
    other = [{"family_name": f"other{n}", "city": "york", "postal_code": f"yo{n % 3} 1ab"} for n in range(30)]
    profiles = profiles_of(*known, *other)
    numbered = NumberedProfiles(profiles)
    places = learn_places(numbered, *homes(numbered, np.arange(profiles.height)))
    assert places["london"] == ["n0", "n1", "n2"]
    asked = profiles_of(
        {"city": "london"}, {"postal_code": "n2 9zz"}, {"postal_code": "yo1 7xx"}, {"city": "oslo"}
    )
    rows = np.array([0, 0, 1]), np.array([1, 2, 3])
    compared = ComparedPairs(NumberedProfiles(asked), *rows, WRITTEN.comparisons, places)
    levels = compared.levels["city"]
    city = WRITTEN.comparison("city")
    assert [city.level(int(level)).name for level in levels[:2]] == ["area_of_city", "outside_city"]
    assert levels[2] == MISSING
    later = ComparedPairs(NumberedProfiles(asked), *rows, WRITTEN.comparisons)
    assert set(later.levels["city"].tolist()) == {MISSING}
    later.read_places(places)
    assert later.levels["city"].tolist() == levels.tolist()


def test_a_city_is_told_by_its_postal_code_unless_the_persons_say_otherwise():
    def said(city_of) -> dict[str, tuple[str, ...]]:
        people = ({"postal_code": f"{1000 + n % 9}", "city": city_of(n)} for n in range(90))
        numbered = NumberedProfiles(profiles_of(*people))
        # Records of one person say the same thing, whoever tells what.
        persons = np.append(np.arange(45), np.arange(45))
        return {comparison.name: comparison.told_by for comparison in untold(numbered, persons, WRITTEN)}

    assert said(lambda n: f"town{n % 9}") == {}
    assert said(lambda n: f"town{n % 45}") == {"city": ()}
    assert said(lambda n: None) == {}


def test_a_local_part_is_told_by_the_name_where_namesakes_have_the_same():
    def told(local_of) -> bool:
        people = (
            {"given_name": "ann", "family_name": f"lee{n % 9}", "email": f"{local_of(n)}@firm{n}.com"}
            for n in range(90)
        )
        profiles = profiles_of(*people).with_columns(email_mailbox="email")
        return not untold(NumberedProfiles(profiles), np.arange(90), WRITTEN)

    assert told(lambda n: f"a.lee{n % 9}")
    assert not told(lambda n: f"ann.lee.{n}")


@pytest.mark.parametrize("towns", [1, 7])
def test_strangers_of_one_town_stay_strangers_and_what_was_compared_scores_as_if_compared_anew(towns):
    profiles, pairs, _ = people(400, seed=11)
    number = pl.Series(range(profiles.height))
    # Where a postal code has one city, and where it has several.
    profiles = profiles.with_columns(
        postal_code=(1000 + number % 10).cast(pl.String),
        city=pl.concat_str(pl.lit("town"), (number % (10 * towns)).cast(pl.String)),
    ).sort("profile_key")
    numbered = NumberedProfiles(profiles)
    rows, rules = numbered.rows(pairs), pairs["rules"].to_numpy()
    model, compared, frequencies = train_and_compare(numbered, *rows, rules, WRITTEN, {})
    assert model.comparison("city").told_by == (("postal_code",) if towns == 1 else ())
    anew = score(profiles, pairs, model)
    assert pl.concat(score_in_parts(compared, model, profiles.height, 333, frequencies)).equals(anew)


def test_what_training_compared_scores_as_if_compared_anew():
    profiles, pairs, _ = people(400, seed=11)
    selves = profiles.select(left_key="profile_key", right_key="profile_key", rules=pl.lit(0, pl.Int64))
    pairs = pl.concat([pairs.cast(pl.Int64), selves]).sort("left_key", "right_key")
    numbered = NumberedProfiles(profiles.sort("profile_key"))
    rules = pairs["rules"].to_numpy()
    model, compared, frequencies = train_and_compare(numbered, *numbered.rows(pairs), rules, WRITTEN, {})
    for known in (frequencies, None):
        parts = score_in_parts(compared, model, profiles.height, 333, known)
        assert pl.concat(parts).equals(score(profiles, pairs, model))
    # A profile agrees with itself, whoever it is: nothing is learnt from that.
    without = train(profiles, pairs.filter(pl.col("left_key") < pl.col("right_key")), WRITTEN)
    assert model.prior == pytest.approx(without.prior, rel=1e-9)
    for trained, expected in zip(model.comparisons, without.comparisons, strict=True):
        assert [level.m for level in trained.levels] == pytest.approx([level.m for level in expected.levels])
        assert [level.u for level in trained.levels] == pytest.approx([level.u for level in expected.levels])


def test_a_value_of_two_people_is_as_rare_for_either_as_one_never_met():
    names = ["anders"] * 4 + ["berg"] * 2 + ["carl", "dahl", "ek"]
    profiles = NumberedProfiles(profiles_of(*({"family_name": name} for name in names)))
    comparison = WRITTEN.comparison("family_name")
    held = number_held_values(profiles, WRITTEN)
    shares, rare, _ = value_shares(comparison, np.arange(len(names)), held, most=10)
    model = with_frequencies(WRITTEN, profiles, {("family_name", "exact"): shares["exact"]})
    discount = 3 / (3 + 2 * 1 + 1)  # three names once, one twice
    assert rare == pytest.approx((1 - discount) / 9)
    assert model.comparison("family_name").frequencies == pytest.approx({"anders": (4 - 1 - discount) / 9})


def test_a_shared_first_name_counts_only_those_who_differ_in_the_rest():
    profiles, pairs, _ = people(600, seed=13)
    # Every tenth has a middle name, so of those who share a first name few differ in the rest.
    has_middle = pl.int_range(pl.len()) % 10 == 0
    given = pl.when(has_middle).then(pl.col("given_name") + " maria").otherwise("given_name")
    model = train(profiles.with_columns(given_name=given), pairs, WRITTEN)
    same_first = model.comparison("given_name").levels[1]
    assert same_first.test == "same_first_name"
    assert 0.05 < same_first.at_this_level < 0.5
    assert model.comparison("given_name").levels[0].at_this_level == pytest.approx(1, abs=0.05)


def test_of_more_values_than_are_kept_the_most_frequent_are_and_ties_go_by_the_alphabet():
    names = ["berg"] * 3 + ["anders"] * 3 + ["carl"] * 4 + ["dahl"]
    profiles = NumberedProfiles(profiles_of(*({"family_name": name} for name in names)))
    held = number_held_values(profiles, WRITTEN)
    shares, _, _ = value_shares(WRITTEN.comparison("family_name"), np.arange(len(names)), held, most=2)
    kept = profiles.values["family_name"].strings.gather(shares["exact"].units)
    assert kept.to_list() == ["carl", "anders"]


def test_patterns_are_the_same_in_one_number_or_in_several(monkeypatch):
    profiles, pairs, _ = people(200, seed=5)
    numbered = NumberedProfiles(profiles.sort("profile_key"))
    left, right = numbered.rows(pairs)
    compared = ComparedPairs(numbered, left, right, WRITTEN.comparisons)
    counted_for = free_attributes(pairs["rules"].to_numpy(), left != right, WRITTEN)
    model = replace(WRITTEN, comparisons=tuple(replace(c, rare_frequency=1e-4) for c in WRITTEN.comparisons))
    frequencies = Frequencies(numbered, {})
    whole, of_pair = count_patterns(compared, counted_for, model, frequencies)
    monkeypatch.setattr("matching.training.LARGEST", 1 << 20)
    parted, again = count_patterns(compared, counted_for, model, frequencies)
    assert of_pair.tolist() == again.tolist()
    for name in ("levels", "log_u", "free", "counts"):
        assert np.array_equal(getattr(whole, name), getattr(parted, name))
    for place, comparison in enumerate(model.comparisons):
        assert whole.levels[of_pair, place].tolist() == compared.levels[comparison.name].tolist()
    assert whole.counts.sum() == (left != right).sum()
