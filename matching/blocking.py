"""Blocking rules as matching/model.toml declares them: which pairs of profiles are compared at all.

A rule is a list of key terms; profiles that agree on every term are a block, and a missing term takes a
profile out of the rule. The terms are a small closed vocabulary, so that each has one exact meaning in SQL.
"""

import re
from dataclasses import dataclass

COLUMNS = (
    "email_mailbox",
    "phone",
    "given_name",
    "family_name",
    "birth_date",
    "address",
    "city",
    "postal_code",
    "national_id",
)
TEXTS = tuple(column for column in COLUMNS if column != "birth_date")
# term function -> the columns it takes
FUNCTIONS = {
    "first": TEXTS,
    "last": TEXTS,
    "first_token": TEXTS,
    "last_token": TEXTS,
    "soundex": TEXTS,
    "local_part": ("email_mailbox",),
    "year": ("birth_date",),
    "month_day": ("birth_date",),
    "area": ("postal_code",),
}
TAKE_LENGTH = ("first", "last")
MOST_CHARACTERS = 1000
# What fits an integer of PostgreSQL.
MOST_PROFILES = 2**31 - 1
# A pair keeps its rules as bits of one integer.
MOST_RULES = 31
TERM = re.compile(r"(?:(?P<function>\w+)\()?(?P<column>\w+)(?:, *(?P<length>\d+))?(?(function)\))")


@dataclass(frozen=True)
class BlockingRule:
    """key: terms that must agree. limit: most profiles that are all paired with all; those of a larger block are
    paired with its anchors, of one larger than give_up not at all; both are reported."""

    name: str
    key: tuple[str, ...]
    limit: int
    give_up: int | None = None


def parse_term(term: str) -> tuple[str | None, str, int | None]:
    """(function, column, length) of a key term. Raises ValueError for one outside the vocabulary."""
    if term == "name_tokens":
        return "name_tokens", "", None
    found = TERM.fullmatch(term) if isinstance(term, str) else None
    if not found or found["column"] not in COLUMNS:
        raise ValueError(f"unknown blocking term {term!r}")
    function, length = found["function"], found["length"]
    if function is None and length is None:
        return None, found["column"], None
    if function not in FUNCTIONS or (function in TAKE_LENGTH) != (length is not None):
        raise ValueError(f"unknown blocking term {term!r}")
    if found["column"] not in FUNCTIONS[function]:
        raise ValueError(f"blocking term {term!r}: {function} takes one of {', '.join(FUNCTIONS[function])}")
    if length and not 1 <= int(length) <= MOST_CHARACTERS:
        raise ValueError(f"blocking term {term!r}: the length must be from 1 to {MOST_CHARACTERS}")
    return function, found["column"], int(length) if length else None


def read_blocking(tables: list[dict]) -> tuple[BlockingRule, ...]:
    """The rules of [[blocking]]. Raises ValueError naming the rule with the mistake."""
    if not isinstance(tables, list) or not tables or not all(isinstance(table, dict) for table in tables):
        raise ValueError("[[blocking]]: at least one rule is needed, in double brackets")
    rules = []
    for place, table in enumerate(tables, start=1):
        name = table.get("name", f"number {place}")
        if set(table) | {"give_up"} != {"name", "key", "limit", "give_up"}:
            raise ValueError(
                f"[[blocking]] {name}: needs name, key and limit, may have give_up, and nothing else"
            )
        if not isinstance(name, str):
            raise ValueError(f"[[blocking]] number {place}: name must be a text, not {name!r}")
        if not isinstance(table["limit"], int) or not 2 <= table["limit"] <= MOST_PROFILES:
            raise ValueError(f"[[blocking]] {name}: limit must be a whole number from 2 to {MOST_PROFILES}")
        give_up = table.get("give_up", table["limit"])
        if not isinstance(give_up, int) or not table["limit"] <= give_up <= MOST_PROFILES:
            raise ValueError(
                f"[[blocking]] {name}: give_up must be a whole number from the limit to {MOST_PROFILES}"
            )
        if not isinstance(table["key"], list) or not table["key"]:
            raise ValueError(f"[[blocking]] {name}: key must be a list of terms")
        for term in table["key"]:
            try:
                parse_term(term)
            except ValueError as error:
                raise ValueError(f"[[blocking]] {name}: {error}") from None
        rules.append(BlockingRule(name, tuple(table["key"]), table["limit"], table.get("give_up")))
    if len({rule.name for rule in rules}) != len(rules):
        raise ValueError("[[blocking]]: two rules have the same name")
    if len(rules) > MOST_RULES:
        raise ValueError(
            f"[[blocking]]: at most {MOST_RULES} rules (a pair keeps its rules as bits of one integer)"
        )
    return tuple(rules)
