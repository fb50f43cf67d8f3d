"""Names of persons: a form to show, and given and family name in a form to match.

1. Text that is no name (a placeholder, an address, markup) gets its reason.
2. Names of plain words and initials are split at once: the last word is the family name. So are plain words
   before and after one comma.
3. The others go through the rewrites below, in order: nicknames in brackets, titles, degrees and peerage go,
   what order the names stand in is settled, particles join the family name.
4. Parts that a source delivers apart win over what the full name was split into; the full name fills gaps.
"""

import polars as pl

from .text import VALUE, WORDS, any_of, applied, by_distinct, clean, fold, on_rows

NAMES = WORDS["names"]
PLACEHOLDERS = WORDS["placeholders"]
GENERATIONS = WORDS["generations"]
LONGEST_NAME = 150


def _abbreviated(words: list[str]) -> str:
    """A group of abbreviations as they are written: "rer nat" also as "rer. nat" and "rer.nat"."""
    return any_of(sorted({*words, *fold(pl.Series(words))})).replace(" ", r"\.? ?")


def _group(*lists: list[str]) -> str:
    """A group of words as they are written in names: with accents or without, points between them or not."""
    words = sorted({word for words in lists for word in words})
    words = sorted({*words, *(word for word in fold(pl.Series(words)) if len(word) > 1)})
    return any_of(words).replace(r"\ ", " ").replace(" ", r"\.? ")


ORDINAL = r"(?:[0-9]{1,2}(?:st|nd|rd|th))"
TITLE = _group(NAMES["titles"])
TITLE_WITH_POINT = any_of(NAMES["titles_with_point"])
TITLES = rf"(?:(?:{TITLE}(?:\.? *[&/+,] *|\. *| +(?:and +|und +|et +|y +|e +)?)|{TITLE_WITH_POINT} *))+"
# Dr. med. dent., Prof. Dr. h.c. mult.; not Dr. H. C. Andersen, Dr. Nat Cole
FIELD = (
    rf"(?:{_abbreviated(NAMES['fields'] + NAMES['fields_with_point'])}\."
    rf"|(?-i:{_abbreviated(NAMES['fields'])}|h\. ?c|hc)\b)"
)
DEGREE = (
    rf"(^|[ ,])(?:(?:dr|prof|mag\.)(?:(?:\.[ /-]*|[ /-]+){FIELD})+"
    rf"|dipl(?:\.?-\p{{L}}+|\.? ?{_abbreviated(NAMES['diplomas'])}\b)(?:\.?-\p{{L}}+)*|univ\.?[ -]+prof\b)\.?"
)
FAMILY_NAME_TITLE = _group(
    [title for title in NAMES["titles"] if title not in NAMES["titles_of_given_names"]]
)
FAMILY_NAME_TITLE_WITH_POINT = any_of(
    [title for title in NAMES["titles_with_point"] if title not in NAMES["titles_of_given_names"]]
)
AMBIGUOUS_TITLE = any_of(NAMES["titles_before_two_names"])
TRAILING_TITLE = any_of(NAMES["trailing_titles"])
GENERATION = any_of(list(GENERATIONS))
# A degree is written with points or without.
SUFFIX = (
    "(?:"
    + "|".join(r"\.? ?".join(word) if word == "phd" else r"\.?".join(word) for word in NAMES["suffixes"])
    + ")"
)
SUFFIX_WITH_POINTS = any_of(NAMES["suffixes_with_points"])
SUFFIX_AFTER_COMMA = "(?:" + "|".join(r"\.?".join(word) for word in NAMES["suffixes_after_comma"]) + ")"
RANK, RANK_OR_NAME = any_of(NAMES["ranks"]), _group(NAMES["ranks_or_names"])
PEERAGE = rf"(?:{ORDINAL} +(?:{RANK}|{RANK_OR_NAME})(?: +of)?|{RANK}(?: +of)?|{RANK_OR_NAME} +(?:of|von|zu))"
PARTICLE = _group(NAMES["particles"])
SMALL_PARTICLE = any_of([*NAMES["small_particles"], "'t"])
SMALL_PARTICLES = f"{SMALL_PARTICLE}(?: {SMALL_PARTICLE})*"
# Two of them begin no name but a family name; not Do Van Minh.
FAMILY_WITH_PARTICLES = r"^(?:van|von|de) (?:de[rnm]?|la|las|los|'t) [^ ,]+$"
BIRTH = rf"(?:{any_of(NAMES['births'])} |(?-i:{any_of(NAMES['small_births'])})(?:\. ?| ))"

