"""The report and the summary: what they say, that they are whole, and that data cannot break them."""

import re
from datetime import UTC, datetime
from html.parser import HTMLParser

import pytest

from gold.quality_report import render
from gold.run_summary import lines

EVIL = "<script>alert(1)</script>&\"'$x^2$"
LEVELS = [{"name": "exact", "m": 0.9, "u": 0.001}, {"name": "else", "m": 0.1, "u": 0.999}]


def figures(**changed):
    """What quality_report.sql gives for a small run."""
    return {
        "run_id": 3,
        "started_at": datetime(2026, 3, 5, 4, tzinfo=UTC),
        "delivered": 12_345,
        "readable": 12_340,
        "records": 12_000,
        "customers": 4_000,
        "in_several_sources": 1_000,
        "conflicts": 2,
        "review_items": 1,
        "review_capped": None,
        "metrics": [
            ["conflicts", "different_name", 2, None],
            ["customers_of_size", "1", 3000, None],
            ["customers_of_size", "2", 1000, None],
        ],
        "scores": [["AUTO_MERGE", 95, 900], ["FLAG_REVIEW", 60, 30], ["REJECT", 0, 50]],
        "model": {
            "version": 1,
            "method": "em",
            "auto_merge": 0.9,
            "flag_review": 0.5,
            "names": ["email", "name"],
            "comparisons": [LEVELS, LEVELS],
            "support": [900.0, 0.0],
        },
        "quality": [
            {
                "source": "sales",
                "attribute": "email",
                "values": 900,
                "completeness": 0.9,
                "validity": 1,
                "uniqueness": None,
                "consistency": 0.5,
                "timeliness": 1,
            }
        ],
        "trends": [[run, "customers", "all", 1000 * run] for run in (1, 2, 3)],
        "warnings": None,
        "queue": [
            {
                "kind": "flagged_pair",
                "priority": 3,
                "customer": "0" * 36,
                "other": "1" * 36,
                "since": "2026-03-01T00:00:00+00:00",
                "reason": "phone exact +17.1 = 71.4 of 100",
            }
        ],
    } | changed


class Tags(HTMLParser):
    """The tags of a page, and whether they are nested."""

    VOID = {"meta", "br", "link", "img", "input"}

    def __init__(self, page):
        super().__init__()
        self.seen, self.stack = set(), []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.seen.add(tag)
        if tag not in self.VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.seen.add(tag)

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag


def test_a_page_is_whole_and_needs_nothing_else():
    page = render(figures())
    tags = Tags(page)
    assert tags.stack == []
    assert not tags.seen & {"script", "link", "img", "iframe"}
    assert re.findall(r"(?:src|href)=", page) == []
    assert page.count("<svg ") == 7


def test_the_page_says_the_figures():
    page = render(figures())
    for text in (
        "4,000",
        "12,345",
        "67%",
        "run 3",
        "2026-03-05 04:00 UTC",
        "phone exact +17.1 = 71.4 of 100",
    ):
        assert text in page


def test_what_is_not_shown_or_not_trained_is_said():
    twelve = [
        [3, "match_rate", f"{one} in {other}", 0.5] for one in "abcd" for other in "abcd" if one != other
    ]
    page = render(figures(trends=twelve))
    assert "and 4 lower ones, in gold.run_metrics" in page
    assert "trained on the data; grey: as written, not trained" in page
    model = figures()["model"]
    page = render(figures(model=model | {"support": [900.0, 1.0]}))
    assert "trained on the data<" in page and "lower ones" not in page
    page = render(figures(model=model | {"method": "written", "support": [0.0, 0.0]}))
    assert "as written in matching/model.toml<" in page


def test_a_queue_that_shows_as_many_as_it_can_says_so():
    waiting = [["review_queue", "conflict", 4, None], ["review_queue", "flagged_pair", 200, None]]
    page = render(figures(metrics=waiting, review_items=204, review_capped=["flagged_pair"]))
    assert "<b>204+</b>" in page and "4 conflict, 200+ flagged pair" in page


def test_hostile_text_stays_text():
    page = render(
        figures(
            metrics=[["conflicts", EVIL, 2, None], ["customers_of_size", "1", 1, None]],
            trends=[[1, "match_rate", EVIL, 0.5], [1, "match_rate", "b", 0.4]],
            quality=[figures()["quality"][0] | {"source": EVIL, "attribute": EVIL}],
            queue=[figures()["queue"][0] | {"reason": EVIL, "kind": EVIL}],
            warnings=[{"metric": EVIL, "subject": EVIL, "value": 0.5, "usual": 0.1, "run_count": 5}],
        )
    )
    tags = Tags(page)
    assert "script" not in tags.seen and tags.stack == []


def test_an_empty_database_has_a_report_too():
    empty = dict.fromkeys(("scores", "model", "quality", "trends", "warnings", "queue"))
    page = render(
        figures(delivered=0, readable=0, records=0, customers=0, in_several_sources=0, metrics=[], **empty)
    )
    assert "Nothing waits for a steward." in page


