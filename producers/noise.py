"""What real systems do to a name, a mailbox, a number and a postal code on their way into a record.

Every function takes clean values as a polars series and one `key` per row (uint64, see draws.py): rows
with the same key are spoiled alike, as an account that was typed once and used for years is. Each rate is the
share of values it strikes.
"""

import json

import numpy as np
import polars as pl

from producers.draws import below, chance, choice, hashes, uniform

# Names
NAME_FORMS = {
    "given surname": 74,
    "given middle-initial surname": 8,
    "surname, given": 6,
    "surname given": 2.5,
    "initial surname": 3.5,
    "title given surname": 3,
    "given surname suffix": 0.5,
    "given middle surname": 2,
    "given": 0.5,
}
NICKNAME_RATE = 0.25  # of those whose given name has one
SECOND_SURNAME_RATE = 0.6  # of those who have one
NAME_TYPO_RATE = 0.03
ACCENTS_DROPPED_RATE = 0.4
UPPER_CASE_RATE = 0.07
LOWER_CASE_RATE = 0.07
STRAY_SPACE_RATE = 0.03
TITLES = [["Mr", "Mr.", "Dr.", "Prof."], ["Ms", "Mrs.", "Dr.", "Prof."]]
SUFFIXES = ["Jr.", "Sr.", "III", "PhD"]

# Mailboxes
EMAIL_TYPO_RATE = 0.01
DOMAIN_TYPO_RATE = 0.006
EMAIL_UPPER_RATE = 0.02
EMAIL_TITLE_RATE = 0.05
PLUS_TAG_RATE = 0.015
GMAIL_DOT_RATE = 0.03
PLUS_TAGS = ["shop", "news", "orders", "promo", "spam", "work"]
DOMAIN_TYPOS = {
    "gmail.com": ["gmial.com", "gmail.co", "gmai.com", "gmail.con"],
    "yahoo.com": ["yaho.com", "yahoo.co", "yhaoo.com", "yahoo.con"],
    "hotmail.com": ["hotmial.com", "hotmail.co", "hotmal.com", "hotmail.con"],
    "outlook.com": ["outlok.com", "outlook.co", "oulook.com", "outlook.con"],
    "icloud.com": ["iclod.com", "icloud.co", "icoud.com", "icloud.con"],
}

# Phones, and postal codes
PHONE_TYPO_RATE = 0.01
EXTENSION_RATE = 0.7  # of numbers that are a company's switchboard
POSTAL_TYPO_RATE = 0.01
ZIP_PLUS_FOUR_RATE = 0.12
LOST_LEADING_ZERO_RATE = 0.15
POSTAL_SPACE_DROPPED_RATE = 0.25

# Values that stand for nothing. The call centre's own number looks like any other.
JUNK_EMAIL_RATE = 0.004
JUNK_PHONE_RATE = 0.005
JUNK_NAME_RATE = 0.003
JUNK_POSTAL_RATE = 0.003
JUNK_EMAILS = ["test@test.com", "noemail@example.com", "n/a", "none@none.com", "asdf@asdf.com", "unknown", ""]
JUNK_PHONES = ["0000000000", "1111111111", "1234567890", "n/a", "999-999-9999", "unknown", "", "555-555-5555"]
JUNK_NAMES = ["Test Test", "n/a", "Unknown", "Guest", "Valued Customer", "."]
JUNK_POSTALS = ["00000", "99999", "n/a", "12345"]
CALL_CENTRE_PHONE = "+1 (312) 847-2200"

