"""A week of a small shop: what its three systems deliver, what the machine makes of it, what stewards say in psql.

Each day the records come in, the pipeline runs, the laws are checked, and in the evening the stewards Eva and Otto
look at the result. A newsletter system follows the change events with a copy of its own.
"""

import psycopg2
import pytest

from tests.pipeline import check_laws, record, withdrawn

# Who is meant by a customer id: the first of these records that was found under it.
WHO = {
    "shop:1": "Maria", "desk:2": "Margit", "shop:2": "Lars", "shop:10": "Astrid", "desk:10": "her daughter",
    "shop:20": "Oskar Nyberg", "crm:20": "Oskar Falk", "shop:30": "Greta", "desk:30": "Gustav",
    "desk:40": "Bengt", "crm:40": "Bo", "crm:50": "Nina",
}  # fmt: skip
HOLMS = {"email": "the.holms@example.org", "phone": "+1 212 736 5004", "postal_code": "10001"}
MARIA = {"name": "Maria Lindqvist", "email": "maria.lindqvist@example.org"}
NINA = {"name": "Nina Sjöberg", "email": "nina.sjoberg@example.org"}


class Week:
    """The shop's pipeline, day by day."""

    def __init__(self, pipeline):
        self.pipeline = pipeline
        self.names: dict[str, str] = {}
        self.newsletter: dict[str, dict] = {}
        self.last_event = 0
        self.evenings: list[tuple] = []
        self.decisions: dict[str, int] = {}
        # The shop wants to be asked often: a pair of small chances goes to a steward too.
        pipeline.database.execute(
            """update identity.match_models set parameters = parameters || '{"flag_review": 0.05}'"""
        )

    def day(self, *delivered: dict) -> list[str]:
        """Deliver, run, check the laws; returns what the day's events tell, such as 'MERGE Bo into Bengt'."""
        self.pipeline.deliver(*delivered)
        told = self.run()
        self.evenings.append(
            (
                self.value("select clock_timestamp()"),
                self.query("select * from gold.dim_customers order by 1"),
            )
        )
        return told

    def run(self, first: str = "2") -> list[str]:
        """Run the phases from `first` on, check the laws; returns what the run's events tell."""
        self.pipeline.run(first)
        check_laws(self.pipeline)
        self._check_history()
        ids = self.pipeline.ids()
        for known, name in WHO.items():
            if known in ids:
                self.names.setdefault(ids[known], name)
        told = self._new_events()
        self._newsletter_reads_on()
        return told

    def _check_history(self) -> None:
        """No two versions of a customer overlap."""
        assert (
            self.query(
                "select one.global_customer_id from gold.dim_customers_history as one "
                "inner join gold.dim_customers_history as other on one.global_customer_id = other.global_customer_id "
                "and one.version < other.version and tstzrange(one.valid_from, one.valid_to) && "
                "tstzrange(other.valid_from, other.valid_to)"
            )
            == []
        )

    def _new_events(self) -> list[str]:
        events = self.query(
            "select event_seq, change_type::text, global_customer_id::text, related_customer_id::text, "
            "changed_attributes from gold.customer_change_events where event_seq > %s order by 1", self.last_event
        )  # fmt: skip
        self.last_event += len(events)
        assert not events or events[-1][0] == self.last_event, "numbers without a gap"
        word = {"MERGE": "into", "SPLIT": "from"}
        return sorted(
            f"{change} {self.names[customer]}"
            + (f" {word[change]} {self.names[related]}" if related else "")
            + (f": {', '.join(attributes)}" if attributes else "")
            for _, change, customer, related, attributes in events
        )

    def _newsletter_reads_on(self) -> None:
        """Four events at a time, acknowledged when its copy has them; the copy is then the golden table."""
        while batch := self.query(
            "select event_seq, change_type::text, global_customer_id::text, new_record "
            "from gold.read_events('newsletter', 4)"
        ):
            for _, change, customer, new_record in batch:
                if change in ("MERGE", "DELETE"):
                    del self.newsletter[customer]
                else:
                    self.newsletter[customer] = new_record
            self.says("gold.acknowledge_events('newsletter', %s)", batch[-1][0])
        assert self.newsletter == dict(
            self.query(
                "select global_customer_id::text, jsonb_strip_nulls(to_jsonb(dim_customers)) "
                "- 'global_customer_id' - 'updated_at' from gold.dim_customers"
            )
        )

    # ---- what stands in psql

    def query(self, sql: str, *parameters: object) -> list[tuple]:
        return self.pipeline.query(sql, *parameters)

    def value(self, sql: str, *parameters: object) -> object:
        return self.pipeline.value(sql, *parameters)

    def says(self, call: str, *parameters: object) -> object:
        """A steward's call; returns the number of the decision."""
        return self.value(call, *parameters)

    def id(self, of: str) -> str:
        """The id of the record's customer."""
        return self.pipeline.ids()[of]

    def customers(self) -> set[str]:
        """Each customer as its records in one line."""
        return {" ".join(sorted(records)) for records in self.pipeline.customers()}

    def golden(self, of: str) -> dict[str, str]:
        """What is known of the record's customer."""
        ((row,),) = self.query(
            "select jsonb_strip_nulls(to_jsonb(dim_customers)) from gold.dim_customers "
            "where global_customer_id = %s", self.id(of)
        )  # fmt: skip
        return {key.removeprefix("canonical_"): row[key] for key in row if key.startswith("canonical_")}

    def values(self, of: str, attribute: str) -> list[tuple]:
        """What is said of the record's customer, the golden value first: (value, golden, rule, sources, records)."""
        return self.query(
            "select value, is_golden, rule::text, sources, record_count from gold.customer_attribute_values "
            "where global_customer_id = %s and attribute = %s order by is_golden desc, value",
            *(self.id(of), attribute),
        )

    def queue(self, kind: str) -> list[tuple]:
        """(values side by side, the call that settles it, the other call) of the items of a kind."""
        return self.query(
            "select side_by_side, settle_call, other_call from gold.steward_review_queue where kind = %s",
            kind,
        )

    def settle(self, call: str, steward: str, reason: str) -> None:
        """Run a call of the review queue as it stands, with name and reason filled in."""
        self.query(call.replace("<you>", steward).replace("<why>", reason))

    def lineage(self) -> list[tuple]:
        """The merges and splits so far, by name: (change, from, into, records, decision)."""
        return [
            (change, self.names[left], self.names[into], records, decision)
            for change, left, into, records, decision in self.query(
                "select change, from_customer_id::text, into_customer_id::text, record_count, decision_id "
                "from identity.customer_id_lineage order by lineage_id"
            )
        ]

    def called(self, name: str) -> str:
        """The id that was given this name."""
        return {known: customer for customer, known in self.names.items()}[name]

    def now_stands_for(self, any_id: str) -> str:
        return self.value("identity.current_customer_id(%s)::text", any_id)


