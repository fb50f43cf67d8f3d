"""The sources file: what is read from it, and what each mistake in it is answered with."""

import re

import pytest

from db.errors import ConfigurationError, MissingError
from db.settings import PROJECT
from ingestion.sources import read_sources

GOOD = """
[crm]
prefix = "crm/"
raw_table = "crm_contacts"
record_id = "id"

[crm.attributes]
email = "mail"
address = ["street", "number"]
"""


@pytest.fixture
def read(tmp_path):
    def read_text(text: str):
        path = tmp_path / "sources.toml"
        path.write_text(text, encoding="utf-8")
        return read_sources(path)

    return read_text


def test_the_demo_has_three_sources():
    sources = read_sources(PROJECT / "ingestion" / "sources.toml")
    assert [(source.name, source.raw_table, source.staging_table) for source in sources] == [
        ("sales", "sales_orders", "stg_sales_customers"),
        ("support", "support_tickets", "stg_support_contacts"),
        ("marketing", "marketing_leads", "stg_marketing_leads"),
    ]


def test_what_is_not_given_has_a_default(read):
    (crm,) = read(GOOD)
    assert (crm.staging_table, crm.event_ts, crm.day_first, crm.region) == ("stg_crm", None, False, None)
    assert crm.attributes == {"email": ("mail",), "address": ("street", "number")}


def with_line(line: str) -> str:
    return GOOD.replace('record_id = "id"', f'record_id = "id"\n{line}')


SECOND = GOOD.replace("crm", "shop")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "names no source"),
        ("[crm", "not valid TOML"),
        ('crm = "x"', "outside of any source"),
        ("[CRM]\n", "lower-case"),
        (GOOD.replace('prefix = "crm/"', ""), "key prefix: is missing"),
        (GOOD.replace('raw_table = "crm_contacts"', ""), "key raw_table: is missing"),
        (GOOD.replace('record_id = "id"', ""), "key record_id: is missing"),
        (GOOD.partition("[crm.attributes]")[0], "key attributes: is missing"),
        (GOOD.partition("email")[0], "key attributes: takes a table"),
        (GOOD.replace('"id"', "7"), "key record_id: takes a text in quotes, not 7"),
        (GOOD.replace('"id"', '""'), "key record_id: takes a text"),
        (GOOD.replace('"id"', '"_deleted"'), "withdraws a record"),
        (GOOD.replace("email =", "mail ="), "key attributes.mail: there is no such attribute"),
        (GOOD.replace('["street", "number"]', "[]"), "key attributes.address: takes the name of a field"),
        (GOOD.replace('"number"]', "7]"), "key attributes.address: takes the name of a field"),
        (GOOD + 'name = "n"\ngiven_name = "g"', "key attributes.name: stands beside"),
        (GOOD.replace('"crm/"', '"crm"'), "is no folder of the lake"),
        (GOOD.replace('"crm/"', '"/crm/"'), "is no folder of the lake"),
        (GOOD.replace('"crm/"', '"../crm/"'), "is no folder of the lake"),
        (GOOD.replace('"crm/"', '"_truth/crm/"'), "for itself"),
        (GOOD.replace('"crm_contacts"', '"Contacts; drop table x"'), "key raw_table: takes lower-case"),
        (GOOD.replace('"crm_contacts"', '"sources"'), "the pipeline's own"),
        (with_line('staging_table = "contacts"'), "must start with stg_"),
        (with_line('day_first = "yes"'), "key day_first: takes true or false"),
        (with_line('region = "Germany"'), "key region: takes a country"),
        (with_line('region = "UK"'), "key region: takes a country"),
        (with_line('event_ts = "id"'), "is the record id"),
        (with_line("""event_ts = 'at "UTC"'"""), "has quotes"),
        (GOOD.replace('["street", "number"]', "'back\\slash'"), "has quotes, a backslash"),
        (with_line('record = "x"'), "key record: there is no such key"),
        (
            GOOD + SECOND.replace("shop_contacts", "crm_contacts"),
            "key raw_table: is that of source [crm] too",
        ),
        (GOOD + SECOND.replace('"shop/"', '"crm/"'), "lie in one another"),
        (GOOD + SECOND.replace('"shop/"', '"crm/shop/"'), "lie in one another"),
        (GOOD + GOOD, "not valid TOML"),
    ],
)
def test_a_mistake_is_named_with_its_place(read, text, says):
    with pytest.raises(ConfigurationError, match=re.escape(says)) as caught:
        read(text)
    assert "sources.toml" in str(caught.value)


def test_no_such_file(tmp_path):
    with pytest.raises(MissingError, match="no sources file"):
        read_sources(tmp_path / "none.toml")


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_sources(tmp_path)