BEFORE_TWO_NAMES = (rf"^{AMBIGUOUS_TITLE}\.? +(\S+ +\S)", "$1")
# Susanna née Duncombe: the only family name there is
BORN_AS = (rf"^([^ ,]+) {BIRTH}([^,]+)$", "$1 $2")
# Berg, van der: the family name as Dutch lists sort it.
SORTED_PARTICLES = (rf"^([^,]+), ({SMALL_PARTICLES})$", "$2 $1")
NOT_SHOWN = r"[^\p{L}\p{M}\p{N} '.,-]+"

REWRITES = [
    # William "Bill" Smith, Charles (numismatist), William 'Bill' Smith
    (r"""[(\["“„«][^)\]"”“»]*[)\]"”“»]""", " "),
    (r"(^| )'[^' ]+'( |$)", " "),
    (r" +", " "),
    (r"^[ ,.-]+|[ ,-]+$", ""),
    BORN_AS,
    # Anna Müller, geb. Schmidt; Müller geb. Schmidt, Anna
    (rf"(\S)[, ]+{BIRTH}[^,]+", "$1"),
    # v.d. Berg, v/d Berg, and not V.D. Savarkar nor v.d. savarkar
    (r"(^|[ ,])(?-i:v\. ?d\. ?(\p{Lu})|(?:v/d ?|vd\.? )(\p{L}))", "${1}van der ${2}${3}"),
    # O Brien, O' Brien, and not John O Smith
    (rf"\b(O)(?:' ?| )({any_of(NAMES['o_names'])})\b", "$1'$2"),
    # Dr. Müller M.A.: no initials, as those of "Müller M.A." may be
    (rf"^({TITLES}\S.*?)[, ]+{SUFFIX_WITH_POINTS}$", "$1"),
    # Dr. John Smith, Major Sir John Smith, Hon Mrs Smith
    (rf"^(?:(?:{AMBIGUOUS_TITLE}|hon) +)?{TITLES}(\S)", "$1"),
    BEFORE_TWO_NAMES,
    # 1st Baronet, Bt.
    (rf"(?:^|[, ]+)(?:{ORDINAL} +(?:baronet|bart|bt)|baronet|bt)\b\.?", ""),
    (r"[, ]+bart\.?$", ""),
    # Smith Jr., John
    (rf"^([^,]+?)[ ,]+(?:{GENERATION}|{SUFFIX})\.? *, *", "$1, "),
    # John Smith, Jr., Ph.D.
    (rf", *(?:{GENERATION}|{SUFFIX}|{SUFFIX_AFTER_COMMA}|{TRAILING_TITLE})\.? *(,|$)", "$1"),
    (rf", *(?:{GENERATION}|{SUFFIX}|{SUFFIX_AFTER_COMMA}|{TRAILING_TITLE})\.? *(,|$)", "$1"),
    (rf"^(\S+[, ]+\S.*?)(?:[, ]+(?:{SUFFIX}|{SUFFIX_WITH_POINTS}|{GENERATION}|{TRAILING_TITLE})\.?)+$", "$1"),
    (rf"^(\S+) +{GENERATION}\.?$", "$1"),
    # Violet, Lady Greville
    (rf"^([^, ]+), *{PEERAGE} +(\S.*)$", "$1 $2"),
    # Frederick Lawless, 5th Baron Cloncurry; Elizabeth Cecil, Countess
    (rf"^([^,]+), *(?:{ORDINAL}\b|{PEERAGE}\b).*$", "$1"),
    # Leifchild Leif-Jones, Baron Rhayader; and not Jones, Earl
    (rf"^([^, ]+ [^,]+), *{RANK_OR_NAME}(?: .*)?$", "$1"),
    # Frederick Lawless 5th Baron Cloncurry; Henry 1st Baron Dunleath; 1st Baron Gladstone
    (rf"^(\S+ +\S.*?) +{PEERAGE}\b.*$", "$1"),
    (rf"^(\S+) +{PEERAGE} +(\S)", "$1 $2"),
    (rf"^{PEERAGE} +(\S)", "$1"),
    (rf"(^|[ ,]){ORDINAL}\b", "$1"),
    # Rodger of Howden; George Loftus, of Ely; Admiral of the Fleet Meux
    (r", *of .*$", ""),
    (r"(?:^| +)of +the +fleet +", " "),
    (r"(?:^| +)of(?: +|$)", " "),
    (rf"^ *{TITLES}(\S)", "$1"),
    # C.Bicknell, J.R.R. Tolkien
    (r"\.(\p{L})", ". $1"),
    # Smith J. R.; de Vries A. B.
    (rf"^((?:{SMALL_PARTICLE} )*\p{{L}}[\p{{L}}\p{{M}}'-]+) ((?:\p{{L}}\.[ -]?){{2,}})$", "$1, $2"),
    (NOT_SHOWN, " "),
    (r" *,[ ,]*", ", "),
    (r" +", " "),
    (r"^[ ,.-]+|[ ,-]+$", ""),
    # Berg, van der, Jan; Müller, Dr. Anna; Berg, Jan van der
    (rf"^([^,]+), ({SMALL_PARTICLES}), (.+)$", "$2 $1, $3"),
    (rf"^([^,]+), {TITLES}(\S)", "$1, $2"),
    (rf"^([^,]+), (.+?) ({PARTICLE}(?: {PARTICLE})*)$", "$3 $1, $2"),
]  # fmt: skip
# Two words of a part may both be given names (Imam Budi, Maj Britt Eva), one before "née" is the family name.
REWRITES_OF_PARTS = [rewrite for rewrite in REWRITES if rewrite not in (BEFORE_TWO_NAMES, BORN_AS)]
REWRITES_OF_PARTS.append(SORTED_PARTICLES)
# DUPONT Jean-Pierre, DE LA CRUZ Maria, and not JOHN McDONALD, J-P Sartre
CAPITALS = rf"(?:(?i:{PARTICLE}) )*[\p{{Lu}}'-]*\p{{Lu}}{{3}}[\p{{Lu}}'-]*"
FAMILY_IN_CAPITALS = (
    rf"^({CAPITALS}(?: {CAPITALS})*) "
    r"(\p{Lu}[\p{Ll}\p{M}]+(?:\.?[ '-]+\p{L}[\p{Ll}\p{M}]*)*\.?)$"
)

