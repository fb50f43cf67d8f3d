"""Tables of literal examples, and the properties that hold for any value whatever."""

import random
from datetime import UTC, date, datetime

import phonenumbers
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from staging.normalizers import (
    normalize_address,
    normalize_city,
    normalize_date,
    normalize_email,
    normalize_name,
    normalize_national_id,
    normalize_phone,
    normalize_postal_code,
    normalize_timestamp,
    phones,
)

TODAY = date(2026, 6, 30)
NOW = datetime(2026, 6, 30, 12, tzinfo=UTC)
DELIVERED = datetime(2026, 6, 29, tzinfo=UTC)


def series(*values):
    return pl.Series(values, dtype=pl.String)


def row(frame):
    assert frame.height == 1
    return frame.row(0)


@pytest.mark.parametrize(
    ("raw", "email", "mailbox", "reason"),
    [
        ("Anna.Mueller@Acme.COM", "anna.mueller@acme.com", "anna.mueller@acme.com", None),
        ("  joe@acme.com\t", "joe@acme.com", "joe@acme.com", None),
        ("joe+shop@acme.com", "joe+shop@acme.com", "joe@acme.com", None),
        ("+shop@acme.com", "+shop@acme.com", "+shop@acme.com", None),
        ("A.B+c@GMail.com", "a.b+c@gmail.com", "ab@gmail.com", None),
        ("bob.smith@googlemail.com", "bob.smith@googlemail.com", "bobsmith@gmail.com", None),
        ("b.ob@acme.com", "b.ob@acme.com", "b.ob@acme.com", None),
        ("Bob Smith <bob@acme.com>", "bob@acme.com", "bob@acme.com", None),
        ('"Smith, Bob" <bob@acme.com>', "bob@acme.com", "bob@acme.com", None),
        ("<bob@acme.com>", "bob@acme.com", "bob@acme.com", None),
        ("mailto:bob@acme.com?subject=hi", "bob@acme.com", "bob@acme.com", None),
        ("bob@acme.com; eve@acme.com", "bob@acme.com", "bob@acme.com", None),
        ("bob@acme.com, eve@acme.com", "bob@acme.com", "bob@acme.com", None),
        ("bob @ acme . com", "bob@acme.com", "bob@acme.com", None),
        ("bob@acme.com.", "bob@acme.com", "bob@acme.com", None),
        ("o'neil@acme.ie", "o'neil@acme.ie", "o'neil@acme.ie", None),
        ("anna@münchen.de", "anna@xn--mnchen-3ya.de", "anna@xn--mnchen-3ya.de", None),
        ("jürgen@acme.de", "jürgen@acme.de", "jürgen@acme.de", None),
        ("ｊｏｅ＠ａｃｍｅ．ｃｏｍ", "joe@acme.com", "joe@acme.com", None),
        ("jo\u200be@ac\x00me.com", "joe@acme.com", "joe@acme.com", None),
        ("\u202ejoe@acme.com\u202c", "joe@acme.com", "joe@acme.com", None),
        ("AYŞE@GMAİL.COM", "ayşe@gmail.com", "ayşe@gmail.com", None),
        ("anna@x.de (privat)", "anna@x.de", "anna@x.de", None),
        ("(anna@x.de)", "anna@x.de", "anna@x.de", None),
        ("a@b.de/c@d.de", "a@b.de", "a@b.de", None),
        ("a@b.de|c@d.de", "a@b.de", "a@b.de", None),
        ("a@b.de / c@d.de", "a@b.de", "a@b.de", None),
        ("a@b.de oder c@d.de", "a@b.de", "a@b.de", None),
        ("a/b@acme.com", "a/b@acme.com", "a/b@acme.com", None),
        ("anna.smith@example.com", "anna.smith@example.com", "anna.smith@example.com", None),
        ("smith@smith.com", "smith@smith.com", "smith@smith.com", None),
        ("info@acme.com", "info@acme.com", "info@acme.com", None),
        (None, None, None, None),
        ("", None, None, None),
        (" \t\u00a0", None, None, None),
        ("n/a", None, None, "placeholder"),
        ("none", None, None, "placeholder"),
        ("-", None, None, "placeholder"),
        ("#N/A", None, None, "placeholder"),
        ("keine Angabe", None, None, "placeholder"),
        ("test@test.com", None, None, "placeholder"),
        ("test@acme.com", None, None, "placeholder"),
        ("joe@test.com", None, None, "placeholder"),
        ("noreply@acme.com", None, None, "placeholder"),
        ("No-Reply@mail.acme.com", None, None, "placeholder"),
        ("none@none.none", None, None, "placeholder"),
        ("user@example.com", None, None, "placeholder"),
        ("joe@mail.invalid", None, None, "placeholder"),
        ("root@localhost", None, None, "placeholder"),
        ("a@a.com", None, None, "placeholder"),
        ("xxxx@xxxx.de", None, None, "placeholder"),
        ("joe", None, None, "no_at"),
        ("joe.acme.com", None, None, "no_at"),
        ("@acme.com", None, None, "no_local_part"),
        ("joe@", None, None, "no_domain"),
        ("joe@acme", None, None, "no_top_level_domain"),
        ("joe@@acme.com", None, None, "invalid_domain"),
        ("joe@acme..com", None, None, "invalid_domain"),
        ("joe@-acme.com", None, None, "invalid_domain"),
        ("joe@10.0.0.1", None, None, "invalid_domain"),
        ("joe smith@acme.com", None, None, "invalid_local_part"),
        ("joe..smith@acme.com", None, None, "invalid_local_part"),
        (".joe@acme.com", None, None, "invalid_local_part"),
        ("😀@acme.com", None, None, "invalid_local_part"),
        ("'; drop table customers; --@acme.com", None, None, "invalid_local_part"),
        ("a" * 65 + "@acme.com", None, None, "too_long"),
        ("joe@" + "a" * 300 + ".com", None, None, "too_long"),
    ],
)
def test_email(raw, email, mailbox, reason):
    assert row(normalize_email(series(raw))) == (email, mailbox, reason)


