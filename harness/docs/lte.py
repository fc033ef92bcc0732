"""The parts of ``docs/lte.md`` that are made from the measured lines."""

from benchmarks.report import kept
from harness.docs.marked import filled, refilled


def lte_page() -> str:
    """Return ``docs/lte.md``."""
    steps, _, advice = kept(["lte"])["lte"].section.tables
    return refilled(filled("lte.md", "steps", steps.markdown()), "advice", advice.markdown())