NICKNAMES = {
    name: nicknames.split()
    for name, nicknames in (
        line.split(": ")
        for line in """
Robert: Bob Rob Bobby
William: Bill Will Billy
James: Jim Jimmy Jamie
John: Jack Johnny
Michael: Mike Mick
Richard: Rick Dick Rich
Joseph: Joe Joey
Thomas: Tom Tommy
Charles: Charlie Chuck
Christopher: Chris
Daniel: Dan Danny
Matthew: Matt
Anthony: Tony
Steven: Steve
Stephen: Steve
Andrew: Andy Drew
Kenneth: Ken Kenny
Joshua: Josh
Kevin: Kev
Edward: Ed Eddie Ted
Ronald: Ron Ronnie
Timothy: Tim
Jeffrey: Jeff
Gregory: Greg
Nicholas: Nick
Jonathan: Jon
Benjamin: Ben
Samuel: Sam
Patrick: Pat Paddy
Alexander: Alex Sandy
Raymond: Ray
Lawrence: Larry
Douglas: Doug
Zachary: Zach
Peter: Pete
Henry: Harry Hank
Walter: Walt
David: Dave
Donald: Don
Gerald: Gerry Jerry
Phillip: Phil
Frederick: Fred
Bradley: Brad
Nathaniel: Nate
Elizabeth: Liz Beth Betty Lizzie
Jennifer: Jen Jenny
Margaret: Maggie Peggy Meg
Patricia: Pat Trish Patty
Katherine: Kate Kathy Katie
Kathleen: Kathy
Catherine: Cathy Kate
Deborah: Debbie Deb
Barbara: Barb Babs
Susan: Sue Susie
Jessica: Jess
Rebecca: Becky
Pamela: Pam
Christina: Tina Chris
Christine: Chris
Kimberly: Kim
Victoria: Vicky Tori
Jacqueline: Jackie
Samantha: Sam
Cynthia: Cindy
Sandra: Sandy
Amanda: Mandy
Theresa: Terri Tess
Stephanie: Steph
Abigail: Abby
Alexandra: Alex Sandra
Judith: Judy
Dorothy: Dot Dottie
Melissa: Mel
Angela: Angie
Johannes: Hannes Hans
Maximilian: Max
Sebastian: Basti
Friedrich: Fritz
Josef: Sepp
Wolfgang: Wolfi
Katharina: Kathi
Elisabeth: Lisa Elli
Susanne: Susi
Margarete: Grete
Francisco: Paco Pancho
José: Pepe
Ignacio: Nacho
Jesús: Chus
Manuel: Manolo
Rafael: Rafa
Dolores: Lola
Mercedes: Merche
Giuseppe: Beppe Peppe
Francesco: Franco
Giovanni: Gianni
Luigi: Gigi
Antonio: Toni
Katarzyna: Kasia
Małgorzata: Gosia
Aleksandra: Ola
Aleksander: Olek
Stanisław: Staszek
Tomasz: Tomek
Krzysztof: Krzysiek
Cornelis: Cees
Hendrik: Henk
Wilhelmina: Mien
Antônio: Toninho
Frédéric: Fred
Stéphane: Steph
""".strip().splitlines()
    )
}
NEIGHBOURS = {
    letter: row[max(0, at - 1) : at] + row[at + 1 : at + 2]
    for row in ("qwertyuiop", "asdfghjkl", "zxcvbnm", "1234567890")
    for at, letter in enumerate(row)
}


def _kept_or(values: pl.Series, struck: np.ndarray, change) -> pl.Series:
    """`values` with `change(those struck, their row numbers)` in place of the struck ones."""
    rows = np.flatnonzero(struck)
    if not len(rows):
        return values
    return values.clone().scatter(rows, change(values.gather(rows), rows))


def mistyped(values: pl.Series, key: np.ndarray, struck: np.ndarray) -> pl.Series:
    """One slip of the fingers in each struck value: a neighbouring key, a swap, a letter lost or doubled."""

    def slip(texts: pl.Series, rows: np.ndarray) -> pl.Series:
        lengths = texts.str.len_chars().fill_null(0).to_numpy()
        frame = pl.DataFrame(
            {
                "text": texts,
                "at": below(np.maximum(lengths - 1, 1), key[rows], "slip at"),
                "kind": choice([40, 25, 20, 15], key[rows], "slip kind"),
                "side": below(2, key[rows], "slip side"),
            }
        )
        text, at = pl.col("text"), pl.col("at")
        this, following = text.str.slice(at, 1), text.str.slice(at + 1, 1)
        near = this.str.to_lowercase()
        other = (
            pl.when(pl.col("side") == 0)
            .then(near.replace_strict({k: v[0] for k, v in NEIGHBOURS.items()}, default=this))
            .otherwise(near.replace_strict({k: v[-1] for k, v in NEIGHBOURS.items()}, default=this))
        )
        middle = (
            pl.when(pl.col("kind") == 0)
            .then(other + following)
            .when(pl.col("kind") == 1)
            .then(following + this)
            .when(pl.col("kind") == 2)
            .then(following)
            .otherwise(this + this + following)
        )
        return frame.select(text.str.slice(0, at) + middle + text.str.slice(at + 2)).to_series()

    return _kept_or(values, struck, slip)


