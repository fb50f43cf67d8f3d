"""The demo's campaigns: leads with name and phone, sometimes email and city; each typed anew."""

import polars as pl

from producers.records import Entries, Source, only_where, weighted

CAMPAIGNS = {"newsletter": 30, "trade-fair": 15, "webinar": 20, "referral": 15, "winter-sale": 20}


def compose(entries: Entries) -> pl.DataFrame:
    """lead_name, lead_phone, lead_email, city, campaign."""
    phone = entries.present(0.93, "phone")
    email = entries.present(0.55, "email")
    return pl.DataFrame(
        {
            "lead_name": only_where(entries.name(), entries.present(0.985, "name")),
            "lead_phone": entries.phone(phone),
            "lead_email": only_where(entries.email(), email | ~phone),
            "city": only_where(entries.people.cities(), entries.present(0.75, "city")),
            "campaign": weighted(list(CAMPAIGNS), list(CAMPAIGNS.values()), entries.event, "campaign"),
        }
    )


MARKETING = Source(
    name="marketing",
    letter="L",
    id_field="lead_id",
    email_field="lead_email",
    retyped_rate=0.8,
    junk_phone_share=0.005,
    compose=compose,
)

if __name__ == "__main__":
    from producers.delivery import run_as_script

    run_as_script([MARKETING], __doc__)
