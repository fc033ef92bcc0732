"""What the utility counts of decisions that an administrator must look at."""

from utility.access.store.second_people import BROKEN, REFUSED, unseen
from utility.database.metrics import Count

COUNTS = (
    Count(
        name="refused_second_persons",
        text="Attempts of people who may not be the second one, unseen by an administrator.",
        of=lambda connection: len(unseen(connection, REFUSED)),
    ),
    Count(
        name="break_glass_commands",
        text="Commands that decided without the service, unseen by an administrator.",
        of=lambda connection: len(unseen(connection, BROKEN)),
    ),
)