def _stray_spaces(values: pl.Series, key: np.ndarray) -> pl.Series:
    def spaced(texts: pl.Series, rows: np.ndarray) -> pl.Series:
        frame = pl.DataFrame({"t": texts, "kind": choice([40, 30, 30], key[rows], "space kind")})
        kinds = [" " + pl.col("t"), pl.col("t") + " ", pl.col("t").str.replace(" ", "  ", literal=True)]
        return frame.select(
            pl.when(pl.col("kind") == 0)
            .then(kinds[0])
            .when(pl.col("kind") == 1)
            .then(kinds[1])
            .otherwise(kinds[2])
        ).to_series()

    return _kept_or(values, chance(STRAY_SPACE_RATE, key, "stray space"), spaced)


def _junk(values: pl.Series, key: np.ndarray, rate: float, junk: list[str]) -> pl.Series:
    return _kept_or(
        values,
        chance(rate, key, "junk " + junk[0]) & values.is_not_null().to_numpy(),
        lambda _, rows: pl.Series(junk).gather(below(len(junk), key[rows], "which junk")),
    )


def written_names(clean: pl.DataFrame, key: np.ndarray) -> pl.Series:
    """One string per person's name (given, middle, surname, second_surname, female) as somebody wrote it."""
    nick_first = {name: nicknames[0] for name, nicknames in NICKNAMES.items()}
    nick_last = {name: nicknames[-1] for name, nicknames in NICKNAMES.items()}
    titles = pl.Series(sum(TITLES, []))
    frame = clean.with_columns(
        form=choice(list(NAME_FORMS.values()), key, "name form"),
        nick=chance(NICKNAME_RATE, key, "nickname"),
        nick_side=chance(0.6, key, "which nickname"),
        both=chance(SECOND_SURNAME_RATE, key, "second surname"),
        title=titles.gather(4 * clean["female"].to_numpy() + choice([45, 40, 12, 3], key, "title")),
        suffix=pl.Series(SUFFIXES).gather(below(len(SUFFIXES), key, "suffix")),
    )
    given = pl.col("given")
    frame = frame.with_columns(
        given=pl.when("nick")
        .then(pl.when("nick_side").then(given.replace(nick_first)).otherwise(given.replace(nick_last)))
        .otherwise(given),
        surname=pl.when(pl.col("both") & pl.col("second_surname").is_not_null())
        .then(pl.col("surname") + " " + pl.col("second_surname"))
        .otherwise("surname"),
    )
    given, surname, middle = pl.col("given"), pl.col("surname"), pl.col("middle")
    forms = {
        "given surname": given + " " + surname,
        "given middle-initial surname": given + " " + middle.str.slice(0, 1) + ". " + surname,
        "surname, given": surname + ", " + given,
        "surname given": surname + " " + given,
        "initial surname": given.str.slice(0, 1) + ". " + surname,
        "title given surname": pl.col("title") + " " + given + " " + surname,
        "given surname suffix": given + " " + surname + " " + pl.col("suffix"),
        "given middle surname": given + " " + middle + " " + surname,
        "given": given,
    }
    written = frame.select(
        pl.coalesce([pl.when(pl.col("form") == i).then(forms[form]) for i, form in enumerate(NAME_FORMS)])
    ).to_series()
    written = _kept_or(
        written, chance(ACCENTS_DROPPED_RATE, key, "accents"), lambda texts, _: without_accents(texts)
    )
    written = mistyped(written, key, chance(NAME_TYPO_RATE, key, "name typo"))
    case = uniform(key, "name case")
    written = _kept_or(written, case < UPPER_CASE_RATE, lambda texts, _: texts.str.to_uppercase())
    written = _kept_or(written, case > 1 - LOWER_CASE_RATE, lambda texts, _: texts.str.to_lowercase())
    return _junk(_stray_spaces(written, key), key, JUNK_NAME_RATE, JUNK_NAMES)