def refused(says: str):
    return pytest.raises(psycopg2.Error, match=says)


def monday(week: Week) -> None:
    told = week.day(
        record("shop:1", "2026-03-02", **MARIA, postal_code="10001"),
        record("shop:2", "2026-03-02", name="LINDQVIST, MARIA", email="Maria.Lindqvist@example.org",
               phone="(212) 736-5000"),
        record("crm:1", "2026-03-02", name="Maria Lindquist", phone="+1 212 736 5000"),
        record("shop:10", "2026-03-02", name="Astrid Holm", **HOLMS),
        record("shop:11", "2026-03-02", name="Astrid Holm", **HOLMS),
        record("desk:10", "2026-03-02", name="Astrid B. Holm", **HOLMS),
        record("shop:20", "2026-03-02", name="Oskar Nyberg", email="oskar.nyberg@example.org", birth_date="1980-05-17"),
        record("crm:20", "2026-03-02", name="Oskar Falk", email="o.falk@example.net"),
        record("shop:30", "2026-03-02", name="Greta Olander", phone="+1 212 736 5044"),
        record("desk:30", "2026-03-02", name="Gustav Olander", phone="+1 212 736 5044"),
        record("desk:40", "2026-03-02", name="Bengt Frisk", email="bengt.frisk@example.org"),
        record("crm:40", "2026-03-02", name="Bo Persson", email="bop@example.net"),
        record("crm:50", "2026-03-02", **NINA),
    )  # fmt: skip
    assert week.customers() == {
        "crm:1 shop:1 shop:2", "desk:10 shop:10 shop:11", "shop:20", "crm:20", "shop:30", "desk:30",
        "desk:40", "crm:40", "crm:50",
    }  # fmt: skip
    assert told == [
        "INSERT Astrid", "INSERT Bengt", "INSERT Bo", "INSERT Greta", "INSERT Gustav", "INSERT Maria",
        "INSERT Nina", "INSERT Oskar Falk", "INSERT Oskar Nyberg",
    ]  # fmt: skip
    assert week.golden("crm:1") == {
        "name": "Maria Lindqvist", "email": "maria.lindqvist@example.org", "phone": "+12127365000",
        "postal_code": "10001",
    }  # fmt: skip
    # Why: the name that most records say; and who said the other.
    assert week.values("shop:1", "name") == [
        ("Maria Lindqvist", True, "most_frequent", ["shop"], 2),
        ("Maria Lindquist", False, "most_frequent", ["crm"], 1),
    ]

    # Eva takes the first item of her queue: the Olanders are a couple.
    ((side_by_side, _, reject),) = week.queue("flagged_pair")
    assert side_by_side == {"name": ["Greta Olander", "Gustav Olander"], "phone": ["+12127365044"] * 2}
    week.settle(reject, "eva", "a couple")
    assert week.queue("flagged_pair") == [], "what is decided leaves the queue"
    # The machine took mother and daughter for one, and did not see that Oskar has married.
    apart = week.decisions["apart"] = week.says(
        "gold.steward_reject('shop', '10', 'desk', '10', 'eva', 'mother and daughter')"
    )
    week.decisions["married"] = week.says(
        "gold.steward_confirm('shop', '20', 'crm', '20', 'eva', 'he took his wife''s name')"
    )
    # Otto does not know that. The machine tells him who said the opposite, and why.
    with refused(
        rf"contradicts decision {apart} \(gold.steward_reject.*\) of eva on .*: mother and daughter"
    ):
        week.says("gold.steward_confirm('desk', '10', 'shop', '10', 'otto', 'obviously')")
    # Maria is abroad for some days.
    with refused("is no valid phone"):
        week.says("gold.steward_override(%s, 'phone', '736-5999', 'eva', 'abroad')", week.id("shop:1"))
    with refused("'maria@home' is no valid email"):
        week.says("gold.steward_override(%s, 'email', 'maria@home', 'eva', 'abroad')", week.id("shop:1"))
    week.decisions["abroad"] = week.says(
        "gold.steward_override(%s, 'phone', '+46 8 123 456 78', 'eva', 'abroad', now() + interval '4 days')",
        week.id("shop:1"),
    )
    # The newsletter must not acknowledge what it cannot have seen.
    with refused("there is no event 99 yet"):
        week.says("gold.acknowledge_events('newsletter', 99)")


