"""The parts of ``docs/lte.md`` that are made from the measured lines."""

from harness.docs.marked import filled, refilled
from harness.docs.measured import kept


def lte_page() -> str:
    """Return ``docs/lte.md``."""
    steps, advice = kept(["lte"])["lte"].section.tables
    return refilled(filled("lte.md", "steps", steps.markdown()), "advice", advice.markdown())