def without_accents(texts: pl.Series) -> pl.Series:
    """'Müller' as 'Muller': what a form without Unicode leaves."""
    return (
        texts.str.normalize("NFD")
        .str.replace_all(r"\p{M}", "")
        .str.replace_many(["ł", "Ł", "ß", "ø", "Ø"], ["l", "L", "ss", "o", "O"])
    )


def written_emails(clean: pl.Series, key: np.ndarray) -> pl.Series:
    """Mailboxes as typed: case, plus tags, dots at gmail, slips, mistaken domains, junk."""
    tags = pl.Series(PLUS_TAGS)
    written = _kept_or(
        clean,
        chance(PLUS_TAG_RATE, key, "plus tag"),
        lambda texts, rows: (
            pl.DataFrame({"t": texts, "tag": tags.gather(below(len(tags), key[rows], "which tag"))})
            .select(pl.col("t").str.replace("@", "+" + pl.col("tag") + "@", literal=True))
            .to_series()
        ),
    )
    at_gmail = written.str.ends_with("@gmail.com").to_numpy()
    written = _kept_or(
        written,
        chance(GMAIL_DOT_RATE, key, "gmail dots") & at_gmail,
        lambda texts, _: texts.str.replace(r"^(\w{2})(\w)", "${1}.${2}"),
    )
    written = mistyped(written, key, chance(EMAIL_TYPO_RATE, key, "email typo"))
    written = _kept_or(
        written,
        chance(DOMAIN_TYPO_RATE, key, "domain typo"),
        lambda texts, rows: _mistaken_domains(texts, below(4, key[rows], "which domain typo")),
    )
    case = uniform(key, "email case")
    written = _kept_or(written, case < EMAIL_UPPER_RATE, lambda texts, _: texts.str.to_uppercase())
    written = _kept_or(written, case > 1 - EMAIL_TITLE_RATE, lambda texts, _: texts.str.to_titlecase())
    return _junk(_stray_spaces(written, key), key, JUNK_EMAIL_RATE, JUNK_EMAILS)


def _mistaken_domains(texts: pl.Series, which: np.ndarray) -> pl.Series:
    frame = pl.DataFrame({"t": texts, "which": which})
    mistaken = [
        pl.col("t").str.replace_many(
            ["@" + domain for domain in DOMAIN_TYPOS],
            ["@" + typos[number] for typos in DOMAIN_TYPOS.values()],
        )
        for number in range(4)
    ]
    return frame.select(
        pl.coalesce([pl.when(pl.col("which") == number).then(mistaken[number]) for number in range(4)])
    ).to_series()


