"""The people behind the demo's records, and their life.

Everything about a person is a pure function of (seed, person, day): nothing is stored, any part of the
population can be looked at alone, and it has no size of its own. People are numbered from 0; each eight
neighbours are shared out over households. A household has a city, a postal code, sometimes a fixed line and
a shared mailbox; a person has a name, mailboxes and mobile numbers, and some have an employer with a
switchboard. In the course of the days people change mailboxes and numbers, and households move.

The names are those of Faker's lists, with their weights where they have them, else falling with the rank
(Zipf 1949). Days are whole numbers: days since 2026-01-01, negative before it.
"""

import unicodedata
from dataclasses import dataclass
from functools import cache
from importlib import import_module

import numpy as np
import polars as pl

from producers.draws import below, chance, choice, hashes, uniform
from producers.places import COUNTRIES, FIXED_DIGITS, read_cities

HOUSEHOLD_BLOCK = 8
# How eight neighbours live: the size of each household, and how often that pattern is met.
HOUSEHOLD_PATTERNS = {
    (1, 1, 1, 1, 1, 1, 1, 1): 0.20,
    (1, 1, 1, 1, 1, 1, 2): 0.25,
    (1, 1, 1, 1, 2, 2): 0.20,
    (1, 1, 2, 4): 0.12,
    (1, 1, 1, 2, 3): 0.15,
    (2, 2, 4): 0.05,
    (3, 5): 0.03,
}
OWN_SURNAME_RATE = 0.25  # members of a household who do not bear its name
FIXED_LINE_RATE = 0.45  # households with a telephone of their own
SHARED_MAILBOX_RATE = 0.12  # households with a mailbox for all
EMPLOYED_RATE = 0.20  # people whose employer's number and mailbox turn up
EMPLOYERS = 20_000
DAYS_BETWEEN_NEW_EMAILS = 400
DAYS_BETWEEN_NEW_MOBILES = 500
DAYS_BETWEEN_MOVES = 600
SAME_LOCAL_PART_RATE = 0.4  # new mailboxes that keep the local part at another provider
WORDY_MAILBOX_RATE = 0.07  # mailboxes that do not tell the owner's name

# Mailboxes and phones a person can be reached by.
PERSONAL, SECOND, WORK, SHARED = range(4)
MOBILE, SECOND_MOBILE, FIXED, SWITCHBOARD = range(4)

# Where the families of a country come from: Faker's locales and their shares.
ORIGINS = {
    "US": {
        "en_US": 0.46,
        "en_IE": 0.11,
        "es_ES": 0.13,
        "de_DE": 0.08,
        "it_IT": 0.07,
        "pl_PL": 0.05,
        "en_GB": 0.04,
        "fr_FR": 0.03,
        "nl_NL": 0.02,
        "pt_BR": 0.01,
    },
    "GB": {"en_GB": 0.82, "en_IE": 0.12, "pl_PL": 0.03, "it_IT": 0.03},
    "DE": {"de_DE": 0.90, "pl_PL": 0.07, "it_IT": 0.03},
    "FR": {"fr_FR": 0.88, "pt_BR": 0.05, "it_IT": 0.04, "es_ES": 0.03},
    "ES": {"es_ES": 1.0},
    "IT": {"it_IT": 1.0},
    "PL": {"pl_PL": 1.0},
    "NL": {"nl_NL": 0.92, "de_DE": 0.08},
    "BR": {"pt_BR": 0.80, "it_IT": 0.12, "de_DE": 0.08},
}
HOME_LOCALE = {"US": "en_US", "GB": "en_GB", "DE": "de_DE", "FR": "fr_FR", "ES": "es_ES", "IT": "it_IT"}
HOME_LOCALE |= {"PL": "pl_PL", "NL": "nl_NL", "BR": "pt_BR"}
LOCALES = ["en_US", "en_GB", "en_IE", "de_DE", "fr_FR", "es_ES", "it_IT", "pl_PL", "nl_NL", "pt_BR"]
# Given names of the country people live in, rather than of the family's origin.
ASSIMILATED_RATE = 0.8

# Faker's person providers that serve for a locale, the most telling first (ranked or weighted lists).
GIVEN_NAME_LISTS = {"de_DE": ["de_CH"], "nl_NL": ["nl_BE"], "pt_BR": ["pt_BR", "pt_PT"]}
SURNAME_LISTS = {
    "de_DE": ["de_DE", "de_AT"],
    "fr_FR": ["fr_FR", "fr_CA"],
    "es_ES": ["es_ES", "es_MX"],
    "nl_NL": ["nl_BE", "nl_NL"],
    "pt_BR": ["pt_BR", "pt_PT"],
}

