"""The parts of ``docs/sizing.md`` that are made from what was measured."""

from benchmarks.report import kept
from harness.docs.marked import filled, refilled


def sizing_page() -> str:
    """Return ``docs/sizing.md``."""
    constants, towns = kept(["sizing"])["sizing"].section.tables
    return refilled(filled("sizing.md", "constants", constants.markdown()), "towns", towns.markdown())
