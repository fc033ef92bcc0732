"""The report's page."""

from harness.docs.generate import DOCS, report_page


def test_report_page_is_what_the_code_says() -> None:
    assert (DOCS / "report.md").read_text() == report_page(), "docs/report.md is out of date: run make docs"