@pytest.mark.parametrize(
    ("raw", "region", "phone", "reason"),
    [
        ("+1 (555) 123-4567", "US", "+15551234567", None),
        ("555.123.4567", "US", "+15551234567", None),
        ("(555) 123-4567", "US", "+15551234567", None),
        ("1-555-123-4567", "us", "+15551234567", None),
        ("001-555-123-4567", "US", "+15551234567", None),
        ("011 44 20 7946 0958", "US", "+442079460958", None),
        ("555-123-4567x123", "US", "+15551234567", None),
        ("555-123-4567 ext. 9", "US", "+15551234567", None),
        ("Tel: 555-123-4567", "US", "+15551234567", None),
        ("1-800-FLOWERS", "US", "+18003569377", None),
        ("15551234567.0", "US", "+15551234567", None),
        ("555-123-4567 / 555-987-6543", "US", "+15551234567", None),
        ("５５５-123-4567", "US", "+15551234567", None),
        ("٥٥٥ ١٢٣ ٤٥٦٧", "US", "+15551234567", None),
        ("\u202a555\u200b1234567\u202c", "US", "+15551234567", None),
        ("020 7946 0958", "GB", "+442079460958", None),
        ("+44 (0)20 7946 0958", "US", "+442079460958", None),
        ("0049 30 123456", "GB", "+4930123456", None),
        ("06 698 12345", "IT", "+390669812345", None),
        ("8 912 345-67-89", "RU", "+79123456789", None),
        ("0412 345 678", "AU", "+61412345678", None),
        ("+44 7911 123456 (mobile)", "US", "+447911123456", None),
        ("555-123-4567 x12 (work)", "US", "+15551234567", None),
        ("+49 30 123456 (mobil)", "US", "+4930123456", None),
        ("+1 800 555 FLOW", "US", "+18005553569", None),
        ("030 1234567 App. 12", "DE", "+49301234567", None),
        ("030 1234567 Apparat 12", "DE", "+49301234567", None),
        ("030/1234567, DW 12", "DE", "+49301234567", None),
        ("030 1234567 Durchwahl: 12", "DE", "+49301234567", None),
        ("02302 123 Nebenstelle 12", "DE", "+492302123", None),
        ("0170 2345678 ab 18 Uhr", "DE", "+491702345678", None),
        ("0170 2345678 2. Nummer", "DE", "+491702345678", None),
        ("0170 2345678 oder 030 1234567", "DE", "+491702345678", None),
        ("0170 2345678 u. 030 1234567", "DE", "+491702345678", None),
        ("0170 2345678 & 030 1234567", "DE", "+491702345678", None),
        ("1-800-FLOWERS ext. 12", "US", "+18003569377", None),
        ("+52 1 55 1234 5678", "US", "+525512345678", None),
        ("+52 55 1234 5678", "US", "+525512345678", None),
        (None, "US", None, None),
        ("  ", "US", None, None),
        ("n/a", "US", None, "placeholder"),
        ("-", "US", None, "placeholder"),
        ("0000000", "US", None, "placeholder"),
        ("000-000-0000", "US", None, "placeholder"),
        ("1234567890", "US", None, "placeholder"),
        ("999 999 9999", "US", None, "placeholder"),
        ("+1 999 999 9999", "US", None, "placeholder"),
        ("911", "US", None, "too_short"),
        ("12", "US", None, "too_short"),
        ("555-1234", "US", None, "no_area_code"),
        ("555-1234 home", "US", None, "no_area_code"),
        ("4.930123E+11", "DE", None, "scientific_notation"),
        ("555-1234 after 1", "US", None, "no_area_code"),
        ("555 123 4567 8901", "US", None, "too_long"),
        ("+999 12345678", "US", None, "invalid_country_code"),
        ("055 123 4567", "US", None, "invalid_number"),
        ("call me", "US", None, "not_a_number"),
        ("😀", "US", None, "not_a_number"),
        ("<script>alert(1)</script>", "US", None, "not_a_number"),
        ("5" * 5000, "US", None, "placeholder"),
    ],
)
def test_phone(raw, region, phone, reason):
    assert row(normalize_phone(series(raw), region)) == (phone, reason)


def test_phone_refuses_an_unknown_region():
    with pytest.raises(ValueError, match="'XX'"):
        normalize_phone(series("555-123-4567"), "XX")


def spelled_at_random(rng, region):
    """A number like those of the region, with digits changed, in a spelling somebody might use."""
    metadata = phonenumbers.PhoneMetadata.metadata_for_region(region)
    examples = [phonenumbers.example_number_for_type(region, kind) for kind in range(5)]
    example = phonenumbers.national_significant_number(rng.choice([e for e in examples if e]))
    kept = rng.randrange(len(example))
    national = example[:kept] + "".join(rng.choice("0123456789") for _ in example[kept:])
    code = str(metadata.country_code)
    prefixes = ["", "", "0", "+" + code, "+" + code + "(0)", code, "00" + code, "011" + code]
    prefixes += [metadata.national_prefix or "", "+1", "+49", "+39", "+7", "+55", "+54"]
    digits = rng.choice(prefixes) + national
    spelled = (
        "".join(digit + rng.choice(["", "", "", " ", "-", ".", "/"]) for digit in digits[:-1]) + digits[-1]
    )
    return spelled + rng.choice(["", "", "", "", " x12", " ext. 7", " extension 3", "#9"])


@pytest.mark.parametrize(
    "region",
    "US CA GB DE FR IT AU NL IN BR MX AR JP ES IE SE PL RU KZ CH AT HU FI NO CN ZA GG SM JM SG".split(),
)
def test_phone_by_plan_agrees_with_the_package(region):
    rng = random.Random(f"phones {region}")
    numbers = phones.without_artefacts(series(*(spelled_at_random(rng, region) for _ in range(400))), region)
    by_plan = phones.settled_by_plan(numbers, region)
    by_package = [phones.read_phone(number, region)[0] for number in numbers]
    settled = [
        (raw, ours, theirs) for raw, ours, theirs in zip(numbers, by_plan, by_package, strict=True) if ours
    ]
    assert len(settled) > 20
    assert [case for case in settled if case[1] != case[2]] == []


