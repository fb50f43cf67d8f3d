"""Phase 4.5 on literal profiles: which pairs are listed, and why."""

import tomllib

import psycopg2
import pytest

from db.settings import PROJECT
from tests.pipeline import record, withdrawn

RULES = "select rule_id, rule_name, array_to_string(key_terms, ' + ') from staging.blocking_rules order by 1"


@pytest.fixture
def blocked(pipelines):
    """`blocked(*records)` delivers the records, runs phases 2 to 4.5, returns [(pair, rule names)]."""
    pipeline = pipelines()

    def run(*records: dict) -> list[tuple[str, list[str]]]:
        pipeline.deliver(*records)
        pipeline.run("2", "4.5")
        return listed(pipeline)

    run.pipeline = pipeline
    return run


def person(number: int, day: str = "2026-01-01") -> dict:
    """A record of a name that many have, and a mailbox of its own."""
    letters = chr(97 + number) * 3
    return record(
        f"shop:{number}", day, name="Kwame Haddad", email=f"{letters}{number * 7919}@x{number}.example.com"
    )


FIRST, MORE = [person(number) for number in range(10)], [person(number) for number in range(10, 20)]
GONE = [withdrawn(f"shop:{number}", "2026-02-01") for number in range(10, 20)]


@pytest.mark.parametrize(
    "runs",
    [
        # The block is given up while its pairs wait.
        [(FIRST, "4.5"), (MORE, "10")],
        # It comes back while they wait to be withdrawn.
        [(FIRST, "10"), (MORE, "4.5"), (GONE, "10")],
        # One of those who wait is gone, and back when the block is given up.
        [
            (FIRST, "4.5"),
            ([withdrawn("shop:0", "2026-02-01")], "4.5"),
            (MORE, "4.5"),
            ([person(0, "2026-03-01")], "10"),
        ],
    ],
)
def test_pairs_that_wait_count_as_those_that_were_compared(pipelines, runs):
    """Law 2: where phase 5 fails, and a later run takes up both, the customers are those of one run."""
    cut, at_once = pipelines(), pipelines()
    for records, last in runs:
        cut.deliver(*records)
        cut.run("2", last)
    at_once.deliver(*(each for records, _ in runs for each in records))
    at_once.run()
    assert cut.customers() == at_once.customers()
    assert cut.candidates().keys() == at_once.candidates().keys()


def listed(pipeline) -> list[tuple[str, list[str]]]:
    """What is listed for the matching engine: ('1 2', [rules]), by record ids."""
    rows = pipeline.query(
        "select (select min(record_id) from staging.identity_inputs where profile_key = left_profile_key), "
        "(select max(record_id) from staging.identity_inputs where profile_key = right_profile_key), "
        "array(select rule_name from staging.blocking_rules as r "
        "where b.rules & (1 << (r.rule_id - 1)) > 0 order by r.rule_id), b.rule_id "
        "from staging.identity_match_candidates_blocked as b"
    )
    return sorted(
        (" ".join(sorted((left, right))), rules if rule > 0 else [str(rule)])
        for left, right, rules, rule in rows
    )


def test_a_pair_is_listed_once_with_every_rule_that_found_it(blocked):
    found = blocked(
        record("shop:1", name="Astrid Holm", email="a.holm@example.org", phone="+1 212 736 5004"),
        record("shop:2", name="Holm, Astrid", email="A.Holm@example.org"),
        record("shop:3", name="Yuki Tanabe", phone="(212) 736-5004"),
        record("shop:4", name="Piotr Zawadzki"),
    )
    assert [pair for pair, _ in found] == ["1 2", "1 3"]
    assert found[0][1][0] == "mailbox" and "full_name" in found[0][1]
    assert found[1][1] == ["phone"]


def test_equal_profiles_are_one_and_compared_with_themselves(blocked):
    same = {"name": "Astrid Holm", "email": "a.holm@example.org"}
    assert blocked(*(record(f"shop:{i}", **same) for i in range(1, 9))) == [("1 8", ["0"])]
    # One more of the same is nothing new; another spelling is one pair more.
    assert blocked(record("shop:9", **same)) == [("1 9", ["0"])]
    assert blocked.pipeline.value("select sum(record_count) from staging.match_profiles") == 9


def test_only_pairs_with_something_new_are_listed(blocked):
    phone = {"phone": "+1 212 736 5004"}
    blocked(record("shop:1", name="Astrid Holm", **phone), record("shop:2", name="Bertil Holm", **phone))
    blocked.pipeline.run("5", "5")
    found = blocked(record("shop:3", name="Carin Holm", **phone))
    assert [pair for pair, _ in found] == ["1 3", "2 3"]


def test_what_matching_has_not_seen_stays_listed(blocked):
    phone = {"phone": "+1 212 736 5004"}
    blocked(record("shop:1", name="Astrid Holm", **phone), record("shop:2", name="Bertil Holm", **phone))
    found = blocked(record("shop:3", name="Carin Holm", **phone))
    assert [pair for pair, _ in found] == ["1 2", "1 3", "2 3"]