def tuesday(week: Week) -> None:
    nyberg, falk, holm = week.id("shop:20"), week.id("crm:20"), week.id("shop:10")
    told = week.day(
        # A call from the Holms' phone, which fits both of them.
        record("desk:11", "2026-03-03", name="Astrid Holm", phone=HOLMS["phone"], email=HOLMS["email"]),
        # Somebody who shares nothing with Maria but a name.
        record("desk:2", "2026-03-03", name="M. Lindqvist", phone="+1 646 418 5777"),
    )
    # Apart, though a third record would chain them; the id stays with the two orders, not with the one ticket.
    assert week.pipeline.decision("desk:10", "desk:11") == "AUTO_MERGE"
    assert week.customers() >= {"desk:11 shop:10 shop:11", "desk:10"}
    assert week.id("shop:10") == holm
    # Together, though the scores say no. Of two customers of one record and one age the smaller id survives.
    assert week.pipeline.decision("shop:20", "crm:20") in ("REJECT", "never compared")
    assert week.id("shop:20") == week.id("crm:20") == falk == min(nyberg, falk)
    assert week.now_stands_for(nyberg) == falk
    assert week.lineage() == [
        ("merge", "Oskar Nyberg", "Oskar Falk", 1, week.decisions["married"]),
        ("split", "Astrid", "her daughter", 1, None),
    ]
    assert told == [
        "INSERT Margit",
        "MERGE Oskar Nyberg into Oskar Falk",
        "SPLIT her daughter from Astrid",
        "UPDATE Maria: phone",
        "UPDATE Oskar Falk: name, birth_date, record_count, source_count",
    ]
    # Who closed says into whom he went.
    assert week.query(
        "select is_current, merged_into::text from gold.dim_customers_history where global_customer_id = %s",
        nyberg,
    ) == [(False, falk)]
    assert week.golden("shop:1")["phone"] == "+46812345678"
    assert week.values("shop:1", "phone") == [
        ("+46812345678", True, "steward_override", [], 0),
        ("+12127365000", False, "steward_override", ["crm", "shop"], 2),
    ]
    # It will end soon: Eva is asked whether it is still right.
    ((side_by_side, *_),) = week.queue("expiring_override")
    assert side_by_side == {"phone": ["+46812345678"]}

    # Each steward knows a city, and then Otto takes Bengt and Bo for one person.
    week.says("gold.steward_override(%s, 'city', 'Lund', 'eva', 'he told me')", week.id("crm:40"))
    week.says("gold.steward_override(%s, 'city', 'Malmö', 'otto', 'his letterhead')", week.id("desk:40"))
    week.decisions["pen name"] = week.says(
        "gold.steward_merge(%s, %s, 'otto', 'a pen name')", week.id("desk:40"), week.id("crm:40")
    )


