"""The parts of ``docs/sizing.md`` that are made from what was measured."""

from harness.docs.marked import filled, refilled
from harness.docs.measured import kept


def sizing_page() -> str:
    """Return ``docs/sizing.md``."""
    constants, towns = kept(["sizing"])["sizing"].section.tables
    return refilled(filled("sizing.md", "constants", constants.markdown()), "towns", towns.markdown())
