"""Phase 6: ids that stay, lineage, and only what is touched."""

import re

import pytest

from tests.pipeline import check_laws, record, withdrawn

ASTRID = {"name": "Astrid Holm", "email": "astrid.holm@example.org"}
ERIN = {"name": "Erin Quill", "email": "erin@quill.example", "phone": "+1 415 555 2671"}
GUSTAV = {"name": "Gustav Holm", "email": "gustav@holm.example", "phone": "+1 212 736 5099"}
ZOE = {"name": "Zoe Marchetti", "email": "zoe@marchetti.example"}
BERTIL = {"name": "Bertil Nyman", "email": "bertil.nyman@example.org"}


@pytest.fixture
def resolve(pipeline):
    """`resolve(*records)` delivers, runs phases 2 to 6, returns record -> customer."""

    def run(*records: dict) -> dict[str, str]:
        pipeline.deliver(*records)
        pipeline.run("2", "6")
        return pipeline.ids()

    run.pipeline = pipeline
    return run


def lineage(pipeline) -> list[tuple]:
    return pipeline.query(
        "select change, from_customer_id::text, into_customer_id::text, record_count, reason "
        "from identity.customer_id_lineage order by lineage_id"
    )


def test_the_same_records_found_the_same_ids_on_another_day(pipelines, trained_model):
    found = []
    for _ in range(2):
        pipeline = pipelines()
        pipeline.use_model(trained_model)
        pipeline.deliver(record("shop:1", **ASTRID), record("shop:2", **BERTIL))
        pipeline.run("2", "6")
        found.append(pipeline.ids())
    assert found[0] == found[1]
    uuid8 = r"[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-8[0-9a-f]{3}-[0-9a-f]{12}"
    assert all(re.fullmatch(uuid8, customer) for customer in found[0].values())


def test_of_two_customers_that_merge_the_larger_survives_then_the_older(resolve):
    email, phone = {"email": "js4711@example.org"}, {"phone": "+1 212 736 5004"}
    first = resolve(record("shop:1", name="John Smith", **email))
    second = resolve(record("crm:1", name="J. Smith", **phone), record("crm:2", name="Jon Smith", **phone))
    assert second["crm:1"] == second["crm:2"] != first["shop:1"]
    bridge = resolve(record("desk:1", name="John Smith", **email, **phone))
    assert set(bridge.values()) == {second["crm:1"]}, "two records beat one"
    ((change, gone, survivor, count, reason),) = lineage(resolve.pipeline)
    assert (change, gone, survivor, count) == ("merge", first["shop:1"], second["crm:1"], 1)
    assert re.fullmatch(r"link of weight [\d.]+", reason)
    assert resolve.pipeline.query(
        "select status, merged_into::text, record_count from identity.customers order by record_count"
    ) == [("merged", second["crm:1"], 0), ("live", None, 4)]


def test_when_the_bridge_goes_both_have_their_ids_back(resolve):
    phone = {"phone": "+1 212 736 5004"}
    resolve(record("shop:1", name="Astrid Holm", email="astrid.holm@example.org", city="Lund"))
    before = resolve(
        record("crm:1", name="Anna Berg", **phone), record("crm:2", name="Anna Berg", **phone, city="Lund")
    )
    merge = resolve.pipeline.value(
        "gold.steward_confirm('shop', '1', 'crm', '1', 'eva', 'married and moved')"
    )
    assert len(set(resolve().values())) == 1
    resolve.pipeline.value("gold.steward_withdraw(%s, 'eva', 'no')::text", merge)
    assert resolve() == before
    assert [row[0] for row in lineage(resolve.pipeline)] == ["merge", "split"]
    merged, split = lineage(resolve.pipeline)
    assert merged[1:3] == split[1:3][::-1]
    assert merged[4] == "decision of a steward"


def test_a_split_keeps_the_id_where_most_records_are(resolve):
    email = {"email": "astrid.holm@example.org"}
    before = resolve(*(record(f"shop:{i}", name="Astrid Holm", **email) for i in range(5)))
    (customer,) = set(before.values())
    after = resolve(*(record(f"shop:{i}", "2026-01-02", **BERTIL) for i in range(2)))
    assert {after[f"shop:{i}"] for i in range(2, 5)} == {customer}
    assert after["shop:0"] == after["shop:1"] != customer
    assert lineage(resolve.pipeline) == [("split", customer, after["shop:0"], 2, "no longer held together")]
    after = resolve(*(record(f"shop:{i}", "2026-01-03", name="Astrid Holm", **email) for i in range(2)))
    assert set(after.values()) == {customer}
    assert resolve.pipeline.value(
        "identity.current_customer_id(into_customer_id)::text from identity.customer_id_lineage "
        "where change = 'split'"
    ) == customer  # fmt: skip