@pytest.mark.parametrize(
    ("full", "name", "given_name", "family_name"),
    [
        ("Anna-Maria Müller", "Anna-Maria Müller", "anna maria", "muller"),
        ("ANNA-MARIA MÜLLER", "Anna-Maria Müller", "anna maria", "muller"),
        ("MÜLLER, Anna", "Anna Müller", "anna", "muller"),
        ("müller , anna", "Anna Müller", "anna", "muller"),
        ("DUPONT Jean", "Jean Dupont", "jean", "dupont"),
        ("seán o'brien", "Seán O'Brien", "sean", "obrien"),
        ("Seán O’Brien", "Seán O'Brien", "sean", "obrien"),
        ("John O Brien", "John O'Brien", "john", "obrien"),
        ("John O Smith", "John O Smith", "john o", "smith"),
        ("O&#39;Brien, Mary", "Mary O'Brien", "mary", "obrien"),
        ("JOHN MCDONALD", "John McDonald", "john", "mcdonald"),
        ("John Mc Donald", "John Mc Donald", "john", "mcdonald"),
        ("Mac Miller", "Mac Miller", "mac", "miller"),
        ("JOHN McDONALD", "John McDONALD", "john", "mcdonald"),
        ("DE LA CRUZ Maria", "Maria de la Cruz", "maria", "de la cruz"),
        ("GARCIA DE LA CRUZ Maria", "Maria Garcia de la Cruz", "maria", "garcia de la cruz"),
        ("LE GALL Yann", "Yann Le Gall", "yann", "le gall"),
        ("JOHN DE Silva", "John DE Silva", "john", "de silva"),
        ("MARY ANN McKENZIE", "Mary Ann McKENZIE", "mary ann", "mckenzie"),
        ("SEAN MacLEOD", "Sean MacLEOD", "sean", "macleod"),
        ("ANNA LeBLANC", "Anna LeBLANC", "anna", "leblanc"),
        ("JOHN McDonald", "John McDonald", "john", "mcdonald"),
        ("DUPONT Jean-Pierre", "Jean-Pierre Dupont", "jean pierre", "dupont"),
        ("O'BRIEN Sean", "Sean O'Brien", "sean", "obrien"),
        ("O'DEA Sean", "Sean O'Dea", "sean", "odea"),
        ("NGO Thi", "Thi Ngo", "thi", "ngo"),
        ("VVS Laxman", "VVS Laxman", "vvs", "laxman"),
        ("KPS Gill", "KPS Gill", "kps", "gill"),
        ("JRR Tolkien", "JRR Tolkien", "jrr", "tolkien"),
        ("J-P Sartre", "J-P Sartre", "j p", "sartre"),
        ("S-J Park", "S-J Park", "s j", "park"),
        ("Smith J.R.", "J. R. Smith", "j r", "smith"),
        ("Иванов И.И.", "И. И. Иванов", "i i", "ivanov"),
        ("Kowalski A. B.", "A. B. Kowalski", "a b", "kowalski"),
        ("de Vries J.P.", "J. P. de Vries", "j p", "de vries"),
        ("DUPONT Jean P.", "Jean P. Dupont", "jean p", "dupont"),
        ("JD Salinger", "JD Salinger", "jd", "salinger"),
        ("J. R. R. Tolkien", "J. R. R. Tolkien", "j r r", "tolkien"),
        ("J.R.R. Tolkien", "J. R. R. Tolkien", "j r r", "tolkien"),
        ("c.bicknell", "C. Bicknell", "c", "bicknell"),
        # particles
        ("JAN VAN DER BERG", "Jan van der Berg", "jan", "van der berg"),
        ("Berg, Jan van der", "Jan van der Berg", "jan", "van der berg"),
        ("Berg, van der, Dr. Jan", "Jan van der Berg", "jan", "van der berg"),
        ("Berg, van der, Jan", "Jan van der Berg", "jan", "van der berg"),
        ("van der Berg", "van der Berg", None, "van der berg"),
        ("v.d. Berg", "van der Berg", None, "van der berg"),
        ("Jan v.d. Berg", "Jan van der Berg", "jan", "van der berg"),
        ("Jan v. d. Berg", "Jan van der Berg", "jan", "van der berg"),
        ("Jan v/d Berg", "Jan van der Berg", "jan", "van der berg"),
        ("jan vd berg", "Jan van der Berg", "jan", "van der berg"),
        ("V.D. Savarkar", "V. D. Savarkar", "v d", "savarkar"),
        ("v.d. savarkar", "V. D. Savarkar", "v d", "savarkar"),
        ("Juan Pérez de la Cruz", "Juan Pérez de la Cruz", "juan perez", "de la cruz"),
        ("maria de los santos", "Maria de los Santos", "maria", "de los santos"),
        ("Robert de Tracey Smith", "Robert de Tracey Smith", "robert de tracey", "smith"),
        ("Ahmad bin Hamad", "Ahmad bin Hamad", "ahmad", "bin hamad"),
        ("Oliver St John", "Oliver St John", "oliver", "st john"),
        ("Van Morrison", "Van Morrison", "van", "morrison"),
        ("al pacino", "Al Pacino", "al", "pacino"),
        # titles and suffixes
        ("Dr. Anna Müller, PhD", "Anna Müller", "anna", "muller"),
        ("Müller, Dr. Anna", "Anna Müller", "anna", "muller"),
        ("Herr Prof. Dr. Hans Maier", "Hans Maier", "hans", "maier"),
        ("Mr. & Mrs. John Smith", "John Smith", "john", "smith"),
        ("Rt. Hon. Sir John Smith OBE", "John Smith", "john", "smith"),
        ("John Smith O.B.E.", "John Smith", "john", "smith"),
        ("John Smith, Jr., M.D.", "John Smith Jr", "john", "smith"),
        ("Smith Jr., John", "John Smith Jr", "john", "smith"),
        ("john smith iii", "John Smith III", "john", "smith"),
        ("Jack Ma", "Jack Ma", "jack", "ma"),
        ("Jack Smith, MA", "Jack Smith", "jack", "smith"),
        ("Karl Schmidt M.A.", "Karl Schmidt", "karl", "schmidt"),
        ("Dr. Schmidt M.A.", "Schmidt", None, "schmidt"),
        ("Karl Schmidt B.A.", "Karl Schmidt", "karl", "schmidt"),
        ("Karl Schmidt sen.", "Karl Schmidt Sr", "karl", "schmidt"),
        ("Karl Schmidt jun.", "Karl Schmidt Jr", "karl", "schmidt"),
        ("Amartya Sen", "Amartya Sen", "amartya", "sen"),
        # names at birth
        ("Anna Müller geb. Schmidt", "Anna Müller", "anna", "muller"),
        ("Anna Müller geb Schmidt", "Anna Müller", "anna", "muller"),
        ("Anna Müller, geb. Schmidt", "Anna Müller", "anna", "muller"),
        ("Anna Müller geborene von Schmidt", "Anna Müller", "anna", "muller"),
        ("Anne Martin née Dupont", "Anne Martin", "anne", "martin"),
        ("Anne Martin nee Dupont", "Anne Martin", "anne", "martin"),
        ("ANNA MÜLLER GEB. SCHMIDT", "Anna Müller", "anna", "muller"),
        ("Susanna née Duncombe", "Susanna Duncombe", "susanna", "duncombe"),
        ("Müller geb. Schmidt, Anna", "Anna Müller", "anna", "muller"),
        ("Müller geb Schmidt, Anna", "Anna Müller", "anna", "muller"),
        ("Müller, Anna, geb. Schmidt", "Anna Müller", "anna", "muller"),
        ("Lim Nee Soon", "Lim Nee Soon", "lim nee", "soon"),
        ("Drake Misserly", "Drake Misserly", "drake", "misserly"),
        ("Mr Smith", "Smith", None, "smith"),
        ("Frau Dr. Schmidt", "Schmidt", None, "schmidt"),
        ("Señora García", "García", None, "garcia"),
        ("Judge Reinhold", "Judge Reinhold", "judge", "reinhold"),
        ("Judge John Smith", "John Smith", "john", "smith"),
        ("Imam Santoso", "Imam Santoso", "imam", "santoso"),
        ("Kumari Sharma", "Kumari Sharma", "kumari", "sharma"),
        ("Maj Andersson", "Maj Andersson", "maj", "andersson"),
        ("Major Singh", "Major Singh", "major", "singh"),
        ("Sheikh Hasina", "Sheikh Hasina", "sheikh", "hasina"),
        ("Hon Wai Lee", "Hon Wai Lee", "hon wai", "lee"),
        ("Major John Smith", "John Smith", "john", "smith"),
        ("Maj. Smith", "Smith", None, "smith"),
        ("Hon. John Smith", "John Smith", "john", "smith"),
        ("Hon Mrs Smith", "Smith", None, "smith"),
        # degrees
        ("Dr. med. Hans Müller", "Hans Müller", "hans", "muller"),
        ("DR. MED. HANS MÜLLER", "Hans Müller", "hans", "muller"),
        ("Dr. rer.nat. Hans Müller", "Hans Müller", "hans", "muller"),
        ("Prof. Dr. Dr. h.c. mult. Hans Müller", "Hans Müller", "hans", "muller"),
        ("Dr.-Ing. Hans Müller", "Hans Müller", "hans", "muller"),
        ("Dipl-Kfm Hans Müller", "Hans Müller", "hans", "muller"),
        ("Dipl.-Wirt.-Ing. Hans Müller", "Hans Müller", "hans", "muller"),
        ("mgr inż. Jan Kowalski", "Jan Kowalski", "jan", "kowalski"),
        ("Mgr. Jan Novák", "Jan Novák", "jan", "novak"),
        ("Dr. med. univ. Müller", "Müller", None, "muller"),
        ("Jan Ohm, Dipl.-Ing.", "Jan Ohm", "jan", "ohm"),
        ("Jan Kowalski, mgr inż.", "Jan Kowalski", "jan", "kowalski"),
        ("Hans Müller Dr. rer. nat.", "Hans Müller", "hans", "muller"),
        ("Müller, Dr. med. Hans", "Hans Müller", "hans", "muller"),
        ("Dr. H. C. Andersen", "H. C. Andersen", "h c", "andersen"),
        ("Dr. Nat Cole", "Nat Cole", "nat", "cole"),
        # peerage
        ("sir art middleton", "Art Middleton", "art", "middleton"),
        ("thomas chapman, 7th baronet", "Thomas Chapman", "thomas", "chapman"),
        ("Sir Hugh, 8th Baronet", "Hugh", None, "hugh"),
        ("sir hugh 8th baronet", "Hugh", "hugh", None),
        ("sir knott, baronet", "Knott", None, "knott"),
        ("frederick lawless, 5th baron cloncurry", "Frederick Lawless", "frederick", "lawless"),
        ("ralph 1st earl stafford", "Ralph Stafford", "ralph", "stafford"),
        ("dudley earl of harrington", "Dudley Harrington", "dudley", "harrington"),
        ("violet, lady greville", "Violet Greville", "violet", "greville"),
        ("2nd Baron of Howden", "Howden", None, "howden"),
        ("Lord Byron", "Byron", None, "byron"),
        ("Bart Simpson", "Bart Simpson", "bart", "simpson"),
        ("John Earl", "John Earl", "john", "earl"),
        ("James Earl Jones", "James Earl Jones", "james earl", "jones"),
        ("Jones, Earl", "Earl Jones", "earl", "jones"),
        # nicknames
        ('William "Bill" Smith', "William Smith", "william", "smith"),
        ("William 'Bill' Smith", "William Smith", "william", "smith"),
        ("Charles Wakefield (numismatist)", "Charles Wakefield", "charles", "wakefield"),
        # quotes around all of it
        ('"Anna Schmidt"', "Anna Schmidt", "anna", "schmidt"),
        (' "Anna Schmidt"', "Anna Schmidt", "anna", "schmidt"),
        ("“Anna Schmidt”", "Anna Schmidt", "anna", "schmidt"),
        ("„Anna Schmidt“", "Anna Schmidt", "anna", "schmidt"),
        ("'Anna Schmidt'", "Anna Schmidt", "anna", "schmidt"),
        ("(Anna Schmidt)", "Anna Schmidt", "anna", "schmidt"),
        ('"Schmidt, Anna"', "Anna Schmidt", "anna", "schmidt"),
        ('"Sean O\'Brien"', "Sean O'Brien", "sean", "obrien"),
        # one word
        ("Anna", "Anna", "anna", None),
        ("J", "J", "j", None),
        # other letters
        ("Øystein Łukasz Straße", "Øystein Łukasz Straße", "oystein lukasz", "strasse"),
        ("Işık Yılmaz", "Işık Yılmaz", "isik", "yilmaz"),
        ("Æthelfrith Þórsson", "Æthelfrith Þórsson", "aethelfrith", "thorsson"),
        ("Анна Иванова", "Анна Иванова", "anna", "ivanova"),
        ("Γιώργος Παπαδόπουλος", "Γιώργος Παπαδόπουλος", "giorgos", "papadopoulos"),
        ("李小龍", "李小龍", "李小龍", None),
        ("김 민준", "김 민준", "김", "민준"),
        ("محمد علي", "محمد علي", "محمد", "علي"),
        # hostile
        ("Anna 😀 Müller", "Anna Müller", "anna", "muller"),
        ("\u202eJohn\u200b Sm\x00ith\u202c", "John Smith", "john", "smith"),
        ("Ｊｏｈｎ\u3000Ｓｍｉｔｈ", "John Smith", "john", "smith"),
        ("William 0almer", "William 0Almer", "william", "0almer"),
    ],
)
def test_full_name(full, name, given_name, family_name):
    assert row(normalize_name(series(full), series(None), series(None))) == (
        name,
        given_name,
        family_name,
        None,
    )


