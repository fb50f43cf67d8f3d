"""The laws of the design, on days of the demo's producers."""

from db.settings import PROJECT
from tests.pipeline import check_laws

DEMO = PROJECT / "ingestion" / "sources.toml"


def test_run_twice_and_nothing_is_written(pipelines):
    demo = pipelines(DEMO)
    demo.produce(300)
    demo.run()
    check_laws(demo)
    before = demo.rows_on_disk()
    demo.run()
    after = demo.rows_on_disk()
    assert [table for table in before if before[table] != after[table]] == []
