"""The demo's geography: countries, cities, and how phone numbers and postal codes are built there.

Data only. A phone number is a prefix and a count of subscriber digits, each combination a number that
libphonenumber holds for valid; a postal code is one of the city's prefixes and a pattern for the rest
(`#` a digit, `@` a letter).
"""

from dataclasses import dataclass

import numpy as np

# country: share of households, calling code, mobile prefixes, subscriber digits, rest of the postal code
COUNTRIES = {
    "US": (0.700, "1", "", 7, "##"),
    "GB": (0.080, "44", "7123 7234 7345 7411 7511 7712 7789 7801 7912 7980", 6, " #@@"),
    "DE": (0.065, "49", "160 162 163 170 171 172 173 174 175 176 177 178 179", 7, "##"),
    "FR": (0.040, "33", "612 623 645 661 677 682 750 766", 6, "###"),
    "ES": (0.030, "34", "606 616 626 636 646 656 666 676 686 696", 6, "###"),
    "IT": (0.030, "39", "320 328 329 333 334 335 338 339 340 347 348 349", 7, "##"),
    "PL": (0.020, "48", "50 51 53 57 60 66 69 72 73 78 79 88", 7, "-###"),
    "NL": (0.020, "31", "61 62 63 64 65", 7, "# @@"),
    "BR": (0.015, "55", "", 7, "##-###"),
}

# country | city | weight | prefixes of fixed lines (in the US for mobiles too) | prefixes of postal codes
CITIES = """
US|New York|83|212 646 917 718 347|100 101 102 103 104 112 113
US|Los Angeles|39|213 323 310 424|900 901 902 905
US|Chicago|27|312 773 872|606 607
US|Houston|23|713 281 832|770 771 772
US|Phoenix|16|602 480 623|850 852 853
US|Philadelphia|16|215 267|190 191
US|San Antonio|15|210|780 781 782
US|San Diego|14|619 858|920 921
US|Dallas|13|214 469 972|750 751 752
US|San Jose|10|408|950 951
US|Austin|10|512|786 787
US|Jacksonville|10|904|320 322
US|Fort Worth|9|817|760 761
US|Columbus|9|614|430 432
US|Indianapolis|9|317|460 462
US|Charlotte|9|704 980|281 282
US|San Francisco|9|415 628|940 941
US|Seattle|8|206 425|980 981
US|Denver|7|303 720|800 802
US|Washington|7|202|200 203
US|Nashville|7|615|370 372
US|Oklahoma City|7|405|730 731
US|El Paso|7|915|798 799
US|Boston|7|617 857|021 022
US|Portland|6|503 971|970 972
US|Las Vegas|6|702|889 891
US|Detroit|6|313|481 482
US|Memphis|6|901|380 381
US|Louisville|6|502|400 402
US|Baltimore|6|410 443|210 212
US|Milwaukee|6|414|530 532
US|Albuquerque|6|505|870 871
US|Tucson|5|520|856 857
US|Fresno|5|559|936 937
US|Sacramento|5|916|957 958
US|Kansas City|5|816|640 641
US|Atlanta|5|404 678 770|300 303
US|Omaha|5|402|680 681
US|Colorado Springs|5|719|808 809
US|Raleigh|5|919|275 276
US|Miami|9|305 786|330 331
US|Virginia Beach|4|757|234 235
US|Minneapolis|4|612 763|553 554
US|Tulsa|4|918|740 741
US|Tampa|4|813|335 336
US|New Orleans|4|504|700 701
US|Wichita|4|316|671 672
US|Cleveland|4|216|440 441
US|Honolulu|3|808|967 968
US|Lexington|3|859|404 405
US|St. Louis|3|314|630 631
US|Pittsburgh|3|412|151 152
US|Anchorage|3|907|995 996
US|Cincinnati|3|513|450 452
US|Newark|3|973 862|070 071
US|Orlando|3|407 321|327 328
US|Buffalo|3|716|140 142
US|Richmond|2|804|230 232
US|Boise|2|208|836 837
US|Spokane|2|509|990 992
US|Des Moines|2|515|501 503
US|Salt Lake City|2|801|840 841
US|Providence|2|401|028 029
US|Birmingham|2|205|350 352
US|Charleston|2|843|294 295
GB|London|89|207 208|N1 N7 E1 E8 SE1 SE5 SW1 SW9 W1 W6 NW1 NW3
GB|Birmingham|11|1214 1217|B1 B5 B13 B29
GB|Manchester|6|1612 1618|M1 M4 M14 M20
GB|Leeds|8|1132|LS1 LS6 LS11
GB|Glasgow|6|1413|G1 G12 G41
GB|Bristol|5|1179|BS1 BS3 BS8
GB|Edinburgh|5|1315|EH1 EH6 EH9
GB|Cardiff|4|2920|CF10 CF11 CF24
DE|Berlin|36|30|101 104 107 109 120 130
DE|Hamburg|18|40|200 203 220 224
DE|München|15|89|803 805 812 816
DE|Köln|11|221|506 508 509 511
DE|Frankfurt am Main|8|69|603 604 605
DE|Stuttgart|6|711|701 703 705
DE|Düsseldorf|6|211|402 404
DE|Leipzig|6|341|041 042 043
FR|Paris|22|142 143|750
FR|Marseille|9|491|130
FR|Lyon|5|478|690
FR|Toulouse|5|561|310
FR|Nice|3|493|060
FR|Nantes|3|240|440
FR|Besançon|1|381|250
ES|Madrid|33|91|280
ES|Barcelona|16|93|080
ES|València|8|96|460
ES|Sevilla|7|95|410
ES|Zaragoza|7|976|500
ES|Málaga|6|952|290
IT|Roma|28|06|001
IT|Milano|14|02|201
IT|Napoli|9|081|801
IT|Torino|8|011|101
IT|Palermo|6|091|901
IT|Bologna|4|051|401
PL|Warszawa|18|22|00 01 02 03
PL|Kraków|8|12|30 31
PL|Łódź|7|42|90 91
PL|Wrocław|6|71|50 51
PL|Poznań|5|61|60 61
PL|Gdańsk|5|58|80
NL|Amsterdam|9|20|101 102 105 107
NL|Rotterdam|7|10|301 303 306
NL|Den Haag|6|70|251 256
NL|Utrecht|4|30|351 358
NL|Eindhoven|2|40|561 565
BR|São Paulo|12|11|010 013 041 050
BR|Rio de Janeiro|7|21|200 220
BR|Brasília|3|61|700 702
BR|Salvador|3|71|400 416
BR|Fortaleza|3|85|600 601
"""

