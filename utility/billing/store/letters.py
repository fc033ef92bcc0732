"""Makes letters of printed bills: contacts by their digests, the tariff's currency and words, the office."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from commonwatt.config.utility import UtilitySettings
from commonwatt.model.time.local_calendar import local_day
from utility.billing.documents.letter import letter_of
from utility.billing.documents.statement import Statement
from utility.billing.store.bill_documents import RunDocuments
from utility.billing.store.billing import run_of
from utility.customers.store.contacts import contact_of, office_key
from utility.database.database import Database
from utility.ledger.store.entries import owed_before


def as_letters(
    database: Database, settings: UtilitySettings, documents: RunDocuments, statements: Iterable[Statement]
) -> Iterator[Statement]:
    """Yield the statements of a run's bills with their letters, if the town uses any.

    Raises:
        ConfigError: The office's key or its code for banks is wrong.
    """
    issued = database.read(run_of, documents.number)["issued"]
    for statement in statements:
        bill = statement.bill
        key = database.read(office_key, settings.office) if bill.addressee else b""
        to = database.read(contact_of, key, bill.addressee) if bill.addressee else None
        day = None if issued is None else local_day(issued, statement.zone)
        days = settings.billing.payment_days
        owed = database.read(owed_before, bill.account, documents.number) or 0
        letter = letter_of(settings.office, bill, documents.number, documents.table(bill), to, day, days, owed)
        yield replace(statement, letter=letter)
