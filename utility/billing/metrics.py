"""What the utility counts of bills."""

from utility.billing.store.billing import count_issued, count_runs
from utility.database.metrics import Count

COUNTS = (
    Count(
        "bill_runs",
        "Runs of bills, by state: draft, checked (waits for a second person), issued, cancelled.",
        count_runs,
        label="state",
        values=("draft", "checked", "issued", "cancelled"),
    ),
    Count("issued_bills", "Bills of the last month that was issued.", count_issued),
)
