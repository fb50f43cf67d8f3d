"""Stories of a few literal records, from the lake to the golden customers, under one trained model."""

from tests.pipeline import check_laws, record, withdrawn


def told(pipeline, *records: dict) -> set[frozenset[str]]:
    """The customers after a delivery of these records."""
    pipeline.deliver(*records)
    pipeline.run()
    check_laws(pipeline)
    return pipeline.customers()


def customers(*each: str) -> set[frozenset[str]]:
    """customers('shop:1 shop:2', 'crm:1') as `told` gives them."""
    return {frozenset(records.split()) for records in each}


def test_two_orders_and_a_lead_become_one_customer(pipeline):
    assert told(
        pipeline,
        record("shop:1", name="Maria Lindqvist", email="Maria.Lindqvist@example.org"),
        record("shop:2", "2026-01-02", name="LINDQVIST, MARIA", email="maria.lindqvist@example.org",
               phone="(212) 736-5000"),
        record("crm:1", "2026-01-03", name="Maria Lindquist", phone="+1 212 736 5000"),
        record("shop:3", name="Erik Sandberg", email="erik.sandberg@example.org"),
    ) == customers("shop:1 shop:2 crm:1", "shop:3")  # fmt: skip
    assert pipeline.query(
        "select canonical_name, canonical_email, canonical_phone, record_count, source_count "
        "from gold.dim_customers order by record_count desc"
    ) == [
        ("Maria Lindqvist", "maria.lindqvist@example.org", "+12127365000", 3, 2),
        ("Erik Sandberg", "erik.sandberg@example.org", None, 1, 1),
    ]


def test_a_household_with_one_phone_stays_two(pipeline):
    home = {"phone": "+1 212 736 5001", "postal_code": "10001"}
    assert told(
        pipeline,
        record("shop:1", name="Harold Whitcombe", email="harold.whitcombe@example.org", **home),
        record("shop:2", name="Beatrice Whitcombe", email="beatrice.whitcombe@example.org", **home),
        record("desk:1", name="Harold Whitcombe", **home),
        record("desk:2", name="Beatrice Whitcombe", **home),
    ) == customers("shop:1 desk:1", "shop:2 desk:2")


def test_a_shared_mailbox_is_no_customer(pipeline):
    office = {"email": "office@northwind.example"}
    people = ["Ines Carvalho", "Tobias Renner", "Yuki Tanabe", "Oluwaseun Adebayo", "Piotr Zawadzki"]
    pipeline.deliver(*(record(f"shop:{i}", name=name, **office) for i, name in enumerate(people)))
    assert told(pipeline) == customers(*(f"shop:{i}" for i in range(len(people))))
    assert pipeline.query("select attribute, value, name_count from staging.shared_values") == [
        ("email", "office@northwind.example", 5)
    ]


def test_a_phone_that_many_share_is_found_and_its_pairs_are_weighed_anew(pipeline):
    line = {"phone": "+1 212 736 5002"}
    pipeline.deliver(record("shop:1", name="Robert Smith", **line))
    assert told(
        pipeline, record("shop:2", name="Rob Smith", email="bs4711@example.org", **line)
    ) == customers("shop:1 shop:2")
    assert pipeline.query("select value from staging.shared_values") == []
    # The number turns out to be the call centre's own.
    strangers = ["Nadia Haddad", "Leif Torgersen", "Kwame Boateng", "Siobhan Gallagher", "Anselm Vogel"]
    found = told(pipeline, *(record(f"desk:{i}", name=name, **line) for i, name in enumerate(strangers)))
    assert found == customers("shop:1", "shop:2", *(f"desk:{i}" for i in range(5)))
    assert pipeline.query("select attribute, value from staging.shared_values") == [("phone", "+12127365002")]
    # The strangers correct it, one after the other: it is a customer's own again.
    corrections = [
        record(f"desk:{i}", "2026-02-01", name=name, phone=f"+1 212 736 60{i}0")
        for i, name in enumerate(strangers)
    ]
    assert told(pipeline, *corrections) >= customers("shop:1 shop:2")
    assert pipeline.query("select value from staging.shared_values") == []


