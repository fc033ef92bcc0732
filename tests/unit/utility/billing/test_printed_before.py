"""Printed bills of a town that uses no names, taxes or currency: their bytes are those of before there were any."""

import hashlib
import re
import zlib
from zoneinfo import ZoneInfo

import pytest

from tests.unit.utility.billing.test_check_bill import SECRET
from tests.unit.utility.billing.test_documents import made
from utility.billing.documents.pdf import as_pdf
from utility.billing.documents.receipt import quarters_of_accounts
from utility.billing.documents.statement import Statement

# Of the bills of these random worlds, as the program before printed them.
BEFORE = {
    0: "a5342c1577821f1cdefafc9e6ae3905c1efdead73a36db7beaa495e6eb82c690",
    1: "f7c094de71b31433bb44c16bdabc1c36cd7abadc649e205ec8c7303870369467",
    2: "980dc0275f0dc1b64989a4a84c64d1f5a451853746aa014f684a774f9f490750",
    3: "51bd7027ce158dd0f5944f274715e0892aa62be094f27cb4dff949f08d952fbb",
    4: "d4e67ae3b1bb6c0dd6ad07e3b640c9351df00d34b67a2bcef05853bbba08d13a",
    5: "4fec0eafcd6ad978cd846a7cbc8dbed4c89d88c6517a909f372dc04cfe295c2e",
}


def content(paper: bytes) -> bytes:
    """Return a document whose streams are not compressed: what compresses may differ between machines."""
    paper = re.sub(rb"/Length \d+|/Producer [^\n]*|startxref\n\d+|\d{10} 00000 n", b"", paper)
    parts = re.split(rb"stream\n(.*?)\nendstream", paper, flags=re.DOTALL)
    return b"".join(zlib.decompress(part) if n % 2 and part[:1] == b"x" else part for n, part in enumerate(parts))


@pytest.mark.parametrize("seed", [0, 1, 2, 3, 4, 5])
def test_printed_bills_of_a_town_that_uses_nothing_new_are_the_same_bytes(seed: int) -> None:
    world, bills = made(seed)
    head = bills.tree(SECRET).head
    digest = hashlib.sha256()
    for number, billed in sorted(bills.billed.items()):
        meters = tuple(quarters_of_accounts(bills.run.inputs(), [number], world.load)[number])
        zone = ZoneInfo(bills.run.timezone)
        for state, its_head, its_meters in (("issued", head, meters), ("draft", None, ())):
            statement = Statement(
                bill=billed.bill, customer="house", zone=zone, meters=its_meters, state=state, head=its_head
            )
            digest.update(content(as_pdf(statement)))
    assert digest.hexdigest() == BEFORE[seed]