MAILBOX_PROVIDERS = {
    "": {  # everywhere
        "gmail.com": 42,
        "yahoo.com": 12,
        "hotmail.com": 10,
        "outlook.com": 10,
        "icloud.com": 9,
        "aol.com": 4,
        "live.com": 2,
        "msn.com": 2,
        "protonmail.com": 2,
        "me.com": 1,
    },
    "US": {"comcast.net": 3, "verizon.net": 2, "att.net": 2, "sbcglobal.net": 1},
    "GB": {"btinternet.com": 15, "hotmail.co.uk": 15, "sky.com": 6, "talktalk.net": 3},
    "DE": {"gmx.de": 40, "web.de": 40, "t-online.de": 25, "freenet.de": 6},
    "FR": {"orange.fr": 35, "free.fr": 25, "laposte.net": 15, "sfr.fr": 10},
    "ES": {"hotmail.es": 20, "yahoo.es": 12, "telefonica.net": 4},
    "IT": {"libero.it": 40, "virgilio.it": 12, "tiscali.it": 10, "alice.it": 10},
    "PL": {"wp.pl": 45, "onet.pl": 25, "o2.pl": 20, "interia.pl": 15},
    "NL": {"ziggo.nl": 20, "kpnmail.nl": 12, "planet.nl": 8, "hetnet.nl": 6},
    "BR": {"uol.com.br": 15, "bol.com.br": 10, "terra.com.br": 6},
}
_WORDS = """
    sunny river moon star blue tiger happy coffee music garden ocean pixel rocket panda maple silver
    storm eagle sugar lucky dancer runner hiker gamer photo artist baker cyclist dragon falcon ginger
    honey indigo jazz koala lemon mango noodle olive peach quilt rusty shadow tulip velvet willow zebra
"""
MAILBOX_WORDS = _WORDS.split()
EMPLOYER_SUFFIXES = ["group", "consulting", "tech", "logistics", "partners", "foods", "design", "health"]
# A mailbox gets so many digits that about this many people of a million would have wanted the same.
MAILBOX_CROWDING = 0.02


@dataclass(frozen=True)
class NameTable:
    """Names of all locales, each group's cumulative shares lifted by the group's number."""

    text: pl.Series
    folded: pl.Series  # lower-case ASCII letters only, as in mailboxes
    feminine: pl.Series
    share: np.ndarray
    cumulative: np.ndarray

    def draw(self, group: np.ndarray, u: np.ndarray) -> np.ndarray:
        """The index of the name at quantile `u` of each group."""
        return np.minimum(np.searchsorted(self.cumulative, group + u, side="right"), len(self.share) - 1)


def ascii_letters(text: str) -> str:
    """A name as it stands in a mailbox: 'Müller-Lüdenscheidt' gives 'mullerludenscheidt'."""
    special = str.maketrans(
        {"ß": "ss", "ł": "l", "Ł": "l", "ø": "o", "Ø": "o", "æ": "ae", "Æ": "ae", "đ": "d"}
    )
    letters = unicodedata.normalize("NFKD", text.translate(special)).encode("ascii", "ignore").decode()
    return "".join(letter for letter in letters.lower() if letter.isalpha())


def _ranked(names: list | tuple | dict, exponent: float) -> dict[str, float]:
    """A provider's list with a weight for each name: its own, or falling with the rank.

    An alphabetical list says nothing about frequency; its ranks are settled by a hash of the name.
    """
    if hasattr(names, "items"):
        return dict(names)
    ordered = list(dict.fromkeys(names))
    if ordered[:20] == sorted(ordered[:20]):
        order = np.argsort(np.array([int(hashes(0, "rank " + name)[0]) for name in ordered], dtype=np.uint64))
        ordered = [ordered[place] for place in order]
    return {name: (rank + 3.0) ** -exponent for rank, name in enumerate(ordered)}


def _merged(lists: list[dict[str, float]]) -> dict[str, float]:
    """Several lists as one: the first as it is, each later one's new names in its tail."""
    merged = dict(lists[0])
    for names in lists[1:]:
        scale = 0.5 * sum(lists[0].values()) / sum(names.values())
        merged |= {name: weight * scale for name, weight in names.items() if name not in merged}
    return merged


