"""The parts of ``docs/operations.md`` that are made from what was measured."""

from harness.docs.marked import filled, refilled
from harness.docs.measured import kept


def operations_page() -> str:
    """Return ``docs/operations.md``."""
    constants, towns = kept(["sizing"])["sizing"].section.tables
    return refilled(filled("operations.md", "constants", constants.markdown()), "towns", towns.markdown())
