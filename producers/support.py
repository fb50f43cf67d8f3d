"""The demo's help desk: tickets by email, web form, telephone and chat.

What is known of the contact depends on the channel: a mail tells its sender's mailbox and sometimes the name,
a call the number, and then now and again the call centre's own.
"""

import numpy as np
import polars as pl

from producers.records import Entries, Source, only_where, weighted

CHANNELS = {"email": 0.50, "web": 0.25, "phone": 0.15, "chat": 0.10}
EMAIL_RATES = np.array([1.0, 1.0, 0.45, 0.85])
PHONE_RATES = np.array([0.25, 0.45, 1.0, 0.20])
NAME_RATES = np.array([0.75, 0.85, 0.80, 0.60])
SUBJECTS = {
    "Where is my order?": 25,
    "Refund": 15,
    "Damaged on arrival": 10,
    "Change of address": 8,
    "Cannot log in": 12,
    "Invoice": 8,
    "Wrong item": 9,
    "Cancel subscription": 6,
    "Other": 7,
}


def compose(entries: Entries) -> pl.DataFrame:
    """contact_email, contact_phone, contact_name, channel, subject."""
    channel = weighted(list(CHANNELS), list(CHANNELS.values()), entries.event, "channel")
    number = channel.replace_strict({name: i for i, name in enumerate(CHANNELS)}).to_numpy()
    email = entries.present(EMAIL_RATES[number], "email")
    phone = entries.present(PHONE_RATES[number], "phone")
    return pl.DataFrame(
        {
            "contact_email": only_where(entries.email(), email | ~phone),
            "contact_phone": entries.phone(phone),
            "contact_name": only_where(entries.name(), entries.present(NAME_RATES[number], "name")),
            "channel": channel,
            "subject": weighted(list(SUBJECTS), list(SUBJECTS.values()), entries.event, "subject"),
        }
    )


SUPPORT = Source(
    name="support",
    letter="T",
    id_field="ticket_id",
    email_field="contact_email",
    retyped_rate=0.35,
    junk_phone_share=0.01,
    compose=compose,
)

if __name__ == "__main__":
    from producers.delivery import run_as_script

    run_as_script([SUPPORT], __doc__)