def _provider(locale: str) -> type:
    return import_module(f"faker.providers.person.{locale}").Provider


def _given_names(locale: str, sex: str) -> dict[str, float]:
    lists = [
        getattr(_provider(source), f"first_names_{sex}") for source in GIVEN_NAME_LISTS.get(locale, [locale])
    ]
    return _merged([_ranked(names, 0.9) for names in lists])


def _surnames(locale: str) -> dict[str, float]:
    if locale == "pl_PL":
        provider = _provider(locale)
        return _merged([_ranked(provider.male_last_names, 0.8), _ranked(provider.unisex_last_names, 0.6)])
    return _merged(
        [_ranked(_provider(source).last_names, 0.75) for source in SURNAME_LISTS.get(locale, [locale])]
    )


def _feminine(surname: str, locale: str) -> str:
    return surname[:-1] + "a" if locale == "pl_PL" and surname.endswith(("ski", "cki", "dzki")) else surname


def _table(groups: list[tuple[dict[str, float], str]]) -> NameTable:
    text = [name for names, _ in groups for name in names]
    shares = [np.array(list(names.values())) / sum(names.values()) for names, _ in groups]
    return NameTable(
        text=pl.Series(text),
        folded=pl.Series([ascii_letters(name) for name in text]),
        feminine=pl.Series([_feminine(name, locale) for names, locale in groups for name in names]),
        share=np.concatenate(shares),
        cumulative=np.concatenate([number + np.cumsum(share) for number, share in enumerate(shares)]),
    )


@cache
def given_names() -> NameTable:
    """Groups: two per locale, male before female."""
    return _table([(_given_names(locale, sex), locale) for locale in LOCALES for sex in ("male", "female")])


@cache
def surnames() -> NameTable:
    """Groups: one per locale."""
    return _table([(_surnames(locale), locale) for locale in LOCALES])


@cache
def _cities():
    return read_cities()


@cache
def _household_heads() -> np.ndarray:
    """Per pattern and neighbour (8): the neighbour who is the head of his household."""
    heads = [np.repeat(np.cumsum([0, *pattern[:-1]]), pattern) for pattern in HOUSEHOLD_PATTERNS]
    return np.array(heads)


def version(days_between: int, seed, stream: str, who: np.ndarray, day: np.ndarray) -> np.ndarray:
    """How often something has changed by `day`, each person (or household) with a phase of their own."""
    return np.floor(day / days_between + uniform(seed, stream, who)).astype(np.int64)


def households(seed, person: np.ndarray) -> np.ndarray:
    """The number of each person's household: that of its head."""
    block = person // HOUSEHOLD_BLOCK
    pattern = choice(list(HOUSEHOLD_PATTERNS.values()), seed, "household pattern", block)
    return block * HOUSEHOLD_BLOCK + _household_heads()[pattern, person % HOUSEHOLD_BLOCK]


def person_ids(seed, person: np.ndarray) -> pl.Series:
    """An opaque id per person: 16 hexadecimal digits."""
    raw = hashes(seed, "person id", person).astype(">u8").tobytes().hex()
    return pl.Series([raw[at : at + 16] for at in range(0, len(raw), 16)], dtype=pl.String)