@pytest.mark.parametrize(
    ("full", "reason"),
    [
        (None, None),
        (" \u200b ", None),
        ("n/a", "placeholder"),
        ("Unknown", "placeholder"),
        ("test", "placeholder"),
        ("Test User 7", "placeholder"),
        ("test123", "placeholder"),
        ("customer", "placeholder"),
        ("NULL", "placeholder"),
        ("xxx", "placeholder"),
        ("aaaa bbb", "placeholder"),
        ("John Doe", "placeholder"),
        ("---", "placeholder"),
        ("😀", "placeholder"),
        ('"n/a"', "placeholder"),
        ('""', "placeholder"),
        ("#N/A", "placeholder"),
        ("#N/A #N/A", "placeholder"),
        ("#REF!, #REF!", "placeholder"),
        ("#NAME?", "placeholder"),
        ("#DIV/0!", "placeholder"),
        ("#WERT!", "placeholder"),
        ("keine Angabe", "placeholder"),
        ("k.A.", "placeholder"),
        ("k. A.", "placeholder"),
        ("ohne Namen", "placeholder"),
        ("non renseigné", "placeholder"),
        ("Non renseigné(e)", "placeholder"),
        ("Néant", "placeholder"),
        ("sin información", "placeholder"),
        ("Não informado", "placeholder"),
        ("desconhecida", "placeholder"),
        ("Sconosciuto", "placeholder"),
        ("n.v.t.", "placeholder"),
        ("Niet van toepassing", "placeholder"),
        ("Brak danych", "placeholder"),
        ("a" * 5000, "placeholder"),
        ("ab " * 2000, "too_long"),
        ("12345", "no_letters"),
        ("John Smith 42", "contains_digits"),
        ("j4n3 sm1th", "contains_digits"),
        ("john@acme.com", "email"),
        ("www.acme.com", "url"),
        ("<b>John</b>", "invalid_characters"),
        ("Robert'); DROP TABLE Students;--", "invalid_characters"),
        ("Mr.", "title_only"),
        ("Dr. med.", "title_only"),
        ("sir 1st baronet", "title_only"),
    ],
)
def test_no_name(full, reason):
    assert row(normalize_name(series(full), series(None), series(None))) == (None, None, None, reason)