@pytest.mark.parametrize("with_withdrawals", [False, True])
def test_pairs_can_be_taken_off_the_lists(blocked, with_withdrawals):
    phone = {"phone": "+1 212 736 5004"}
    names = ("Astrid Holm", "Bertil Lima", "Carin Zawadzki")
    found = blocked(*(record(f"shop:{i}", name=name, **phone) for i, name in enumerate(names, start=1)))
    assert [pair for pair, _ in found] == ["1 2", "1 3", "2 3"]
    left, right = blocked.pipeline.query(
        "select left_profile_key, right_profile_key from staging.identity_match_candidates_blocked limit 1"
    )[0]
    blocked.pipeline.database.execute(
        "insert into staging.candidate_lists (run_id, left_profile_keys, right_profile_keys, rules) "
        f"values (9, array[{left}], array[{right}], array[-1]); "
        f"create temp table unlisted as select {left} as left_profile_key, {right} as right_profile_key; "
        f"select staging.unlist_pairs({with_withdrawals}); drop table unlisted"
    )
    rules = [rules for _, rules in listed(blocked.pipeline)]
    assert rules.count(["phone"]) == 2
    assert rules.count(["-1"]) == (0 if with_withdrawals else 1)


def test_an_erased_person_waits_for_no_comparison(blocked):
    pipeline, phone = blocked.pipeline, {"phone": "+1 212 736 5004"}
    pipeline.deliver(
        record("shop:1", name="Astrid Holm", **phone), record("shop:2", name="Bertil Lima", **phone)
    )
    pipeline.run()
    found = blocked(record("shop:3", name="Carin Zawadzki", **phone))
    assert [pair for pair, _ in found] == ["1 3", "2 3"]
    pipeline.run("6", "6")
    pipeline.value(
        "gold.erase_customer(global_customer_id, 'data protection officer', 'asked for by letter') "
        "from identity.customer_identity_map where record_id = '1'"
    )
    assert [pair for pair, _ in listed(pipeline)] == ["2 3"]


def crowd(count: int) -> list[dict]:
    """People with a phone in common, and nothing else."""
    names = [
        f"{chr(65 + i // 10)}{chr(97 + i % 10)}xo Q{chr(97 + i // 3)}z{chr(97 + i % 3)}" for i in range(count)
    ]
    return [record(f"shop:{i:02}", name=name, phone="+1 212 736 5004") for i, name in enumerate(names)]


def test_a_block_over_the_limit_pairs_its_anchors_with_all_and_is_reported(blocked):
    found = blocked(*crowd(60))
    by_phone = [pair for pair, rules in found if "phone" in rules]
    assert len(by_phone) == 5 * 4 // 2 + 5 * 55
    assert blocked.pipeline.query(
        "select rule_name, profile_count from staging.capped_blocks "
        "inner join staging.blocking_rules using (rule_id) where rule_name = 'phone'"
    ) == [("phone", 60)]


def test_a_block_that_goes_over_the_limit_withdraws_what_no_rule_supports(blocked):
    pipeline, people = blocked.pipeline, crowd(60)
    blocked(*people[:40])
    pipeline.run("5", "5")
    assert len(pipeline.candidates()) == 40 * 39 // 2
    found = blocked(*people[40:])
    assert ["-1"] in [rules for _, rules in found]
    pipeline.run("5", "5")
    assert len(pipeline.candidates()) < 40 * 39 // 2
    # Back under the limit, all are paired with all again.
    blocked(*(withdrawn(f"shop:{i}", "2026-01-02") for i in range(45, 60)))
    pipeline.run("5", "5")
    assert len(pipeline.candidates()) == 45 * 44 // 2
    assert pipeline.value("select count(*) from staging.capped_blocks") == 0


def test_keys_of_a_former_schema_are_made_anew(blocked):
    pipeline = blocked.pipeline
    blocked(*crowd(40))
    pipeline.run("5", "5")
    before = pipeline.candidates()
    pipeline.database.execute("alter table staging.blocking_keys alter column key_1 type bigint")
    pipeline.database.execute((PROJECT / "db" / "init" / "040_blocking_tables.sql").read_text())
    assert pipeline.value("select count(*) from staging.blocking_keys") == 0
    pipeline.run("4.5", "5")
    assert pipeline.candidates() == before
    assert pipeline.value("select count(*) from staging.blocking_keys") == 40


def test_a_rule_without_keys_gets_its_index_when_it_has_some(blocked):
    indexes = "select count(*) from pg_indexes where indexname = 'blocking_keys_rule_3'"
    blocked(record("shop:1", name="Astrid Holm"), record("shop:2", name="Yuki Tanabe"))
    assert blocked.pipeline.value(indexes) == 0
    phone = {"phone": "+1 212 736 5004"}
    assert blocked(
        record("shop:3", name="Piotr Zawadzki", **phone), record("shop:4", name="Ana", **phone)
    ) == [("3 4", ["phone"])]
    assert blocked.pipeline.value(indexes) == 1


def test_the_rules_of_the_model_file_are_the_rules_in_force(blocked):
    blocked(record("shop:1", name="Astrid Holm"))
    declared = tomllib.loads((PROJECT / "matching" / "model.toml").read_text())["blocking"]
    assert blocked.pipeline.query(RULES) == [
        (place, rule["name"], " + ".join(rule["key"])) for place, rule in enumerate(declared, start=1)
    ]


@pytest.mark.parametrize(
    "term", ["fax", "first(email_mailbox)", "phone); drop table x; --", "", "year(phone)"]
)
def test_a_term_outside_the_vocabulary_is_refused(blocked, term):
    with pytest.raises(psycopg2.Error, match="unknown blocking term"):
        blocked.pipeline.query("select staging.blocking_term_sql(%s)", term)