@dataclass(frozen=True)
class People:
    """Parallel arrays, one element per asked (seed, person, day)."""

    seed: np.ndarray
    person: np.ndarray
    day: np.ndarray
    household: np.ndarray
    country: np.ndarray  # index into COUNTRIES
    home_city: np.ndarray  # where they lived first: the area code of their numbers
    female: np.ndarray
    given: np.ndarray  # index into given_names()
    surname: np.ndarray  # index into surnames()
    second_surname: np.ndarray  # the same, -1 where there is none
    middle: np.ndarray  # index into given_names()
    employer: np.ndarray  # -1 where there is none

    def names(self) -> pl.DataFrame:
        """given, middle, surname, second_surname (null where none), female."""
        given, family = given_names(), surnames()
        surname = family.text.gather(self.surname)
        feminine = family.feminine.gather(self.surname)
        second = family.text.gather(np.maximum(self.second_surname, 0))
        frame = pl.DataFrame(
            {
                "given": given.text.gather(self.given),
                "middle": given.text.gather(self.middle),
                "surname": surname,
                "feminine": feminine,
                "second_surname": second,
                "has_second": self.second_surname >= 0,
                "female": self.female,
            }
        )
        return frame.select(
            "given",
            "middle",
            "female",
            surname=pl.when("female").then("feminine").otherwise("surname"),
            second_surname=pl.when("has_second").then("second_surname"),
        )

    def can_use_mailbox(self) -> tuple[np.ndarray, np.ndarray]:
        """Whether each has a work mailbox; whether the household has a shared one."""
        return self.employer >= 0, chance(SHARED_MAILBOX_RATE, self.seed, "shared mailbox", self.household)

    def has_fixed_line(self) -> np.ndarray:
        return chance(FIXED_LINE_RATE, self.seed, "fixed line", self.household)

    def emails(self, kind: np.ndarray) -> pl.Series:
        """The mailbox of the asked kind (PERSONAL, SECOND, WORK, SHARED), as its owner would write it."""
        seed, family = self.seed, surnames()
        shared = kind == SHARED
        owner = np.where(shared, self.household, self.person)
        changed = version(DAYS_BETWEEN_NEW_EMAILS, seed, "new email", owner, self.day)
        changed = np.where((kind == PERSONAL), changed, 0)
        box = hashes(seed, "mailbox", owner, kind, changed)
        keeps = chance(SAME_LOCAL_PART_RATE, seed, "same local part", owner)
        local = np.where(keeps, hashes(seed, "mailbox", owner, kind, 0), box)

        style = choice([24, 14, 8, 10, 10, 14, 6, 7], local, "mailbox style")
        style = np.where(chance(WORDY_MAILBOX_RATE, local, "wordy"), 8, style)
        style = np.where(kind == WORK, choice([70, 30], self.employer, "employer's mailbox style"), style)
        style = np.where(shared, 9, style)
        household_surname = _household_surname(self.seed, self.household, self.country)[0]
        surname = np.where(shared, household_surname, self.surname)

        wanted = 1e6 * given_names().share[self.given] * family.share[surname] / 10
        wanted = np.where(shared | (style == 8), 3e3, wanted)
        digits = np.clip(np.ceil(np.log10(wanted / MAILBOX_CROWDING)), 0, 6).astype(np.int64)
        digits = np.where((digits < 2) & chance(0.35, local, "digits all the same"), 2, digits)
        digits = np.where((kind == WORK), np.where(digits > 3, 1, 0), digits)
        number = below(10.0**digits, local, "mailbox digits")

        words = pl.Series(MAILBOX_WORDS)
        frame = pl.DataFrame(
            {
                "g": given_names().folded.gather(self.given),
                "s": family.folded.gather(surname),
                "a": words.gather(below(len(words), local, "first word")),
                "b": words.gather(below(len(words), local, "second word")),
                "style": style,
                "number": pl.Series(number).cast(pl.String),
                "digits": digits,
                "domain": self._domains(kind, box),
            }
        )
        g, s, initial = pl.col("g"), pl.col("s"), pl.col("g").str.slice(0, 1)
        styles = [
            g + "." + s,
            initial + s,
            initial + "." + s,
            g + "_" + s,
            s + "." + g,
            g + s,
            s + g,
            g + s.str.slice(0, 1),
            pl.col("a") + pl.col("b"),
            pl.when(pl.col("number").str.len_bytes() % 2 == 0).then(s + "family").otherwise("the" + s + "s"),
        ]
        local_part = pl.coalesce([pl.when(pl.col("style") == i).then(styles[i]) for i in range(len(styles))])
        number_text = pl.when(pl.col("digits") > 0).then("number").otherwise(pl.lit(""))
        return frame.select(email=local_part + number_text + "@" + pl.col("domain")).to_series()

    def _domains(self, kind: np.ndarray, box: np.ndarray) -> pl.Series:
        """Each mailbox's provider, or the employer's own domain."""
        names, first, cumulative = _providers()
        at = np.searchsorted(cumulative, self.country + uniform(box, "provider"), side="right")
        public = names.gather(np.minimum(at, first[self.country + 1] - 1))
        family = surnames()
        owner = np.maximum(self.employer, 0)
        suffix = pl.Series(EMPLOYER_SUFFIXES).gather(owner % len(EMPLOYER_SUFFIXES))
        own = family.folded.gather((owner // len(EMPLOYER_SUFFIXES) * 7) % len(family.folded))
        frame = pl.DataFrame({"public": public, "own": own, "suffix": suffix, "work": kind == WORK})
        return frame.select(
            pl.when("work").then(pl.col("own") + "-" + pl.col("suffix") + ".com").otherwise("public")
        ).to_series()

    def phones(self, kind: np.ndarray) -> pl.DataFrame:
        """calling_code, prefix, subscriber, country of the asked kind of number; digits as text."""
        seed = self.seed
        owner = np.select([kind == FIXED, kind == SWITCHBOARD], [self.household, self.employer], self.person)
        moved = _city(seed, self.household, self.country, self.day)
        city = np.where(kind == FIXED, moved, self.home_city)
        office = choice(np.ones(_cities().first[1]), seed, "employer's city", self.employer)
        city = np.where(kind == SWITCHBOARD, office, city)
        country = np.where(kind == SWITCHBOARD, 0, self.country)
        changed = np.where(
            kind == FIXED,
            version(DAYS_BETWEEN_MOVES, seed, "move", self.household, self.day),
            version(DAYS_BETWEEN_NEW_MOBILES, seed, "new mobile", self.person, self.day),
        )
        changed = np.where(kind == SWITCHBOARD, 0, changed)
        line = hashes(seed, "line", owner, kind, changed)

        prefixes, first, digits = _phone_prefixes()
        fixed = (kind == FIXED) | (kind == SWITCHBOARD)
        row = np.where(fixed, city, len(_cities().name) + country)
        row = np.where(~fixed & (first[row + 1] == first[row]), city, row)
        slot = first[row] + below(first[row + 1] - first[row], line, "prefix")
        prefix = prefixes.gather(slot)
        # An affine map sends each owner to a number of their own: two meet only where a number was given
        # out again. 3141592653 shares no factor with a power of ten or with eight million.
        room = np.where(country == 0, 8_000_000, 10 ** digits[slot])
        offset = below(10_000_000, seed, "numbering", kind, changed)
        number = (owner * 3_141_592_653 + offset) % room + np.where(country == 0, 2_000_000, 0)
        brazil = country == list(COUNTRIES).index("BR")
        lead = pl.Series(np.where(brazil, np.where(fixed, "3", "99"), ""))
        frame = pl.DataFrame(
            {
                "prefix": prefix,
                "lead": lead,
                "number": pl.Series(number).cast(pl.String),
                "digits": digits[slot],
                "country": country,
            }
        )
        codes = pl.Series([entry[1] for entry in COUNTRIES.values()])
        padded = ("00000000" + pl.col("number")).str.tail(pl.col("digits"))
        return frame.select(
            "country",
            "prefix",
            calling_code=codes.gather(country),
            subscriber=pl.col("lead") + padded,
        )

    def cities(self) -> pl.Series:
        """The city each lives in on the day."""
        return pl.Series(_cities().name[_city(self.seed, self.household, self.country, self.day)].tolist())

    def postal_codes(self) -> pl.Series:
        """The postal code each lives in on the day."""
        seed = self.seed
        moves = version(DAYS_BETWEEN_MOVES, seed, "move", self.household, self.day)
        place = hashes(seed, "postal code", self.household, moves)
        prefixes, first = _postal_prefixes()
        row = _city(seed, self.household, self.country, self.day)
        prefix = prefixes.gather(first[row] + below(first[row + 1] - first[row], place, "prefix"))
        digits = pl.Series(below(1000, place, "digits")).cast(pl.String).str.zfill(3)
        letters = pl.Series(
            ["ABDEFGHJLNPQRSTUWXYZ"[i] + "ABDEFGHJLNPQRSTUWXYZ"[j] for i in range(20) for j in range(20)]
        )
        frame = pl.DataFrame(
            {
                "p": prefix,
                "n": digits,
                "l": letters.gather(below(400, place, "letters")),
                "country": self.country,
            }
        )
        n, letter = pl.col("n"), pl.col("l")
        patterns = {
            "##": n.str.slice(0, 2),
            "###": n,
            "-###": "-" + n,
            "##-###": n.str.slice(0, 2) + "-" + n.str.reverse(),
            " #@@": " " + n.str.slice(0, 1) + letter,
            "# @@": n.str.slice(0, 1) + " " + letter,
        }
        rest = pl.coalesce(
            [
                pl.when(pl.col("country") == number).then(patterns[entry[4]])
                for number, entry in enumerate(COUNTRIES.values())
            ]
        )
        return frame.select(pl.col("p") + rest).to_series()


def people(seed, person: np.ndarray, day: np.ndarray) -> People:
    """Who each asked person is on each asked day; `seed` is one number or one per element."""
    seed = np.broadcast_to(np.asarray(seed, dtype=np.uint64), person.shape)
    household = households(seed, person)
    country = choice([entry[0] for entry in COUNTRIES.values()], seed, "country", household)
    family, origin, second = _household_surname(seed, household, country)
    own, own_origin, own_second = _household_surname(seed, person + (1 << 40), country)
    bears_own = (person != household) & chance(OWN_SURNAME_RATE, seed, "own surname", person)
    origin = np.where(bears_own, own_origin, origin)
    home = np.array([LOCALES.index(HOME_LOCALE[code]) for code in COUNTRIES])[country]
    female = chance(0.5, seed, "sex", person)
    tongue = np.where(chance(ASSIMILATED_RATE, seed, "tongue", person), home, origin)
    given = given_names()
    employed = chance(EMPLOYED_RATE, seed, "employed", person) & (country == 0)
    return People(
        seed=seed,
        person=person,
        day=day,
        household=household,
        country=country,
        home_city=_city(seed, household, country, np.full(day.shape, -10_000)),
        female=female,
        given=given.draw(tongue * 2 + female, uniform(seed, "given name", person)),
        surname=np.where(bears_own, own, family),
        second_surname=np.where(bears_own, own_second, second),
        middle=given.draw(tongue * 2 + female, uniform(seed, "middle name", person)),
        employer=np.where(
            employed, (EMPLOYERS * uniform(seed, "employer", person) ** 1.5).astype(np.int64), -1
        ),
    )


def _household_surname(
    seed, household: np.ndarray, country: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Indices of the family's surname, its origin's locale, and its second surname (-1: none)."""
    shares = np.array([[ORIGINS[code].get(locale, 0.0) for locale in LOCALES] for code in COUNTRIES])
    cumulative = np.cumsum(shares, axis=1)
    u = uniform(seed, "origin", household)
    origin = (u[:, None] >= cumulative[country]).sum(axis=1)
    origin = np.minimum(origin, len(LOCALES) - 1)
    table = surnames()
    surname = table.draw(origin, uniform(seed, "surname", household))
    second = table.draw(origin, uniform(seed, "second surname", household))
    spanish = (country == list(COUNTRIES).index("ES")) | (country == list(COUNTRIES).index("BR"))
    return surname, origin, np.where(spanish, second, -1)


def _city(seed, household: np.ndarray, country: np.ndarray, day: np.ndarray) -> np.ndarray:
    """Index of the city a household lives in; every other move stays in the city."""
    moves = version(DAYS_BETWEEN_MOVES, seed, "move", household, day) // 2
    cities = _cities()
    at = np.searchsorted(cities.cumulative, country + uniform(seed, "city", household, moves), side="right")
    return np.minimum(at, cities.first[country + 1] - 1)


@cache
def _providers() -> tuple[pl.Series, np.ndarray, np.ndarray]:
    """Mailbox providers of all countries: names, each country's first, lifted cumulative shares."""
    names, first, cumulative = [], [0], []
    for number, code in enumerate(COUNTRIES):
        shares = MAILBOX_PROVIDERS[""] | MAILBOX_PROVIDERS[code]
        names += list(shares)
        first.append(len(names))
        cumulative.append(number + np.cumsum(list(shares.values())) / sum(shares.values()))
    return pl.Series(names), np.array(first), np.concatenate(cumulative)


def _flat(lists: list[list[str]]) -> tuple[pl.Series, np.ndarray]:
    """Lists as one series, and where each begins (with the end of the last)."""
    return pl.Series([item for items in lists for item in items]), np.cumsum([0, *map(len, lists)])


@cache
def _postal_prefixes() -> tuple[pl.Series, np.ndarray]:
    return _flat(_cities().postal)


@cache
def _phone_prefixes() -> tuple[pl.Series, np.ndarray, np.ndarray]:
    """Prefixes of each city's fixed lines, then of each country's mobiles: text, first, subscriber digits."""
    codes = list(COUNTRIES)
    cities = _cities()
    mobiles = [entry[2].split() for entry in COUNTRIES.values()]
    prefixes, first = _flat(cities.fixed + mobiles)
    digits = [
        FIXED_DIGITS.get((codes[country], len(prefix)), 7)
        for country, fixed in zip(cities.country, cities.fixed, strict=True)
        for prefix in fixed
    ] + [entry[3] for entry in COUNTRIES.values() for _ in entry[2].split()]
    return prefixes, first, np.array(digits)