INITIALS = "[BCDFGHJ-NP-TVWXZ]{3,4}"  # JRR Tolkien, VVS Laxman

NOT_PLAIN_WORDS = (
    NAMES["titles"]
    + NAMES["titles_before_two_names"]
    + NAMES["trailing_titles"]
    + NAMES["suffixes"]
    + list(GENERATIONS)
    + NAMES["ranks"]
    + NAMES["ranks_or_names"]
    + NAMES["particles"]
    + NAMES["births"]
    + NAMES["small_births"]
    + ["o", "of", "baronet", "bart", "bt", "vd"]
)
SPECIAL_WORD = f"(?:{_group(NOT_PLAIN_WORDS)}|dipl[ -][^ ]+)"
IN_CAPITALS = r"^\p{Lu}[\p{Lu}-]{2}.*\p{Ll}"  # perhaps DUPONT Jean
# A point stands behind an initial only, and there is a word after it.
NOT_PLAIN = (
    r"[^\p{L}\p{M} .-]|^-|-$|[^ ]{2}\.|(?:^| )\.|\.[^ ]|\.$|\..* \p{L}$|(?:^| )v\. d\. "
    rf"|(?i:(?:^| ){SPECIAL_WORD}\.?(?: |$))"
    rf"|{IN_CAPITALS}"
)
PLAIN_WORD = r"\p{L}[\p{L}\p{M}-]*[\p{L}\p{M}]"
TURNED = rf"^{PLAIN_WORD}(?: {PLAIN_WORD})*, {PLAIN_WORD}(?: {PLAIN_WORD})*$"
NOT_TURNED = (
    rf"{IN_CAPITALS}|(?i:(?:^|[ -])(?:{SPECIAL_WORD}|{_group(NAMES['suffixes_after_comma'])})(?:[ ,-]|$))"
)

