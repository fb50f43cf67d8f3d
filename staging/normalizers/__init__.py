"""Normalisers of the canonical attributes: a Series of raw strings in, a DataFrame of settled columns out.

Every one looks at a single value at a time and has a column `reason` beside its results: null where the value
is valid or missing, else a short fixed word for what is wrong, and the results are null. All texts to be
matched are in lower case.
"""

from .addresses import normalize_address, normalize_city, normalize_postal_code
from .dates import normalize_date
from .emails import normalize_email
from .national_ids import normalize_national_id
from .person_names import normalize_name
from .phones import normalize_phone
from .timestamps import normalize_timestamp

__all__ = [
    "normalize_address",
    "normalize_city",
    "normalize_date",
    "normalize_email",
    "normalize_name",
    "normalize_national_id",
    "normalize_phone",
    "normalize_postal_code",
    "normalize_timestamp",
]