def test_only_what_is_touched_is_written(resolve):
    pipeline = resolve.pipeline
    resolve(record("shop:1", **ASTRID), record("shop:2", **ASTRID), record("crm:1", **BERTIL))
    untouched = "select ctid::text, m::text from identity.memberships as m where record_key = %s"
    crm_1 = pipeline.value("identity.record_key('crm', '1')")
    before = pipeline.query(untouched, crm_1)
    run = pipeline.run("6", "6")
    assert pipeline.value("detail ->> 'skipped' from gold.pipeline_phases where run_id = %s", run)
    resolve(record("desk:1", phone="+1 212 736 5004", **ASTRID))
    assert pipeline.query(untouched, crm_1) == before
    assert pipeline.query(
        "select rows_in from gold.pipeline_phases where phase = '6' order by run_id desc limit 1"
    ) == [(3,)]


def test_the_last_record_gone_closes_the_customer_and_its_id_is_nobodys(resolve):
    pipeline = resolve.pipeline
    (customer,) = resolve(record("shop:1", **ASTRID)).values()
    assert resolve(withdrawn("shop:1", "2026-01-02")) == {}
    assert pipeline.query(
        "select global_customer_id::text, status, record_count from identity.customers"
    ) == [(customer, "closed", 0)]
    # Somebody else under the same record id is not that customer's return.
    assert resolve(record("shop:2", **BERTIL)) != {"shop:2": customer}


def test_a_record_that_moves_between_customers_merges_nobody(resolve):
    before = resolve(
        record("shop:1", **ASTRID),
        record("shop:2", **ASTRID),
        record("shop:3", **ASTRID),
        record("crm:1", **BERTIL),
    )
    after = resolve(record("shop:3", "2026-01-02", **BERTIL))
    assert after["shop:3"] == before["crm:1"] == after["crm:1"]
    assert after["shop:1"] == before["shop:1"]
    assert [row[0] for row in lineage(resolve.pipeline) if row[0] == "merge"] == []


@pytest.fixture
def moved(pipelines, trained_model):
    """Erin founded a customer by shop:1, which was corrected to Gustav since; shop:2 is Erin and lives there on."""
    pipeline = pipelines()
    pipeline.use_model(trained_model)
    pipeline.deliver(record("shop:1", **ERIN))
    pipeline.run()
    pipeline.erin = pipeline.ids()["shop:1"]
    pipeline.deliver(record("shop:2", **ERIN), record("shop:3", **GUSTAV))
    pipeline.run()
    pipeline.deliver(record("shop:1", "2026-02-01", **GUSTAV))
    pipeline.run()
    assert pipeline.ids()["shop:2"] == pipeline.erin != pipeline.ids()["shop:1"]
    return pipeline


def test_the_id_of_an_erased_person_is_never_another_s(moved):
    moved.value("gold.erase_customer(%s::uuid, 'officer', 'asked for')", moved.erin)
    moved.deliver(record("shop:1", "2026-03-01", **ZOE))
    moved.run()
    assert moved.erin not in moved.ids().values()
    check_laws(moved)


def test_the_id_of_a_merged_person_is_never_another_s(moved):
    moved.value("gold.steward_override(%s::uuid, 'city', 'Erinville', 'eva', 'she said so')", moved.erin)
    moved.run()
    moved.deliver(*(record(f"desk:{i}", name="Erin Q", email="erin.q@example.org") for i in range(3)))
    moved.run()
    other = moved.ids()["desk:0"]
    moved.value("gold.steward_merge(%s::uuid, %s::uuid, 'eva', 'one Erin')", moved.erin, other)
    moved.run()
    assert moved.ids()["shop:2"] == other
    moved.deliver(record("shop:1", "2026-03-01", **ZOE))
    moved.run()
    assert moved.erin not in moved.ids().values()
    assert moved.query(
        "select global_customer_id::text from gold.dim_customers where canonical_city = 'Erinville'"
    ) == [(other,)]
    check_laws(moved)


def test_a_split_taken_back_and_made_again_gives_the_same_id(pipelines, trained_model):
    pipeline = pipelines()
    pipeline.use_model(trained_model)
    pipeline.deliver(record("shop:1", **ERIN), record("shop:2", **ERIN))
    pipeline.run()
    customer = pipeline.ids()["shop:1"]
    parted = []
    for _ in range(2):
        decision = pipeline.value(
            "gold.steward_split(%s::uuid, array['shop:2'], 'eva', 'mother and daughter')", customer
        )
        pipeline.run()
        parted.append(pipeline.ids())
        pipeline.value("gold.steward_withdraw(%s, 'eva', 'one person')", decision)
        pipeline.run()
        assert set(pipeline.ids().values()) == {customer}
    assert parted[0] == parted[1] and len(set(parted[0].values())) == 2