# Subscriber digits of a fixed line by the length of its prefix, where they are not seven.
FIXED_DIGITS = {("GB", 4): 6, ("FR", 3): 6, ("ES", 3): 6}


@dataclass(frozen=True)
class Cities:
    """Parallel arrays, one element per city, grouped by country in the order of COUNTRIES."""

    name: np.ndarray
    country: np.ndarray
    first: np.ndarray  # per country: its first city, and one past the last
    cumulative: np.ndarray  # country's number + cumulative share within the country
    fixed: list[list[str]]
    postal: list[list[str]]


def read_cities() -> Cities:
    """The table above as arrays."""
    codes = list(COUNTRIES)
    rows = [line.split("|") for line in CITIES.strip().splitlines()]
    rows.sort(key=lambda row: codes.index(row[0]))
    country = np.array([codes.index(row[0]) for row in rows])
    weights = np.array([float(row[2]) for row in rows])
    cumulative = np.concatenate(
        [c + np.cumsum(weights[country == c]) / weights[country == c].sum() for c in range(len(codes))]
    )
    return Cities(
        name=np.array([row[1] for row in rows], dtype=object),
        country=country,
        first=np.searchsorted(country, np.arange(len(codes) + 1)),
        cumulative=cumulative,
        fixed=[row[3].split() for row in rows],
        postal=[row[4].split() for row in rows],
    )