def test_one_side_of_a_pair_has_a_value_that_many_share(pipelines, trained_model):
    # Two orders of one person, one with the call centre's number: the other number contradicts nothing.
    person = {"name": "Henrietta Castellanos", "postal_code": "10001"}
    orders = [
        record("shop:1", phone="+1 212 736 5003", **person),
        record("shop:2", phone="+1 212 736 7777", **person),
    ]
    strangers = ["Nadia Haddad", "Leif Torgersen", "Kwame Boateng", "Siobhan Gallagher", "Anselm Vogel"]
    calls = [record(f"desk:{i}", name=name, phone="+1 212 736 5003") for i, name in enumerate(strangers)]
    at_once, one_by_one = pipelines(), pipelines()
    for each in (at_once, one_by_one):
        each.use_model(trained_model)
    told(at_once, *orders, *calls)
    told(one_by_one, *orders)
    told(one_by_one, *calls)
    assert at_once.value("select count(*) from staging.shared_values") == 1
    assert one_by_one.candidates() == at_once.candidates()
    assert one_by_one.customers() == at_once.customers()


def test_a_correction_that_fits_no_more_leaves_its_customer(pipeline):
    email = {"email": "astrid.holm@example.org"}
    told(
        pipeline,
        record("shop:1", name="Astrid Holm", **email),
        record("shop:2", name="Astrid Holm", phone="+1 212 736 5004", **email),
        record("desk:1", name="A. Holm", **email),
    )
    before = pipeline.ids()
    assert len(set(before.values())) == 1
    corrected = record("desk:1", "2026-01-05", name="Bertil Nyman", email="bertil.nyman@example.org")
    assert told(pipeline, corrected) == customers("shop:1 shop:2", "desk:1")
    after = pipeline.ids()
    assert (after["shop:1"], after["shop:2"]) == (before["shop:1"], before["shop:2"])
    assert pipeline.query(
        "select change, from_customer_id::text, into_customer_id::text, record_count "
        "from identity.customer_id_lineage where change = 'split'"
    ) == [("split", before["desk:1"], after["desk:1"], 1)]
    # An older version that comes late corrects nothing.
    assert told(pipeline, record("desk:1", "2026-01-04", name="A. Holm", **email)) == customers(
        "shop:1 shop:2", "desk:1"
    )
    assert pipeline.ids() == after


def test_a_withdrawn_record_leaves_and_the_last_one_closes_the_customer(pipeline):
    astrid = {"name": "Astrid Holm", "email": "astrid.holm@example.org"}
    told(pipeline, record("shop:1", **astrid), record("shop:2", phone="+1 212 736 5004", **astrid))
    customer = pipeline.ids()["shop:1"]
    assert told(pipeline, withdrawn("shop:2", "2026-01-02")) == customers("shop:1")
    last = pipeline.value("select max(event_seq) from gold.customer_change_events")
    assert told(pipeline, withdrawn("shop:1", "2026-01-02")) == set()
    assert pipeline.events_since(last) == [("DELETE", customer, None)]
    assert pipeline.query("select status from identity.customers") == [("closed",)]
    # Delivered again, it returns.
    assert told(pipeline, record("shop:1", "2026-01-03", **astrid)) == customers("shop:1")
    assert [change for change, *_ in pipeline.events_since(last)] == ["DELETE", "INSERT"]


def test_a_withdrawal_that_comes_before_its_record(pipeline):
    assert told(pipeline, withdrawn("shop:1", "2026-01-09")) == set()
    assert told(pipeline, record("shop:1", "2026-01-02", name="Astrid Holm")) == set()
    assert told(pipeline, record("shop:1", "2026-01-10", name="Astrid Holm")) == customers("shop:1")