@pytest.mark.parametrize(
    ("full", "given_part", "family_part", "result"),
    [
        (None, "ANNA", "MÜLLER", ("Anna Müller", "anna", "muller", None)),
        (None, "Anna", None, ("Anna", "anna", None, None)),
        (None, None, "van den Berg", ("van den Berg", None, "van den berg", None)),
        (None, "Mr. John", "Smith, Jr.", ("John Smith Jr", "john", "smith", None)),
        (None, "Jack", "Lord", ("Jack Lord", "jack", "lord", None)),
        (None, "sir", "middleton", ("Middleton", None, "middleton", None)),
        (None, "thomas", "bt.", ("Thomas", "thomas", None, None)),
        (None, "john", "john", ("John John", "john", "john", None)),
        (None, "unknown", "Smith", ("Smith", None, "smith", None)),
        (None, "test", "test", (None, None, None, "placeholder")),
        (None, "Hyun-woo", "Na", ("Hyun-woo Na", "hyun woo", "na", None)),
        (None, "jane", "guest", ("Jane Guest", "jane", "guest", None)),
        (None, "John", "Null", ("John Null", "john", "null", None)),
        (None, "John", "NULL", ("John", "john", None, None)),
        (None, "Bar", "Cohen", ("Bar Cohen", "bar", "cohen", None)),
        (None, "nan", "Smith", ("Smith", None, "smith", None)),
        (None, "Guest", "No", (None, None, None, "placeholder")),
        (None, "Guest", None, (None, None, None, "placeholder")),
        (None, "#N/A", "#N/A", (None, None, None, "placeholder")),
        (None, "Anna", "#NV", ("Anna", "anna", None, None)),
        (None, "k.A.", "Müller", ("Müller", None, "muller", None)),
        (None, "K.A.", "Müller", ("K.A. Müller", "k a", "muller", None)),
        (None, "Ka", "Kein", ("Ka Kein", "ka", "kein", None)),
        (None, '"Anna"', '"Braun"', ("Anna Braun", "anna", "braun", None)),
        (None, "Anna", "Müller geb. Schmidt", ("Anna Müller", "anna", "muller", None)),
        (None, "Anna", "Müller, geb. Schmidt", ("Anna Müller", "anna", "muller", None)),
        (None, "Soon", "Nee", ("Soon Nee", "soon", "nee", None)),
        (None, "Jan", "Berg, van der", ("Jan van der Berg", "jan", "van der berg", None)),
        (None, "Jan", "Vries, de", ("Jan de Vries", "jan", "de vries", None)),
        (None, "Ana", "Cruz, de la", ("Ana de la Cruz", "ana", "de la cruz", None)),
        (None, "Jan", "Hof, van 't", ("Jan van 't Hof", "jan", "van t hof", None)),
        (None, "Jan", "v.d. Berg", ("Jan van der Berg", "jan", "van der berg", None)),
        (None, "Karl", "Schmidt sen.", ("Karl Schmidt Sr", "karl", "schmidt", None)),
        ("Anna Müller", "Anna", "Null", ("Anna Müller", "anna", "muller", None)),
        (None, "Imam", "Santoso", ("Imam Santoso", "imam", "santoso", None)),
        (None, "Hon Wai", "Lee", ("Hon Wai Lee", "hon wai", "lee", None)),
        (None, "Maj Britt Eva", "Berg", ("Maj Britt Eva Berg", "maj britt eva", "berg", None)),
        (None, "Dr. med.", "Müller", ("Müller", None, "muller", None)),
        (None, "Hans", "Müller, Dipl.-Ing.", ("Hans Müller", "hans", "muller", None)),
        (None, "JOHN", "McDONALD", ("John McDONALD", "john", "mcdonald", None)),
        (None, "John42", "Smith", (None, None, None, "contains_digits")),
        ("sir art middleton", "sir", "middleton", ("Art Middleton", "art", "middleton", None)),
        ("handel edward luke", "handel", "luke", ("Handel Edward Luke", "handel edward", "luke", None)),
        (
            "Maria Garcia Lopez",
            "Maria",
            "Garcia Lopez",
            ("Maria Garcia Lopez", "maria", "garcia lopez", None),
        ),
        ("middleton", None, "middleton", ("Middleton", None, "middleton", None)),
        ("William William", None, None, ("William William", "william", "william", None)),
        ("Anna Müller", "Anna", None, ("Anna Müller", "anna", "muller", None)),
        ("n/a", "Anna", "Müller", ("Anna Müller", "anna", "muller", None)),
    ],
)
def test_name_in_parts(full, given_part, family_part, result):
    assert row(normalize_name(series(full), series(given_part), series(family_part))) == result


