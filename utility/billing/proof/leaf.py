"""The content of a leaf: a bill, its customer's kind, and the settled quarter-hours that it was computed from."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from commonwatt.model.ids import MeterId
from commonwatt.model.units import AccountNumber, MicrogridId, MilliwattHours, Quarter
from commonwatt.settlement.settled import Quantity
from utility.billing.bill import Bill
from utility.billing.proof.canonical import Json, canonical, plain

TOWN: AccountNumber = 0  # the leaf of meters without an account: their energy is the town's, and no bill goes with it
# The quantities by their names in leaves and receipts.
QUANTITIES = {quantity.name.lower(): quantity for quantity in Quantity}
Course: TypeAlias = NDArray[np.int64]  # milliwatt-hours, one for each quarter


@dataclass(frozen=True, kw_only=True, eq=False)
class MeterQuarters:
    """The settled quarter-hours of a meter while one account had it, without a gap."""

    meter: MeterId  # the meter
    microgrid: MicrogridId  # its microgrid
    first: Quarter  # the first quarter
    energies: Mapping[Quantity, Course]  # by quantity; a quantity that the meter does not have is absent
    quality: NDArray[np.uint8]  # ``SettledQuality`` of each quarter, uint8
    provisional: int = 0  # the number of quarters that may still change

    def digest(self) -> str:
        """Return the SHA-256 of energies and quality, in hexadecimal.

        Energies come by the name of their quantity, each as a signed 8-byte number, highest byte first; then the
        qualities, one byte each.
        """
        made = hashlib.sha256()
        for _, quantity in sorted(QUANTITIES.items()):
            if quantity in self.energies:
                made.update(self.energies[quantity].astype(">i8").tobytes())
        made.update(self.quality.astype(np.uint8).tobytes())
        return made.hexdigest()

    def sums(self) -> dict[str, MilliwattHours]:
        """Return the sum of each quantity by its name."""
        return {
            name: int(self.energies[quantity].sum())
            for name, quantity in sorted(QUANTITIES.items())
            if quantity in self.energies
        }

    def stated(self) -> Json:
        """Return what a leaf says of it: sums, and the digest that a receipt with all quarters has to have."""
        return {
            "meter": str(self.meter),
            "microgrid": self.microgrid,
            "first": self.first,
            "quarters": len(self.quality),
            "sums_mwh": self.sums(),
            "sha256": self.digest(),
        }


@dataclass(frozen=True, kw_only=True)
class Leaf:
    """A leaf."""

    account: AccountNumber  # the account; ``TOWN`` for meters without one
    content: Json  # what is hashed, as plain JSON: ``account``, ``customer``, ``bill`` and ``meters``
    salt: bytes  # 32 secret bytes

    def canonical(self) -> bytes:
        """Return the bytes that are hashed after the salt."""
        return canonical(self.content)


def content_of(account: AccountNumber, customer: str, bill: Bill | None, meters: Iterable[Json]) -> Json:
    """Return the content of a leaf.

    Args:
        customer: The kind of its place, such as ``house``.
        bill: Its bill; ``None`` for ``TOWN``.
        meters: What is ``stated`` of the quarter-hours of its meters in the month.
    """
    return {
        "account": account,
        "customer": customer,
        "bill": plain(bill),
        "meters": sorted(meters, key=lambda each: (int(each["meter"]), each["first"])),
    }
