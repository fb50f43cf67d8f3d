"""National identifiers (social security, tax, passport numbers)."""

import polars as pl

from .text import SCIENTIFIC, WORDS, any_of, by_distinct, clean, fold, on_rows, settled

REPEATED = "|".join(f"{character}+" for character in "0123456789x")
PLACEHOLDER = rf"^(?:{REPEATED}|{any_of(WORDS['placeholders']['national_ids'])})?$"
NOT_SAID = rf"^{any_of(WORDS['placeholders']['words'])}$"
SHORTEST, LONGEST = 5, 30


@by_distinct
def normalize_national_id(values: pl.Series) -> pl.DataFrame:
    """Columns national_id (lower case letters and digits only) and reason (String), one row per value."""
    text = fold(clean(values))
    text = on_rows(text, text.str.contains(r"^[0-9]+\.0$"), lambda rows: rows.str.replace(r"\.0$", ""))
    compact = text.str.replace_all(r"[^\p{L}\p{N}]+", "").alias("id")
    frame = pl.DataFrame({"text": text, "id": compact})
    national_id, is_said = pl.col("id"), ~pl.col("text").str.contains(NOT_SAID)
    reason = (
        pl.when(national_id.is_null()).then(None)
        .when(national_id.str.contains(PLACEHOLDER) | ~is_said).then(pl.lit("placeholder"))
        .when(pl.col("text").str.contains(SCIENTIFIC)).then(pl.lit("scientific_notation"))
        .when(~national_id.str.contains("[0-9]")).then(pl.lit("no_digits"))
        .when(national_id.str.len_chars() < SHORTEST).then(pl.lit("too_short"))
        .when(national_id.str.len_chars() > LONGEST).then(pl.lit("too_long"))
        .otherwise(None)
    )  # fmt: skip
    return settled(frame, reason, national_id=national_id)