def test_an_un_merge_gives_the_original_id_back(pipeline):
    told(
        pipeline,
        record("shop:1", name="Astrid Holm", email="astrid.holm@example.org"),
        record("shop:2", name="Astrid Holm", email="astrid.holm@example.org", phone="+1 212 736 5004"),
    )
    told(pipeline, record("desk:1", name="Bertil Nyman", email="bertil.nyman@example.org"))
    before = pipeline.ids()
    merge = pipeline.value(
        "gold.steward_merge(%s::uuid, %s::uuid, 'eva', 'a pen name')", before["shop:1"], before["desk:1"]
    )
    assert told(pipeline) == customers("shop:1 shop:2 desk:1")
    assert set(pipeline.ids().values()) == {before["shop:1"]}, "most records survive"
    assert (
        pipeline.value("identity.current_customer_id(%s::uuid)::text", before["desk:1"]) == before["shop:1"]
    )
    pipeline.value("gold.steward_withdraw(%s, 'eva', 'mistaken')::text", merge)
    assert told(pipeline) == customers("shop:1 shop:2", "desk:1")
    assert pipeline.ids() == before
    assert [change for change, *_ in pipeline.query(
        "select change, decision_id from identity.customer_id_lineage order by lineage_id"
    )] == ["merge", "split"]  # fmt: skip


def test_what_a_steward_calls_different_stays_apart_also_through_a_third(pipeline):
    twins = {"email": "the.holms@example.org", "phone": "+1 212 736 5004", "postal_code": "10001"}
    told(
        pipeline,
        record("shop:1", name="Astrid Holm", **twins),
        record("shop:2", name="Astrid B. Holm", **twins),
    )
    assert pipeline.together("shop:1", "shop:2")
    pipeline.value("gold.steward_reject('shop', '1', 'shop', '2', 'eva', 'mother and daughter')")
    assert told(pipeline) == customers("shop:1", "shop:2")
    # A third record fits both; and so does a fourth, the next day.
    found = told(pipeline, record("desk:1", name="A. Holm", **twins))
    assert len(found) == 2 and not pipeline.together("shop:1", "shop:2")
    told(pipeline, record("desk:2", "2026-01-02", name="Astrid Holm", **twins))
    assert not pipeline.together("shop:1", "shop:2")
    assert "steward_different" in {reason for _, reason in pipeline.links().values()}


def test_what_beats_the_score_is_explained_with_it(pipeline):
    twins = {"email": "the.holms@example.org", "phone": "+1 212 736 5004", "postal_code": "10001"}
    told(
        pipeline,
        record("shop:1", name="Astrid Holm", **twins),
        record("shop:2", name="Astrid B. Holm", **twins),
        record("crm:1", name="Yuki Tanabe"),
    )
    explained = (
        "select attribute, level from identity.explain_pair('shop', '1', %s, %s) "
        "where attribute in ('link', 'decision') order by step"
    )
    assert pipeline.query(explained, "shop", "2") == [("link", "standing")]
    pipeline.value("gold.steward_reject('shop', '1', 'shop', '2', 'eva', 'mother and daughter')")
    pipeline.value("gold.steward_confirm('shop', '1', 'crm', '1', 'otto', 'a pen name')")
    told(pipeline)
    assert pipeline.query(explained, "shop", "2") == [
        ("link", "refused: steward different"),
        ("decision", "different, says decision 1 of eva: mother and daughter"),
    ]
    assert pipeline.query(explained, "crm", "1") == [
        ("decision", "same, says decision 2 of otto: a pen name")
    ]  # fmt: skip


