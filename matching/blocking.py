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
# term function -> whether it takes a length
FUNCTIONS = {
    "first": True,
    "last": True,
    "first_token": False,
    "last_token": False,
    "soundex": False,
    "local_part": False,
    "year": False,
    "month_day": False,
    "area": False,
}
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
    found = TERM.fullmatch(term)
    if not found or found["column"] not in COLUMNS:
        raise ValueError(f"unknown blocking term {term!r}")
    function, length = found["function"], found["length"]
    if function is None and length is None:
        return None, found["column"], None
    if function not in FUNCTIONS or FUNCTIONS[function] != (length is not None):
        raise ValueError(f"unknown blocking term {term!r}")
    return function, found["column"], int(length) if length else None


def read_blocking(tables: list[dict]) -> tuple[BlockingRule, ...]:
    """The rules of [[blocking]]. Raises ValueError naming the rule with the mistake."""
    rules = []
    for place, table in enumerate(tables, start=1):
        name = table.get("name", f"number {place}")
        if set(table) | {"give_up"} != {"name", "key", "limit", "give_up"}:
            raise ValueError(
                f"[[blocking]] {name}: needs name, key and limit, may have give_up, and nothing else"
            )
        if not isinstance(table["limit"], int) or table["limit"] < 2:
            raise ValueError(f"[[blocking]] {name}: limit must be a whole number of at least 2")
        give_up = table.get("give_up", table["limit"])
        if not isinstance(give_up, int) or give_up < table["limit"]:
            raise ValueError(f"[[blocking]] {name}: give_up must be a whole number, not below limit")
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
