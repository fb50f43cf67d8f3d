"""Phase 1: the demo's three systems deliver the next simulated day (or the asked one) to the lake.

Orders, tickets and leads of one population go to sales/, support/ and marketing/; which person is behind each
record goes to _truth/, which the pipeline never reads. Run again, it delivers the next day: returning and new
customers, changed mailboxes and numbers, corrections and withdrawals of earlier records, late arrivals.
"""

from db.errors import run_script
from producers.delivery import asked_days, parser, produce, report, store_of
from producers.marketing import MARKETING
from producers.sales import SALES
from producers.support import SUPPORT

SOURCES = [SALES, SUPPORT, MARKETING]


def main(argv: list[str] | None = None) -> int:
    """Deliver, and print a line per source."""
    arguments = parser(__doc__).parse_args(argv)
    store = store_of(arguments)
    days = asked_days(store, SOURCES, arguments)
    print(report(days, produce(store, SOURCES, days, arguments)))
    return 0


if __name__ == "__main__":
    run_script(main)
