"""What the utility counts of decisions that an administrator must look at."""

from utility.access.store.second_people import BROKEN, REFUSED, unseen
from utility.database.metrics import Count

COUNTS = (
    Count(
        "refused_second_persons",
        "Attempts of people who may not be the second one, unseen by an administrator.",
        lambda connection: len(unseen(connection, REFUSED)),
    ),
    Count(
        "break_glass_commands",
        "Commands that decided without the service, unseen by an administrator.",
        lambda connection: len(unseen(connection, BROKEN)),
    ),
)
