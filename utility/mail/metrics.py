"""What the utility counts of mails."""

from utility.database.metrics import Count
from utility.mail.message import State
from utility.mail.store import count_mails

COUNTS = (Count("mails", f"Mails by state: {', '.join(State)}.", count_mails, label="state", values=tuple(State)),)