@pytest.mark.parametrize(
    ("raw", "day_first", "birth_date", "reason"),
    [
        ("1980-03-12", False, date(1980, 3, 12), None),
        ("1980/3/12", False, date(1980, 3, 12), None),
        ("19800312", False, date(1980, 3, 12), None),
        ("19800312.0", False, date(1980, 3, 12), None),
        ("1980-03-12T10:15:00Z", False, date(1980, 3, 12), None),
        ("1980-03-12 00:00:00.000", False, date(1980, 3, 12), None),
        ("03/12/1980", False, date(1980, 3, 12), None),
        ("12/03/1980", True, date(1980, 3, 12), None),
        ("12.3.1980", True, date(1980, 3, 12), None),
        ("13/03/1980", False, date(1980, 3, 13), None),
        ("03/13/1980", True, date(1980, 3, 13), None),
        ("13031980", False, date(1980, 3, 13), None),
        ("3/12/80", False, date(1980, 3, 12), None),
        ("3/12/05", False, date(2005, 3, 12), None),
        ("3/12/26", False, date(1926, 3, 12), None),
        ("12 Mar 1980", False, date(1980, 3, 12), None),
        ("12-MAR-80", False, date(1980, 3, 12), None),
        ("12th of March, 1980", False, date(1980, 3, 12), None),
        ("March 12, 1980", False, date(1980, 3, 12), None),
        ("Wed, 12 Mar 1980", False, date(1980, 3, 12), None),
        ("1980-MAR-12", False, date(1980, 3, 12), None),
        ("12. März 1980", False, date(1980, 3, 12), None),
        ("12 août 1980", False, date(1980, 8, 12), None),
        ("12 de marzo de 1980", False, date(1980, 3, 12), None),
        ("１９８０－０３－１２", False, date(1980, 3, 12), None),
        ("\u200f1980-03-12\u200f", False, date(1980, 3, 12), None),
        ("1980-02-29", False, date(1980, 2, 29), None),
        ("1620-12-21", False, date(1620, 12, 21), None),
        ("2026-06-30", False, date(2026, 6, 30), None),
        (None, False, None, None),
        (" ", False, None, None),
        ("2026-07-01", False, None, "out_of_range"),
        ("0999-12-31", False, None, "out_of_range"),
        ("1900-01-01", False, None, "placeholder"),
        ("01/01/1900", False, None, "placeholder"),
        ("1970-01-01", False, None, "placeholder"),
        ("0001-01-01", False, None, "placeholder"),
        ("9999-12-31", False, None, "placeholder"),
        ("0000-00-00", False, None, "placeholder"),
        ("00/00/0000", False, None, "placeholder"),
        ("unknown", False, None, "placeholder"),
        ("1981-02-29", False, None, "no_such_day"),
        ("30 Feb 1980", False, None, "no_such_day"),
        ("1980-13-13", False, None, "no_such_day"),
        ("1980", False, None, "incomplete"),
        ("03/1980", False, None, "incomplete"),
        ("March 1980", False, None, "incomplete"),
        ("321667200", False, None, "not_a_date"),
        ("321667200000", False, None, "not_a_date"),
        ("29292", False, None, "not_a_date"),
        ("last summer", False, None, "not_a_date"),
        ("12 Foo 1980", False, None, "not_a_date"),
        ("'; drop table customers; --", False, None, "not_a_date"),
        ("1" * 5000, False, None, "not_a_date"),
    ],
)
def test_date(raw, day_first, birth_date, reason):
    assert row(normalize_date(series(raw), TODAY, day_first)) == (birth_date, reason)


