"""The demo's shop: orders with email, name, phone and postal code.

Most orders come from accounts, so a customer's entries are the same from order to order; guests type theirs
anew each time.
"""

import numpy as np
import polars as pl

from producers.draws import uniform
from producers.places import COUNTRIES
from producers.records import Entries, Source, only_where

CURRENCIES = dict.fromkeys(COUNTRIES, "EUR") | {"US": "USD", "GB": "GBP", "PL": "PLN", "BR": "BRL"}


def compose(entries: Entries) -> pl.DataFrame:
    """customer_email, customer_name, customer_phone, zip_code, amount, currency."""
    email, phone = entries.present(0.95, "email"), entries.present(0.80, "phone")
    return pl.DataFrame(
        {
            "customer_email": only_where(entries.email(), email | ~phone),
            "customer_name": only_where(entries.name(), entries.present(0.98, "name")),
            "customer_phone": entries.phone(phone),
            "zip_code": only_where(entries.postal_code(), entries.present(0.93, "postal code")),
            "amount": np.round(5 + 60 * uniform(entries.event, "amount") ** -0.45, 2),
            "currency": pl.Series(list(CURRENCIES.values())).gather(entries.people.country),
        }
    )


SALES = Source(
    name="sales",
    letter="O",
    id_field="order_id",
    email_field="customer_email",
    retyped_rate=0.2,
    junk_phone_share=0.0,
    compose=compose,
)

if __name__ == "__main__":
    from producers.delivery import run_as_script

    run_as_script([SALES], __doc__)