def written_phones(numbers: pl.DataFrame, switchboard: np.ndarray, key: np.ndarray) -> pl.Series:
    """Numbers (country, calling_code, prefix, subscriber) in the ways people write them.

    American numbers with and without the country's code, all others with it.
    """
    frame = numbers.with_columns(
        style=choice([22, 20, 8, 18, 8, 8, 4, 6, 6], key, "phone style"),
        foreign=choice([30, 30, 12, 12, 8, 8], key, "foreign phone style"),
        trunk=pl.Series(np.isin(numbers["country"].to_numpy(), [1, 2, 3, 7])),
    )
    area, office = pl.col("prefix"), pl.col("subscriber").str.slice(0, 3)
    line, code, rest = pl.col("subscriber").str.slice(3), "+" + pl.col("calling_code"), pl.col("subscriber")
    american = [
        "(" + area + ") " + office + "-" + line,
        area + "-" + office + "-" + line,
        area + "." + office + "." + line,
        area + office + line,
        "+1 " + area + " " + office + " " + line,
        "+1" + area + office + line,
        "1-" + area + "-" + office + "-" + line,
        "+1 (" + area + ") " + office + "-" + line,
        area + " " + office + " " + line,
    ]
    foreign = [
        code + " " + area + " " + office + " " + line,
        code + area + rest,
        code + " " + area + " " + rest,
        code + "-" + area + "-" + office + "-" + line,
        code + "." + area + "." + rest,
        pl.when("trunk").then(code + " (0) " + area + " " + rest).otherwise(code + " (" + area + ") " + rest),
    ]
    written = frame.select(
        pl.when(pl.col("country") == 0)
        .then(pl.coalesce([pl.when(pl.col("style") == i).then(style) for i, style in enumerate(american)]))
        .otherwise(
            pl.coalesce([pl.when(pl.col("foreign") == i).then(style) for i, style in enumerate(foreign)])
        )
    ).to_series()
    written = _kept_or(
        written,
        switchboard & chance(EXTENSION_RATE, key, "extension"),
        lambda texts, rows: (
            texts
            + pl.Series([" ext. ", " x", " ext "]).gather(below(3, key[rows], "extension style"))
            + pl.Series(10 + below(90, key[rows], "extension number")).cast(pl.String)
        ),
    )
    written = mistyped(written, key, chance(PHONE_TYPO_RATE, key, "phone typo"))
    return _junk(written, key, JUNK_PHONE_RATE, JUNK_PHONES)


def with_call_centre(phones: pl.Series, event: np.ndarray, share: float) -> pl.Series:
    """The call centre's own number on a share of all records, whatever stood there."""
    return _kept_or(
        phones,
        chance(share, event, "call centre's number"),
        lambda _, rows: pl.repeat(CALL_CENTRE_PHONE, len(rows), eager=True),
    )


def written_postal_codes(clean: pl.Series, key: np.ndarray) -> pl.Series:
    """Postal codes as typed: ZIP+4, lost leading zeros, dropped spaces, slips, junk."""
    five = clean.str.contains(r"^\d{5}$").to_numpy()
    written = _kept_or(
        clean,
        five & chance(ZIP_PLUS_FOUR_RATE, key, "zip plus four"),
        lambda texts, rows: (
            texts + "-" + pl.Series(1000 + below(9000, key[rows], "plus four")).cast(pl.String)
        ),
    )
    written = _kept_or(
        written,
        five & chance(LOST_LEADING_ZERO_RATE, key, "leading zero"),
        lambda texts, _: texts.str.strip_chars_start("0"),
    )
    written = _kept_or(
        written,
        chance(POSTAL_SPACE_DROPPED_RATE, key, "postal space"),
        lambda texts, _: texts.str.replace(" ", "", literal=True),
    )
    written = mistyped(written, key, chance(POSTAL_TYPO_RATE, key, "postal typo"))
    return _junk(written, key, JUNK_POSTAL_RATE, JUNK_POSTALS)


BROKEN_KINDS = (
    "torn",
    "no id",
    "empty id",
    "email number",
    "email list",
    "array",
    "number",
    "not utf-8",
    "not json",
)


def broken_line(number: int, whole: bytes, id_field: str, email_field: str) -> bytes:
    """A line that cannot be read, made from a good one: each number has its own way of being broken.

    Its record id, where it has one, is no record's: the good line stands elsewhere, whole.
    """
    record = json.loads(whole)
    record[id_field] = "X" + record[id_field][1:]
    kind = BROKEN_KINDS[int(hashes(number, "broken kind")[0] % np.uint64(len(BROKEN_KINDS)))]
    if kind == "no id":
        del record[id_field]
    elif kind == "empty id":
        record[id_field] = ""
    elif kind == "email number":
        record[email_field] = number % 100_000
    elif kind == "email list":
        record[email_field] = [record[email_field], "second@example.com"]
    line = json.dumps(record, ensure_ascii=False).encode()
    if kind == "torn":
        return line[: len(line) * 2 // 3]
    if kind == "array":
        return b"[" + line + b"]"
    if kind == "number":
        return b"%d" % (number % 1_000_000)
    if kind == "not utf-8":
        return line[:-2] + b"\xff\xfe" + line[-2:]
    if kind == "not json":
        return line.replace(b'"', b"'")
    return line