@pytest.mark.parametrize(
    ("raw", "postal_code", "reason"),
    [
        ("CR0 4DT", "cr0 4dt", None),
        ("cr04dt", "cr0 4dt", None),
        (" SW1A-1AA ", "sw1a 1aa", None),
        ("PO22", "po22", None),
        ("90210", "90210", None),
        ("90210-1234", "90210", None),
        ("902101234", "90210", None),
        ("02138", "02138", None),
        ("2203.0", "2203", None),
        ("K1A 0B1", "k1a 0b1", None),
        ("k1a0b1", "k1a 0b1", None),
        ("1012AB", "1012 ab", None),
        ("1012 ab", "1012 ab", None),
        ("D-80331", "80331", None),
        ("CH 8000", "8000", None),
        ("DE80331", "80331", None),
        ("LV-1010", "1010", None),
        ("LV1010", "1010", None),
        ("AZ 1000", "1000", None),
        ("AZ1000", "1000", None),
        ("VLT 1010", "vlt1010", None),
        ("SLM 1010", "slm1010", None),
        ("NL-1012 AB", "1012 ab", None),
        ("CA 90210-1234", "90210", None),
        ("E14", "e14", None),
        ("N1 9GU", "n1 9gu", None),
        ("A65 F4E2", "a65f4e2", None),
        ("KY1-1001", "ky11001", None),
        ("D-00000", None, "placeholder"),
        ("75 001", "75001", None),
        ("123-4567", "1234567", None),
        ("D02 AF30", "d02af30", None),
        ("９０２１０", "90210", None),
        ("902\u200b10", "90210", None),
        (None, None, None),
        ("", None, None),
        ("00000", None, "placeholder"),
        ("99999", None, "placeholder"),
        ("00000-0000", None, "placeholder"),
        ("N/A", None, "placeholder"),
        ("xxxxx", None, "placeholder"),
        ("?", None, "placeholder"),
        ("#DIV/0!", None, "placeholder"),
        ("1,0115E+04", None, "scientific_notation"),
        ("1.0115e4", None, "scientific_notation"),
        ("8E+04", None, "scientific_notation"),
        ("1E5", "1e5", None),
        ("London", None, "no_digits"),
        ("12", None, "too_short"),
        ("123456789012", None, "too_long"),
        ("1" * 5000, None, "too_long"),
    ],
)
def test_postal_code(raw, postal_code, reason):
    assert row(normalize_postal_code(series(raw))) == (postal_code, reason)


@pytest.mark.parametrize(
    ("raw", "address", "reason"),
    [
        ("12 High Street, Apartment 4", "12 high st apt 4", None),
        ("12 HIGH ST. APT 4", "12 high st apt 4", None),
        ("12 High St., Unit #4", "12 high st apt 4", None),
        ("Hauptstraße 5", "hauptstr 5", None),
        ("Hauptstr. 5", "hauptstr 5", None),
        ("Hauptstrasse 5", "hauptstr 5", None),
        ("No. 5, St John's Road", "5 st johns rd", None),
        ("5 Saint Johns Rd", "5 st johns rd", None),
        ("P.O. Box 123", "po box 123", None),
        ("PO Box 123", "po box 123", None),
        ("350 Fifth Avenue North", "350 5th ave n", None),
        ("221B Baker Street", "221b baker st", None),
        ("12/34 Park Avenue", "12 34 park ave", None),
        ("5 street street", "5 st st", None),
        ("１２ Élysées", "12 elysees", None),
        ("5½ Main St", "5 1 2 main st", None),
        ("Hauptstr. 5²", "hauptstr 5 2", None),
        ("5 Main St @ 2nd Ave", "5 main st 2nd ave", None),
        ("ул. Ленина 5", "ul lenina 5", None),
        ("12 High St 😀", "12 high st", None),
        (None, None, None),
        ("n/a", None, "placeholder"),
        ("Unknown, N/A", None, "placeholder"),
        ("same as above", None, "placeholder"),
        ("#N/A", None, "placeholder"),
        ("#VALUE!", None, "placeholder"),
        ("keine Angabe", None, "placeholder"),
        ("s/n", None, "placeholder"),
        ("Não informado", None, "placeholder"),
        ("...", None, "placeholder"),
        ("joe@acme.com", None, "email"),
        ("<script>alert(1)</script>", None, "invalid_characters"),
        ("12", None, "no_letters"),
        ("A1", None, "too_short"),
        ("high st " * 100, None, "too_long"),
    ],
)
def test_address(raw, address, reason):
    assert row(normalize_address(series(raw))) == (address, reason)


@pytest.mark.parametrize(
    ("raw", "city", "reason"),
    [
        ("München", "munchen", None),
        ("80331 München", "munchen", None),
        ("Paris 75011", "paris", None),
        ("St. Louis", "st louis", None),
        ("SAINT LOUIS", "st louis", None),
        ("Stratford-upon-Avon", "stratford upon avon", None),
        ("L'Aquila", "laquila", None),
        ("Springfield (IL)", "springfield", None),
        ("Łódź", "lodz", None),
        ("Москва", "moskva", None),
        ("東京", "東京", None),
        (None, None, None),
        ("n/a", None, "placeholder"),
        ("#N/A", None, "placeholder"),
        ("#NAME?", None, "placeholder"),
        ("inconnue", None, "placeholder"),
        ("non renseigné", None, "placeholder"),
        ("S/D", None, "placeholder"),
        ("n.v.t.", None, "placeholder"),
        ("Onbekend", None, "placeholder"),
        ("City", None, "placeholder"),
        ("-", None, "placeholder"),
        ("12345", None, "no_letters"),
        ("joe@acme.com", None, "email"),
        ("<b>Rome</b>", None, "invalid_characters"),
        ("rome " * 50, None, "too_long"),
    ],
)
def test_city(raw, city, reason):
    assert row(normalize_city(series(raw))) == (city, reason)


@pytest.mark.parametrize(
    ("raw", "national_id", "reason"),
    [
        ("219-45-6781", "219456781", None),
        ("6295703", "6295703", None),
        ("6295703.0", "6295703", None),
        ("AB 12 34 56 C", "ab123456c", None),
        ("AB１２３４５６C", "ab123456c", None),
        (None, None, None),
        ("123-45-6789", None, "placeholder"),
        ("000-00-0000", None, "placeholder"),
        ("999999999", None, "placeholder"),
        ("078-05-1120", None, "placeholder"),
        ("n/a", None, "placeholder"),
        ("--", None, "placeholder"),
        ("8,00101E+12", None, "scientific_notation"),
        ("8.00101e+12", None, "scientific_notation"),
        ("8e12345", "8e12345", None),
        ("pending", None, "no_digits"),
        ("1239", None, "too_short"),
        ("12" * 50, None, "too_long"),
    ],
)
def test_national_id(raw, national_id, reason):
    assert row(normalize_national_id(series(raw))) == (national_id, reason)


