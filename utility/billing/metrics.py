"""What the utility counts of bills."""

from utility.billing.store.billing import count_issued, count_runs
from utility.database.metrics import Count

COUNTS = (
    Count(
        name="bill_runs",
        text="Runs of bills, by state: draft, checked (waits for a second person), issued.",
        of=count_runs,
        label="state",
        values=("draft", "checked", "issued"),
    ),
    Count(name="issued_bills", text="Bills of the last month that was issued.", of=count_issued),
)
