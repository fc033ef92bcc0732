"""What the utility counts of tariffs."""

from utility.database.metrics import Count
from utility.tariffs.store.tariffs import count_proposals

COUNTS = (Count("proposed_rates", "Versions of tariffs that wait for a second person.", count_proposals),)