def wednesday(week: Week) -> None:
    maria, margit = week.id("shop:1"), week.id("desk:2")
    bengt, bo = week.id("desk:40"), week.id("crm:40")
    told = week.day(
        # Maria orders with the number of that other Lindqvist: it chains the two.
        record("shop:3", "2026-03-04", **MARIA, phone="+1 646 418 5777"),
    )
    # Three records against one: Maria's id survives, and her override with it.
    assert week.id("desk:2") == maria
    assert week.now_stands_for(margit) == maria
    assert week.golden("desk:2")["phone"] == "+46812345678"
    assert week.id("desk:40") == week.id("crm:40") == min(bengt, bo)
    assert told == [
        "MERGE Bengt into Bo",
        "MERGE Margit into Maria",
        "UPDATE Bo: city",
        "UPDATE Bo: name, email, record_count, source_count",
        "UPDATE Maria: record_count, source_count",
    ]
    # What Otto said of Bengt followed him and counts, being newer; the other one is listed for review.
    assert week.golden("crm:40")["city"] == "Malmö"
    ((side_by_side, withdraw_older, _),) = week.queue("colliding_overrides")
    assert side_by_side == {"city": ["Malmö", "Lund"]}
    week.settle(withdraw_older, "eva", "that was his office")
    assert week.queue("colliding_overrides") == []
    # She has it take effect at once; nothing that is golden changes by it.
    assert week.run("6") == []

    # Bo has called: he is not Bengt. And the ticket was Maria's mother's.
    pen_name = week.decisions["pen name"]
    week.says("gold.steward_withdraw(%s, 'otto', 'I was wrong')", pen_name)
    with refused(f"decision {pen_name} was withdrawn on .* already"):
        week.says("gold.steward_withdraw(%s, 'eva', 'he was wrong')", pen_name)
    week.decisions["mother"] = week.says(
        "gold.steward_split(%s, '{desk:2}', 'eva', 'her mother Margit')", margit
    )


def thursday(week: Week) -> None:
    bengt, bo, margit = (week.called(name) for name in ("Bengt", "Bo", "Margit"))
    told = week.day(
        # Order 2 was typed into Maria's account; it was her neighbour's.
        record("shop:2", "2026-03-05", name="Lars Bergman", email="lars.bergman@example.org"),
        # Nina wants to be a customer no more.
        withdrawn("crm:50", "2026-03-05"),
    )
    assert told == [
        "DELETE Nina",
        "SPLIT Bengt from Bo",
        "SPLIT Lars from Maria",
        "SPLIT Margit from Maria",
        "UPDATE Bo: name, email, city, record_count, source_count",
        "UPDATE Maria: record_count, source_count",
    ]
    # The un-merge and the split give each the id that was his before, and what was said about him.
    assert (week.id("desk:40"), week.id("crm:40"), week.id("desk:2")) == (bengt, bo, margit)
    assert [week.now_stands_for(each) for each in (bengt, bo, margit)] == [bengt, bo, margit]
    assert week.golden("desk:40")["city"] == "Malmö"
    assert "city" not in week.golden("crm:40"), "Eva has withdrawn it"
    # Lars is a customer of his own.
    assert week.customers() >= {"crm:1 shop:1 shop:3", "shop:2", "desk:2"}
    assert week.golden("shop:2") == {"name": "Lars Bergman", "email": "lars.bergman@example.org"}
    # Nina is gone, and nobody can decide about her.
    nina = week.called("Nina")
    assert week.query("select status from identity.customers where global_customer_id = %s", nina) == [
        ("closed",)
    ]
    assert week.query(
        "select is_current, merged_into from gold.dim_customers_history where global_customer_id = %s", nina
    ) == [(False, None)]
    with refused("is closed: its last record was withdrawn"):
        week.says("gold.steward_override(%s, 'city', 'Umeå', 'eva', 'she moved')", nina)

    # The four days for which Maria is abroad are over.
    week.pipeline.database.execute(
        "update gold.customer_steward_overrides set valid_until = now() where valid_until is not null"
    )


