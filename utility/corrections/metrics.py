"""What the utility counts of findings and corrections."""

from commonwatt.settlement.validation.day import Check
from utility.corrections.store.checking import count_open
from utility.corrections.store.corrections import count_proposed
from utility.database.metrics import Count

COUNTS = (
    Count(
        "open_findings",
        "Open findings of the daily checks of readings, by check.",
        count_open,
        label="check",
        values=tuple(check.value for check in Check),
    ),
    Count("proposed_corrections", "Estimates of missing readings that wait for a person.", count_proposed),
)