def test_the_same_figures_give_the_same_page():
    assert render(figures()) == render(figures())


@pytest.fixture
def measured(database, run_phase):
    """One source record, one customer, and their metrics."""
    database.execute(
        "insert into gold.pipeline_runs (trigger, status) select 'test', 'done' from generate_series(1, 3);"
        "insert into identity.customers (global_customer_id, status, record_count, created_run_id, run_id) "
        "values ('00000000-0000-8000-8000-000000000001', 'live', 1, 1, 1);"
        "insert into identity.memberships values (1, 1, 1, 100, '00000000-0000-8000-8000-000000000001', null, "
        "'alone')"
    )
    run_phase("gold/run_quality_metrics.py", MDM_RUN_ID="1")
    return database


def test_the_report_lies_in_the_lake_once_per_change(measured, lake, run_phase, tmp_path):
    latest = str(tmp_path / "latest.html")
    run_phase("gold/run_quality_report.py", "--latest", latest, MDM_RUN_ID="1")
    assert [listed.key for listed in lake.list("reports/")] == [
        "reports/latest.html",
        "reports/run=000001/quality.html",
    ]
    assert lake.get("reports/run=000001/quality.html") == (tmp_path / "latest.html").read_bytes()
    assert (
        "nothing to do" in run_phase("gold/run_quality_report.py", "--latest", latest, MDM_RUN_ID="2").stdout
    )


def test_a_copy_that_cannot_be_written_is_a_warning(measured, lake, run_phase, tmp_path):
    in_the_way = tmp_path / "latest.html"
    in_the_way.mkdir()
    ended = run_phase("gold/run_quality_report.py", "--latest", str(in_the_way), MDM_RUN_ID="1")
    assert f"warning: {in_the_way} cannot be written: Is a directory." in ended.stderr
    assert list(tmp_path.iterdir()) == [in_the_way]
    assert lake.exists("reports/run=000001/quality.html")
    [(warnings,)] = measured.query(
        "select detail -> 'warnings' from gold.pipeline_phases where script = 'run_quality_report'"
    )
    assert "reports/run=000001/quality.html" in warnings[0]


# -- the summary -------------------------------------------------------------------------------------------


def summary(**changed):
    """What run_summary.sql gives."""
    return {
        "run_id": 7,
        "status": "done",
        "started_at": datetime(2026, 3, 5, 4, tzinfo=UTC),
        "seconds": 12.34,
        "records_in": 9108,
        "records_by_source": {"sales": 3036, "support": 6072},
        "quarantined": 3,
        "pairs": 9361,
        "decisions": {"AUTO_MERGE": 7448, "FLAG_REVIEW": 172, "REJECT": 1741},
        "customers": 2961,
        "new_customers": 2961,
        "changed_customers": 0,
        "merged_customers": 12,
        "closed_customers": None,
        "conflicts": 3,
        "conflicts_by_kind": {"different_name": 1, "alternating_email": 2},
        "review_items": 0,
        "review_by_kind": None,
        "review_capped": None,
        "warnings": [{"metric": "completeness", "subject": "sales.email", "value": 0.5, "usual": 0.9}],
        "more_warnings": 0,
        "phases": [
            {"phase": "2", "script": "minio_to_raw", "status": "done", "seconds": 1.5, "skipped": False},
            {"phase": "9A", "script": "run_golden_cdc", "status": "done", "seconds": 0.02, "skipped": True},
        ],
    } | changed


def test_the_summary_reads_well():
    text = "\n".join(lines(summary()))
    for line in (
        "Run 7  2026-03-05 04:00 UTC, 12.3 s",
        "  records in            9,108  6,072 support, 3,036 sales",
        "  quarantined               3  see raw.rejected_records",
        "  pairs compared        9,361  7,448 auto merge, 1,741 reject, 172 flag review",
        "  customers             2,961  2,961 new, 0 changed, 12 merged, 0 closed",
        "  conflicts                 3  2 email, 1 name",
        "  review queue              0",
        "  warning: completeness of sales.email is 50.0%, usually 90.0%",
    ):
        assert line in text.splitlines()
    assert "\x1b" not in text


def test_a_kind_that_the_queue_cuts_off_is_counted_so():
    waiting = {"review_items": 204, "review_by_kind": {"conflict": 4, "flagged_pair": 200}}
    assert "  review queue           204+  200+ flagged pair, 4 conflict" in lines(
        summary(**waiting, review_capped=["flagged_pair"])
    )


def test_no_line_is_longer_than_the_terminal():
    many = {f"a_source_of_a_long_name_{number}": 1_000_000 for number in range(9)}
    for line in lines(summary(records_by_source=many, records_in=9_000_000, conflicts_by_kind=many)):
        assert len(line) <= 80


def test_the_summary_of_the_last_run_and_of_none(measured, run_phase):
    assert "customers                 1" in run_phase("gold/run_summary.py", MDM_RUN_ID="1").stdout
    measured.execute("truncate gold.pipeline_phases, gold.pipeline_runs")
    assert "No run yet" in run_phase("gold/run_summary.py").stdout