# "Anna Schmidt", „Anna Schmidt“, 'Anna', (Anna Schmidt), and not (numismatist)
WRAPPED = r"""^(?:["“”„«»]+([^"“”„«»()\[\]]+)["“”„«»]+|[‚']([^']+)'|[(\[]([^"()\[\]]+ [^"()\[\]]+)[)\]])$"""

ENTITIES = {"&amp;": "&", "&#39;": "'", "&#x27;": "'", "&apos;": "'", "&quot;": '"', "&nbsp;": " "}
EMPTY_WORD = any_of(PLACEHOLDERS["words"] + PLACEHOLDERS["names"])
REPEATED_LETTER = "|".join(f"{letter}{{3,}}" for letter in "abcdefghijklmnopqrstuvwxyz")
PLACEHOLDER = (
    rf"^(?:(?:(?:{EMPTY_WORD}[0-9]*|{REPEATED_LETTER}|x+|[0-9]+)(?:[ ,._/-]+|$))+"
    rf"|{any_of(PLACEHOLDERS['full_names'])})$"
)
WORD_OR_NAME = (
    rf"^(?:(?i:{any_of(PLACEHOLDERS['words_or_names'])})|{any_of(PLACEHOLDERS['words_or_names_spelled'])})$"
)
LETTERLESS = r"^[^\p{L}\p{N}]+$"
# Nothing but this can be wrong with a name: letters that do not begin like a placeholder are none.
DUBIOUS = (
    r"[^a-z '.,-]|^[ '.,-]*$|www\."
    rf"|^(?:(?:{EMPTY_WORD}|{REPEATED_LETTER}|x+)(?:[ ,.-]|$)|{any_of(PLACEHOLDERS['full_names'])}$)"
)
DIGITS = r"[0-9].*[0-9]|(?:^|[ -])[0-9]+(?:[ -]|$)"


def normalize_name(full: pl.Series, given: pl.Series, family: pl.Series) -> pl.DataFrame:
    """Columns name, given_name, family_name, reason (String), one row per element of the three Series.

    name is for people to read: accents kept, order settled, no titles, cased where the source was not.
    given_name and family_name are for matching: folded, without punctuation, particles with the family name.
    A name of one word is taken for a given name, as people who type only one into a form do, unless a title
    that goes with family names stood before it.
    """
    in_parts = given.null_count() + family.null_count() < len(given) + len(family)
    return _settled(full, given, family) if in_parts else _settled_full(full)


@by_distinct
def _settled_full(full: pl.Series) -> pl.DataFrame:
    """The columns of normalize_name where no name is delivered in parts."""
    nothing = pl.Series([None], dtype=pl.String).new_from_index(0, len(full))
    return _settled(full, nothing, nothing)


def _settled(full: pl.Series, given: pl.Series, family: pl.Series) -> pl.DataFrame:
    delivered_given, delivered_family = given, family
    frame = pl.concat(
        [
            _split_full(full).select(pl.all().name.prefix("full_")),
            _settle_given(given).select(pl.all().name.prefix("given_")),
            _settle_family(family).select(pl.all().name.prefix("family_")),
        ],
        how="horizontal",
    )
    frame = frame.with_columns(given=_merged_given(), family=pl.coalesce("family_text", "full_family"))
    # A full name that is only the family name says nothing about the given name.
    only_family = (
        pl.col("given_text").is_null()
        & pl.col("full_family").is_null()
        & (pl.col("given") == pl.col("family"))
    ).fill_null(False)
    perhaps_given = _perhaps_names(delivered_given, frame["given_reason"], frame["family_text"])
    perhaps_family = _perhaps_names(delivered_family, frame["family_reason"], frame["given_text"])
    frame = frame.with_columns(
        given=pl.coalesce(pl.when(~only_family).then("given"), perhaps_given),
        family=pl.coalesce("family", perhaps_family),
        generation=pl.coalesce("full_generation", "family_generation")
        .str.to_lowercase()
        .replace(GENERATIONS),
    )
    given, family = pl.col("given"), pl.col("family")
    has_digits = pl.lit(_has_digits(frame["given"]) | _has_digits(frame["family"]))
    reason = (
        pl.when(has_digits).then(pl.lit("contains_digits"))
        .when(given.is_null() & family.is_null()).then(pl.coalesce(pl.col("^.*_reason$")))
    )  # fmt: skip
    frame = frame.select(
        pl.when(~has_digits).then("given"), pl.when(~has_digits).then("family"), "generation", reason=reason
    )
    given, family = frame["given"], frame["family"]
    shown = pl.DataFrame(
        {
            "given": _settle_case(given, as_written=rf"^(?:..?|{INITIALS})$"),
            "family": _settle_case(family, " "),
            "generation": frame["generation"],
        }
    )
    is_name = given.is_not_null() | family.is_not_null()
    return pl.DataFrame(
        {
            "name": shown.select(
                pl.when(is_name).then(pl.concat_str(pl.all(), separator=" ", ignore_nulls=True))
            ).to_series(),
            "given_name": _match_form(given),
            "family_name": _joined_mac(_match_form(family)),
            "reason": frame["reason"],
        }
    )