def test_a_steward_takes_equal_records_apart(pipeline):
    same = {"name": "Astrid Holm", "email": "the.holms@example.org"}
    told(pipeline, record("shop:1", **same), record("shop:2", **same), record("shop:3", **same))
    assert pipeline.together("shop:1", "shop:2", "shop:3")
    rejected = pipeline.value("gold.steward_reject('shop', '1', 'shop', '2', 'eva', 'two persons')")
    told(pipeline)
    assert not pipeline.together("shop:1", "shop:2")
    pipeline.value("gold.steward_withdraw(%s, 'eva', 'one after all')::text", rejected)
    assert told(pipeline) == customers("shop:1 shop:2 shop:3")


def test_what_a_steward_calls_the_same_is_joined_against_all_scores(pipeline):
    told(
        pipeline,
        record("shop:1", name="Astrid Holm", birth_date="1980-05-17", email="astrid.holm@example.org"),
        record("crm:1", name="Yuki Tanabe", birth_date="1955-11-02", email="tanabe@example.net"),
    )
    assert pipeline.decision("shop:1", "crm:1") in ("REJECT", "never compared")
    pipeline.value("gold.steward_confirm('shop', '1', 'crm', '1', 'eva', 'she changed all of it')")
    assert told(pipeline) == customers("shop:1 crm:1")
    assert pipeline.query("select distinct assigned_by from identity.customer_identity_map") == [("steward",)]
    # It outlives a later correction of either.
    told(pipeline, record("crm:1", "2026-03-01", name="Yuki Holm", birth_date="1955-11-02"))
    assert pipeline.together("shop:1", "crm:1")


def test_a_decision_until_a_date_ends_with_it(pipeline):
    told(pipeline, record("shop:1", name="Astrid Holm"), record("crm:1", name="Yuki Tanabe"))
    pipeline.value(
        "gold.steward_confirm('shop', '1', 'crm', '1', 'eva', 'for now', now() + interval '3 seconds')"
    )
    assert told(pipeline) == customers("shop:1 crm:1")
    pipeline.value("pg_sleep(3)::text")
    assert told(pipeline) == customers("shop:1", "crm:1")


def test_a_decision_about_a_withdrawn_record_waits_for_its_return(pipeline):
    told(pipeline, record("shop:1", name="Astrid Holm"), record("crm:1", name="Yuki Tanabe"))
    pipeline.value("gold.steward_confirm('shop', '1', 'crm', '1', 'eva', 'I called')")
    assert told(pipeline, withdrawn("crm:1", "2026-01-02")) == customers("shop:1")
    assert told(pipeline, record("crm:1", "2026-01-03", name="Yuki Tanabe")) == customers("shop:1 crm:1")


def test_merging_what_is_flagged_and_not_any_more(pipeline):
    # Under this model nothing merges by itself, and everything likely is flagged.
    pipeline.database.execute(
        "update identity.match_models set parameters = parameters || '{\"auto_merge\": 0.9999999999999}'"
    )
    rosalind = {"name": "Rosalind Abernathy", "email": "rosalind.abernathy@example.org"}
    apart = told(
        pipeline,
        record("shop:1", **rosalind),
        record("crm:1", phone="+1 212 736 5004", **rosalind),
        record("desk:1", name="Bertil Nyman"),
    )
    assert apart == customers("shop:1", "crm:1", "desk:1")
    assert pipeline.decision("shop:1", "crm:1") == "FLAG_REVIEW"
    assert [status for status, _ in pipeline.links().values()] == ["waiting"]
    pipeline.merge_flagged = True
    assert told(pipeline) == customers("shop:1 crm:1", "desk:1")
    pipeline.merge_flagged = False
    assert told(pipeline) == apart


def test_records_that_say_nothing_are_customers_of_their_own(pipeline):
    assert told(
        pipeline,
        record("shop:1"),
        record("shop:2", name="n/a", email="test@test.com", phone="0000000000"),
        record("shop:3", name="n/a", email="test@test.com", phone="0000000000"),
        record("shop:4", email=["not", "text"]),
    ) == customers("shop:1", "shop:2", "shop:3")
    assert pipeline.query("select line_number, reason from raw.rejected_records") == [
        (4, "email is a list, not text")
    ]
