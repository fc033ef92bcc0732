"""What the utility counts of tariffs."""

from utility.database.metrics import Count
from utility.tariffs.store.tariffs import count_proposals

COUNTS = (
    Count(
        name="proposed_rates",
        text="Versions of tariffs that wait for a second person.",
        of=count_proposals,
    ),
)