@by_distinct
def _split_full(values: pl.Series) -> pl.DataFrame:
    """Columns given, family, generation, reason of full names, as spelled."""
    text, reason = _names_only(values)
    last, nothing = text.str.replace("^.* ", ""), pl.lit(None, pl.String)
    frame = pl.DataFrame({"raw": text, "last": last, "reason": reason})
    is_one_word = pl.col("last").str.len_bytes() == pl.col("raw").str.len_bytes()
    frame = frame.with_columns(
        given=pl.when(is_one_word)
        .then("raw")
        .otherwise(pl.col("raw").str.strip_suffix(" " + pl.col("last"))),
        family=pl.when(~is_one_word).then("last"),
        generation=nothing,
    )
    odd = text.str.contains(NOT_PLAIN).fill_null(False).arg_true()
    if len(odd):
        parts = _split_odd(text.gather(odd))
        frame = frame.with_columns(frame[name].scatter(odd, parts[name]) for name in parts.columns)
    title_only = (
        pl.col("reason").is_null()
        & pl.col("raw").is_not_null()
        & pl.col("given").is_null()
        & pl.col("family").is_null()
    )
    return frame.select(
        "given",
        "family",
        "generation",
        reason=pl.when(title_only).then(pl.lit("title_only")).otherwise("reason"),
    )


def _split_odd(names: pl.Series) -> pl.DataFrame:
    """Columns given, family, generation of names that are not plain words."""
    names = _short_degrees(names)
    is_turned = names.str.contains(TURNED) & ~names.str.contains(NOT_TURNED)
    turned, rest = is_turned.arg_true(), (~is_turned).arg_true()
    parts = names.gather(turned).str.splitn(", ", 2).struct.rename_fields(["family", "given"]).struct.unnest()
    raw = names.gather(rest)
    return (
        pl.concat(
            [
                parts.with_columns(row=turned),
                _split_rewritten(raw, _rewritten(raw)).with_columns(row=rest),
            ],
            how="diagonal",
        )
        .sort("row")
        .select("given", "family", "generation")
    )


def _split_rewritten(raw: pl.Series, text: pl.Series) -> pl.DataFrame:
    """The parts of rewritten names: 'Family, Given', particles before the family name, words alone."""
    frame = pl.DataFrame({"raw": raw, "text": text}).with_columns(
        comma=pl.col("text").str.extract_groups(r"^([^,]+), (.+)$"),
        particles=pl.col("text").str.extract_groups(rf"(?i)^([^,]+?) ((?:{PARTICLE} )+[^ ,]+)$"),
        words=pl.col("text").str.extract_groups(r"^([^,]+) ([^ ,]+)$"),
    )
    family_only = pl.when(pl.col("text").str.contains(FAMILY_WITH_PARTICLES)).then("text")
    given = pl.coalesce(
        pl.col("comma").struct.field("2").str.replace_all(",", "", literal=True),
        pl.col("particles").struct.field("1"),
        pl.col("words").struct.field("1"),
    )
    family = pl.coalesce(
        family_only,
        pl.col("comma").struct.field("1"),
        pl.col("particles").struct.field("2"),
        pl.col("words").struct.field("2"),
    )
    # "Mr Smith", "Sir Knott, Baronet": the word before the comma was the end of a name.
    family_alone = pl.col("raw").str.contains(
        rf"(?i)^(?:(?:(?:{AMBIGUOUS_TITLE}|hon) +)?{FAMILY_NAME_TITLE}[. ]"
        rf"|{FAMILY_NAME_TITLE_WITH_POINT}|{PEERAGE} |{ORDINAL} |baronet )|,"
    )
    alone = pl.when(
        pl.col("text").str.contains(r"\p{L}") & ~pl.col("text").str.contains(rf"(?i)^{TITLE}\.?$")
    ).then("text")
    return frame.select(
        given=pl.when(family_only.is_not_null())
        .then(None)
        .when(family.is_not_null())
        .then(given)
        .otherwise(pl.when(~family_alone).then(alone)),
        family=pl.when(family.is_not_null()).then(family).otherwise(pl.when(family_alone).then(alone)),
        generation=_generation(pl.col("raw")),
    )