def friday(week: Week) -> None:
    nina = week.called("Nina")
    told = week.day(
        record("crm:50", "2026-03-06", **NINA),
        # Oskar's record says more and more that he is somebody else.
        record("crm:20", "2026-03-06", name="Oskar Falk", email="o.falk@example.net", birth_date="1955-11-02"),
    )  # fmt: skip
    assert told == ["INSERT Nina", "UPDATE Maria: phone", "UPDATE Oskar Falk: birth_date"]
    assert week.id("crm:50") == nina, "who returns has his old id"
    assert week.pipeline.together("shop:20", "crm:20")
    # Maria is back: the override has ended, and what she said last counts again.
    assert week.golden("shop:1")["phone"] == "+16464185777"
    assert week.queue("expiring_override") == []

    # Otto trusts the names in the CRM most.
    with refused("source_order names crmm, which is no source"):
        trust(week, "{crmm}")
    with refused("violates check constraint .priority_and_only_priority_has_a_source_order"):
        trust(week, None)
    trust(week, "{crm,desk,shop}")


def trust(week: Week, source_order: str | None) -> None:
    """Of several names, the one from the source that stands first."""
    week.pipeline.database.execute(
        "update gold.survivorship_rules set strategy = 'priority', source_order = %s "
        "where attribute = 'name' and step = 1", (source_order,)
    )  # fmt: skip


def saturday(week: Week) -> None:
    assert week.day() == ["UPDATE Maria: name", "UPDATE Oskar Falk: name"]
    # Recomputed was who has several names, and nobody else.
    several = week.query(
        "select global_customer_id::text from gold.customer_attribute_values where attribute = 'name' "
        "group by 1 having count(*) > 1"
    )
    assert sorted(week.names[customer] for (customer,) in several) == ["Maria", "Oskar Falk"]
    assert week.query(
        "select rows_in, rows_out, detail from gold.pipeline_phases where phase = '7' order by run_id desc limit 1"
    ) == [(2, 2, {"customers_of_changed_rules": 2})]
    assert week.values("shop:1", "name") == [
        ("Maria Lindquist", True, "priority", ["crm"], 1),
        ("Maria Lindqvist", False, "priority", ["shop"], 2),
    ]
    # The event says what was and what is.
    assert week.query(
        "select old_record ->> 'canonical_name', new_record ->> 'canonical_name' "
        "from gold.customer_change_events where global_customer_id = %s order by event_seq desc limit 1",
        week.id("shop:1"),
    ) == [("Maria Lindqvist", "Maria Lindquist")]


def sunday(week: Week) -> None:
    before = week.pipeline.rows_on_disk()
    assert week.day() == []
    assert week.pipeline.rows_on_disk() == before, "nothing changed, and nothing was written"

    # Every evening's table can still be had.
    for evening, customers in week.evenings:
        assert week.query("select * from gold.customers_as_of(%s) order by 1", evening) == customers
    # And the story of each customer.
    maria = week.query("select what, story from gold.customer_timeline(%s)", week.id("shop:1"))
    assert [what for what, _ in maria] == [
        "version 1",
        f"decision {week.decisions['abroad']}",
        "version 2",
        "merge",
        "version 3",
        f"decision {week.decisions['mother']}",
        "split",
        "split",
        "version 4",
        "version 5",
        "version 6",
    ]
    assert dict(maria)["version 5"] == "phone +46812345678 -> +16464185777"
    margit = week.query("select what, story from gold.customer_timeline(%s)", week.called("Margit"))
    assert [what for what, _ in margit] == [
        "version 1", "merge", "closed", f"decision {week.decisions['mother']}", "split", "version 2",
    ]  # fmt: skip
    assert dict(margit)["closed"] == f"merged into {week.id('shop:1')}"
    # A new reader begins at the first event; what he does not acknowledge comes again.
    first = week.query("select * from gold.read_events('auditor', 3)")
    assert [row[0] for row in first] == [1, 2, 3]
    assert week.query("select * from gold.read_events('auditor', 3)") == first
    # Not even by hand can a version begin before the one before it has ended.
    with pytest.raises(psycopg2.errors.ForeignKeyViolation):
        week.pipeline.database.execute(
            "insert into gold.dim_customers_history (global_customer_id, version, run_id, record_count, "
            "source_count, valid_from, previous_valid_to) values (%s, 7, 1, 1, 1, now(), now())",
            (week.id("shop:1"),),
        )


def test_seven_days_of_a_shop(pipeline):
    week = Week(pipeline)
    for day in (monday, tuesday, wednesday, thursday, friday, saturday, sunday):
        day(week)