@pytest.mark.parametrize(
    ("raw", "event_ts", "reason"),
    [
        ("2024-01-02T03:04:05Z", datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC), None),
        ("2024-01-02T03:04:05.123456Z", datetime(2024, 1, 2, 3, 4, 5, 123456, tzinfo=UTC), None),
        ("2024-01-02T03:04:05.123456789Z", datetime(2024, 1, 2, 3, 4, 5, 123456, tzinfo=UTC), None),
        ("2024-01-02T03:04:05,5Z", datetime(2024, 1, 2, 3, 4, 5, 500000, tzinfo=UTC), None),
        ("2024-01-02T03:04:05+02:00", datetime(2024, 1, 2, 1, 4, 5, tzinfo=UTC), None),
        ("2024-01-02T03:04:05+0230", datetime(2024, 1, 2, 0, 34, 5, tzinfo=UTC), None),
        ("2024-01-02T03:04:05-08", datetime(2024, 1, 2, 11, 4, 5, tzinfo=UTC), None),
        ("2024-01-02T03:04:05", datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC), None),
        ("2024-01-02 03:04:05 UTC", datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC), None),
        ("2024-01-02 03:04", datetime(2024, 1, 2, 3, 4, tzinfo=UTC), None),
        ("2024-01-02", datetime(2024, 1, 2, tzinfo=UTC), None),
        ("20240102T030405Z", datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC), None),
        ("1704164645", datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC), None),
        ("1704164645.5", datetime(2024, 1, 2, 3, 4, 5, 500000, tzinfo=UTC), None),
        ("1704164645123", datetime(2024, 1, 2, 3, 4, 5, 123000, tzinfo=UTC), None),
        ("1704164645123456", datetime(2024, 1, 2, 3, 4, 5, 123456, tzinfo=UTC), None),
        ("1704164645123456789", datetime(2024, 1, 2, 3, 4, 5, 123456, tzinfo=UTC), None),
        ("2026-07-01T11:59:59Z", datetime(2026, 7, 1, 11, 59, 59, tzinfo=UTC), None),
        (None, DELIVERED, None),
        ("  ", DELIVERED, None),
        ("2026-07-01T12:00:01Z", DELIVERED, "out_of_range"),
        ("9999-12-31T23:59:59Z", DELIVERED, "out_of_range"),
        ("1969-12-31T23:59:59Z", DELIVERED, "out_of_range"),
        ("0001-01-01", DELIVERED, "out_of_range"),
        ("2024-02-30T00:00:00Z", DELIVERED, "not_a_timestamp"),
        ("yesterday", DELIVERED, "not_a_timestamp"),
        ("0", DELIVERED, "not_a_timestamp"),
        ("-1704164645", DELIVERED, "not_a_timestamp"),
        ("9" * 5000, DELIVERED, "not_a_timestamp"),
        ("9" * 14, DELIVERED, "out_of_range"),
    ],
)
def test_timestamp(raw, event_ts, reason):
    assert row(normalize_timestamp(series(raw), DELIVERED, NOW)) == (event_ts, reason)


def test_timestamp_falls_back_to_its_own_row():
    fallback = pl.Series([datetime(2026, 6, day, tzinfo=UTC) for day in (1, 2, 3)])
    found = normalize_timestamp(series("2024-01-02", None, "soon"), fallback, NOW)
    assert found["event_ts"].to_list() == [datetime(2024, 1, 2, tzinfo=UTC), fallback[1], fallback[2]]


NORMALIZERS = {
    "email": normalize_email,
    "phone": lambda values: normalize_phone(values, "US"),
    "birth_date": lambda values: normalize_date(values, TODAY),
    "postal_code": normalize_postal_code,
    "address": normalize_address,
    "city": normalize_city,
    "national_id": normalize_national_id,
    "name": lambda values: normalize_name(values, values.clear(len(values)), values.clear(len(values))),
    "parts": lambda values: normalize_name(values.clear(len(values)), values, values.reverse()),
}
PIECES = st.sampled_from(
    [
        "dr",
        ",",
        "sir",
        "2nd",
        "baron",
        "of",
        "van",
        "der",
        "jr",
        "o'",
        "@",
        "x.com",
        "+1",
        "(0)",
        "12",
        "/",
        "-",
        ".",
        "mar",
        "'",
        '"',
    ]
)
VALUES = st.lists(
    st.none() | st.text(max_size=40) | st.lists(PIECES | st.text(max_size=6), max_size=6).map(" ".join),
    max_size=8,
)


@pytest.mark.parametrize("attribute", NORMALIZERS)
@settings(deadline=None, max_examples=25, derandomize=True)
@given(VALUES)
def test_any_text_gives_a_value_or_a_reason(attribute, values):
    result = NORMALIZERS[attribute](series(*values))
    assert result.height == len(values)
    for *found, reason in result.iter_rows():
        assert reason is None or found == [None] * len(found)
        assert "" not in found


@pytest.mark.parametrize("attribute", [attribute for attribute in NORMALIZERS if attribute != "parts"])
@settings(deadline=None, max_examples=12, derandomize=True)
@given(VALUES)
def test_a_value_does_not_depend_on_its_neighbours(attribute, values):
    normalize = NORMALIZERS[attribute]
    together = normalize(series(*values, *values, *values)).head(len(values)).rows()
    assert together == [row(normalize(series(value))) for value in values]


@pytest.mark.parametrize("attribute", ["email", "phone", "postal_code", "city", "national_id"])
@settings(deadline=None, max_examples=25, derandomize=True)
@given(VALUES)
def test_a_settled_value_stays(attribute, values):
    settled = NORMALIZERS[attribute](series(*values))[attribute]
    assert NORMALIZERS[attribute](settled)[attribute].to_list() == settled.to_list()


def test_no_rows():
    for normalize in NORMALIZERS.values():
        assert normalize(series()).height == 0
    assert normalize_timestamp(series(), DELIVERED, NOW).height == 0