@by_distinct
def _settle_given(values: pl.Series) -> pl.DataFrame:
    """Columns text, reason of given names, as spelled, null where it was only a title."""
    return _settle_part(values, TITLE).select("text", "reason")


@by_distinct
def _settle_family(values: pl.Series) -> pl.DataFrame:
    """Columns text, generation, reason of family names, as spelled; Lord and Bishop are names here."""
    return _settle_part(values, TRAILING_TITLE)


def _settle_part(values: pl.Series, not_alone: str) -> pl.DataFrame:
    if values.null_count() == len(values):
        return pl.DataFrame(dict.fromkeys(("text", "reason", "generation"), values))
    text, reason = _names_only(values)
    odd = text.str.contains(NOT_PLAIN).fill_null(False)
    settled = on_rows(
        text,
        odd,
        lambda rows: _rewritten(_short_degrees(rows), REWRITES_OF_PARTS).str.replace_all(
            ",", "", literal=True
        ),
    )
    frame = pl.DataFrame({"raw": text, "text": settled, "reason": reason})
    is_name = pl.col("text").str.contains(r"\p{L}") & ~pl.col("text").str.contains(rf"(?i)^{not_alone}\.?$")
    return frame.select(
        pl.when(is_name).then("text"),
        pl.when(~is_name)
        .then(pl.coalesce("reason", pl.lit("title_only")))
        .otherwise("reason")
        .alias("reason"),
        _generation(pl.col("raw")).alias("generation"),
    )


def _perhaps_names(delivered: pl.Series, reason: pl.Series, other: pl.Series) -> pl.Series:
    """Delivered parts that may mean nothing, or be a name: a name where the other part is one."""
    rows = ((reason == "placeholder") & other.is_not_null()).fill_null(False).arg_true()
    names = pl.Series([None], dtype=pl.String).new_from_index(0, len(delivered))
    if not len(rows):
        return names
    words = clean(delivered.gather(rows))
    return names.scatter(rows, words.set(~words.str.contains(WORD_OR_NAME), None))


