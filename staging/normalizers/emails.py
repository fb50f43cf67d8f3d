"""E-mail addresses: lower case, validated, with the mailbox that its spellings share."""

import polars as pl

from .text import WORDS, any_of, by_distinct, clean, on_rows, settled

PLACEHOLDERS = WORDS["placeholders"]
JUNK_LOCALS = any_of(PLACEHOLDERS["email_locals"])
JUNK_DOMAINS = any_of(PLACEHOLDERS["email_domains"])
EXAMPLE_LOCALS = any_of(PLACEHOLDERS["email_locals_at_example"])
EXAMPLE_DOMAINS = any_of(PLACEHOLDERS["example_domains"])
PLACEHOLDER = (
    rf"^(?:{JUNK_LOCALS}@.*"
    rf"|[^@]*@(?:.*\.)?{JUNK_DOMAINS}"
    rf"|{EXAMPLE_LOCALS}@{EXAMPLE_DOMAINS}"
    r"|[^@]*@(?:.*\.)?(?:invalid|localhost))$"
)
NOT_AN_ADDRESS = rf"^(?:{any_of(PLACEHOLDERS['words'])}|[x.-]+|no email|no)$"

GMAIL = ["gmail.com", "googlemail.com"]
ATOM = r"[\p{L}\p{N}!#$%&'*+/=?^_`{|}~-]+"
LOCAL = rf"^{ATOM}(?:\.{ATOM})*$"
LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
DOMAIN = rf"^(?:{LABEL}\.)+(?:[a-z]{{2,63}}|xn--[a-z0-9-]{{2,59}})$"


@by_distinct
def normalize_email(values: pl.Series) -> pl.DataFrame:
    """Columns email, mailbox, reason (String), one row per value.

    The mailbox is the address without its plus tag, and without dots at Gmail; international domains are
    in their ASCII form. RFC 5321 without quoted local parts and address literals; RFC 6531 local parts.
    """
    address = clean(values).str.to_lowercase()
    # The capital İ of Turkish becomes an i with a dot above it.
    address = on_rows(
        address,
        address.str.contains("i\u0307", literal=True),
        lambda rows: rows.str.replace_all("i\u0307", "i", literal=True),
    )
    address = on_rows(address, address.str.contains(r"[<> ,;:\[\]()\"'|]|@.*/|\.$"), _unwrapped)
    frame = address.str.splitn("@", 2).struct.rename_fields(["local", "domain"]).struct.unnest()
    frame = frame.with_columns(
        on_rows(frame["domain"], ~frame["domain"].str.contains(r"^[\x00-\x7f]*$"), _ascii_domains)
    )
    frame = frame.with_columns(
        address=pl.col("local") + "@" + pl.col("domain"),
        is_same=_same_on_both_sides(frame["local"], frame["domain"]),
    )
    local, domain = pl.col("local"), pl.col("domain")
    reason = (
        pl.when(local.is_null()).then(None)
        .when(domain.is_null() & local.str.contains(NOT_AN_ADDRESS)).then(pl.lit("placeholder"))
        .when(domain.is_null()).then(pl.lit("no_at"))
        .when(local == "").then(pl.lit("no_local_part"))
        .when(domain == "").then(pl.lit("no_domain"))
        .when((local.str.len_bytes() > 64) | (domain.str.len_bytes() > 253)).then(pl.lit("too_long"))
        .when(pl.col("address").str.contains(PLACEHOLDER) | pl.col("is_same")).then(pl.lit("placeholder"))
        .when(~local.str.contains(LOCAL)).then(pl.lit("invalid_local_part"))
        .when(~domain.str.contains(".", literal=True)).then(pl.lit("no_top_level_domain"))
        .when(~domain.str.contains(DOMAIN)).then(pl.lit("invalid_domain"))
        .otherwise(None)
    )  # fmt: skip
    has_other_spellings = frame.select(
        pl.col("domain").is_in(GMAIL) | pl.col("local").str.contains("+", literal=True)
    ).to_series()
    mailbox = on_rows(frame["address"], has_other_spellings, _mailboxes)
    return settled(frame, reason, email=pl.col("address"), mailbox=pl.lit(mailbox))


def _mailboxes(addresses: pl.Series) -> pl.Series:
    """The addresses without plus tags, those of Gmail without dots and under its one domain."""
    parts = addresses.str.splitn("@", 2).struct.rename_fields(["local", "domain"]).struct.unnest()
    untagged, domain = pl.col("local").str.replace(r"(.)\+.*", "$1"), pl.col("domain")
    return parts.select(
        pl.when(domain.is_in(GMAIL)).then(untagged.str.replace_all(".", "", literal=True) + "@gmail.com")
        .otherwise(untagged + "@" + domain)
    ).to_series()  # fmt: skip


def _unwrapped(addresses: pl.Series) -> pl.Series:
    """The first address in 'Name <a@b>', 'mailto:a@b?subject=x', 'a@b; c@d', 'a@b/c@d', 'a@b (home)', 'a @ b . com'."""
    return (
        addresses.str.replace(r"^.*<\s*([^<>]*@[^<>]*?)\s*>.*$", "$1")
        .str.replace(r"^(?:mailto|e-?mail|smtp)\s*:\s*", "")
        .str.replace(r"^([^?]*@[^?]*)\?.*$", "$1")
        .str.replace_all(r"\s*([@.])\s*", "$1")
        .str.replace(r"^([^;,]*@[^;,]*)[;,].*$", "$1")
        .str.replace(r"^(\S+@\S+) .*@.*$", "$1")
        .str.replace(r"^([^@]+@[^@/|]+)[/|][^@]*@.*$", "$1")
        .str.replace(r"^([^(\[]*@[^(\[]*)[(\[].*$", "$1")
        .str.strip_chars(" .,;:'\"()[]<>")
    )


def _ascii_domains(domains: pl.Series) -> pl.Series:
    """International domains in their ASCII form; what has none stays, and fails the check that follows."""
    distinct = domains.unique(maintain_order=True)
    return domains.replace_strict(
        distinct, [_ascii_domain(domain) for domain in distinct], return_dtype=pl.String
    )


def _ascii_domain(domain: str) -> str:
    try:
        return domain.encode("idna").decode("ascii")
    except UnicodeError:
        return domain


def _same_on_both_sides(local: pl.Series, domain: pl.Series) -> pl.Series:
    """One to three characters, or one repeated, before and after the @: a@a.com, xxxx@xxxx.de."""
    frame = pl.DataFrame({"local": local, "domain": domain})
    is_same = frame.select(pl.col("domain").str.starts_with(pl.col("local"))).to_series().fill_null(False)
    rows = is_same.arg_true()
    if not len(rows):
        return is_same
    local, label = pl.col("local"), pl.col("domain").str.extract(r"^([^.]*)")
    one_letter = local.str.strip_chars(local.str.head(1)) == ""
    same = frame[rows].select((local == label) & ((local.str.len_chars() <= 3) | one_letter)).to_series()
    return is_same.scatter(rows, same)