def _names_only(values: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Cleaned text that may be a name, and the reason where it cannot be one."""
    text = clean(values)
    text = on_rows(text, text.str.contains("&", literal=True), lambda rows: rows.str.replace_many(ENTITIES))
    text = on_rows(
        text,
        text.str.contains(WRAPPED),
        lambda rows: rows.str.replace(WRAPPED, "${1}${2}${3}").str.strip_chars(" "),
    )
    folded = fold(text)
    dubious = (folded.str.contains(DUBIOUS) | (folded.str.len_bytes() > LONGEST_NAME)).fill_null(False)
    rows, reason = dubious.arg_true(), pl.Series([None], dtype=pl.String).new_from_index(0, len(text))
    if len(rows):
        reason = reason.scatter(rows, _reasons(folded.gather(rows)))
    return text.set(reason.is_not_null(), None), reason


def _reasons(folded: pl.Series) -> pl.Series:
    """Why a text cannot be a name; null where it can."""
    value = VALUE
    reason = (
        pl.when(value.str.contains(LETTERLESS)).then(pl.lit("placeholder"))
        .when(~value.str.contains(r"\p{L}")).then(pl.lit("no_letters"))
        .when(value.str.contains(PLACEHOLDER)).then(pl.lit("placeholder"))
        .when(value.str.contains("@", literal=True)).then(pl.lit("email"))
        .when(value.str.contains(r"https?:|www\.")).then(pl.lit("url"))
        .when(value.str.contains(r"[<>{}\\|=;]")).then(pl.lit("invalid_characters"))
        .when(value.str.len_chars() > LONGEST_NAME).then(pl.lit("too_long"))
    )  # fmt: skip
    return folded.alias("value").to_frame().select(reason=reason).to_series()


def _has_digits(names: pl.Series) -> pl.Series:
    """Whether a name holds two digits, or a word of digits."""
    some = names.str.contains("[0-9]").fill_null(False)
    rows = some.arg_true()
    return some.scatter(rows, names.gather(rows).str.contains(DIGITS)) if len(rows) else some


def _short_degrees(names: pl.Series) -> pl.Series:
    """Names with a mere Dr. for 'Dr. rer. nat.' and 'Dipl.-Ing.', titles both."""
    degree = f"(?i){DEGREE}"
    return on_rows(names, names.str.contains(degree), lambda rows: rows.str.replace_all(degree, "${1}dr. "))


def _rewritten(text: pl.Series, rewrites: list[tuple[str, str]] = REWRITES) -> pl.Series:
    """Names without brackets, titles, degrees and peerage, as 'Given Family' or 'Family, Given'."""
    rewritten = VALUE
    for pattern, replacement in rewrites:
        rewritten = rewritten.str.replace_all(f"(?i){pattern}", replacement)
    names = applied(rewritten, text)
    family_first = names.str.contains(FAMILY_IN_CAPITALS) & ~names.str.contains(f"^{INITIALS} ")
    return on_rows(names, family_first, lambda rows: rows.str.replace(FAMILY_IN_CAPITALS, "$1, $2"))


def _generation(text: pl.Expr) -> pl.Expr:
    return text.str.extract(rf"(?i)[ ,]({GENERATION})\.?(?: *,|$)")


def _merged_given() -> pl.Expr:
    """The delivered given name, with the middle names that the full name has before the same family name."""
    before_family = pl.when(
        (pl.col("full_family") == pl.col("family_text"))
        & pl.col("full_given").str.starts_with(pl.col("given_text") + " ")
    ).then("full_given")
    return pl.coalesce(before_family, "given_text", "full_given")


def _settle_case(names: pl.Series, before: str = "", as_written: str = "^..?$") -> pl.Series:
    """Names all in capitals or all in small letters in the usual case; others, and JD, as they are."""

    def settled(rows: pl.Series) -> pl.Series:
        uncased = (rows == rows.str.to_lowercase()) | (
            (rows == rows.str.to_uppercase()) & ~rows.str.contains(as_written)
        )
        return on_rows(rows, uncased, lambda rows: _cased(before + rows).str.strip_chars(" "))

    return on_rows(names, ~names.str.contains(r"^[A-Z][a-z]"), settled)


def _cased(names: pl.Series) -> pl.Series:
    small = {f" {particle.title()} ": f" {particle} " for particle in NAMES["small_particles"]}
    irish = {f"Mc{letter}": f"Mc{letter.upper()}" for letter in "abcdefghijklmnopqrstuvwxyz"}
    # With two spaces between words, patterns that include the spaces around a word never overlap.
    return (
        names.str.to_titlecase()
        .str.replace_all(" ", "  ", literal=True)
        .str.replace_many(small)
        .str.replace_all("  ", " ", literal=True)
        .str.replace_many(irish)
    )


def _match_form(names: pl.Series) -> pl.Series:
    """Folded words of letters and digits: apostrophes join, other punctuation parts."""
    folded = fold(names)
    return on_rows(
        folded,
        folded.str.contains(r"[^a-z ]"),
        lambda rows: (
            rows.str.replace_all("'", "", literal=True)
            .str.replace_all(r"[^\p{L}\p{M}\p{N}]+", " ")
            .str.strip_chars(" ")
            .replace("", None)
        ),
    )


def _joined_mac(family: pl.Series) -> pl.Series:
    """'mc donald' and 'mcdonald' are one name."""
    return on_rows(
        family,
        family.str.contains("c ", literal=True),
        lambda rows: rows.str.replace_all(r"\b(ma?c) (\S)", "$1$2"),
    )
