"""What the leaves of a month say of settled quarter-hours: gathered while the bills are made of them."""

from collections.abc import Iterator, Mapping

from commonwatt.model.units import AccountNumber, Quarter
from commonwatt.settlement.settled import Quantity, SettledQuarters
from commonwatt.town.town import Direction
from utility.billing.bill import Bill
from utility.billing.inputs import RunInputs
from utility.billing.proof.canonical import Json
from utility.billing.proof.leaf import TOWN, MeterQuarters, content_of
from utility.registry.accounts import DatedRegistry, Installed, functions_of

_TAKEN = (Quantity.IMPORTED, Quantity.SHARED_IN)
_GIVEN = (Quantity.EXPORTED, Quantity.SHARED_OUT)


class Digests:
    """Digests the settled quarter-hours of a month by account."""

    def __init__(self, inputs: RunInputs) -> None:
        self._inputs = inputs
        self._stated: dict[AccountNumber, list[Json]] = {}

    def see(self, settled: SettledQuarters) -> None:
        """Digest the quarter-hours of some meters."""
        for account, quarters in quarters_of(self._inputs, settled):
            self._stated.setdefault(account, []).append(quarters.stated())

    def leaves(self, bills: Mapping[AccountNumber, Bill]) -> dict[AccountNumber, Json]:
        """Return the content of each leaf, by account; that of meters without an account is the first."""
        found = {TOWN: content_of(TOWN, "town", None, self._stated.get(TOWN, ()))}
        for number, bill in sorted(bills.items()):
            customer = customer_of(self._inputs.registry, number)
            found[number] = content_of(number, customer, bill, self._stated.get(number, ()))
        return found


def customer_of(registry: DatedRegistry, number: AccountNumber) -> str:
    """Return the kind of an account's place, as its leaf has it."""
    account = registry.accounts.get(number)
    return (functions_of(registry.meters)[number] if account is None else account.function).value


def quarters_of(inputs: RunInputs, settled: SettledQuarters) -> Iterator[tuple[AccountNumber, MeterQuarters]]:
    """Yield the quarter-hours of meters by the account that had them; ``TOWN``: no account had the meter."""
    for row, meter_id in enumerate(settled.meters.tolist()):
        meter = inputs.registry.meters[meter_id]
        for account, start, end in _holders(meter, inputs.first, inputs.until):
            span = slice(start - settled.first, end - settled.first)
            yield (
                account,
                MeterQuarters(
                    meter=meter_id,
                    microgrid=meter.microgrid,
                    first=start,
                    energies={q: settled.of(q)[row, span] for q in _quantities(meter, settled, row)},
                    quality=settled.quality[row, span],
                    provisional=int(settled.provisional[row, span].sum()),
                ),
            )


def _quantities(meter: Installed, settled: SettledQuarters, row: int) -> tuple[Quantity, ...]:
    """Return what a meter has: an outgoing one of a battery without an incoming meter has all four quantities."""
    if meter.direction is Direction.INCOMING:
        return _TAKEN
    return (*_GIVEN, *_TAKEN) if any(settled.of(q)[row].any() for q in _TAKEN) else _GIVEN


def _holders(meter: Installed, first: Quarter, until: Quarter) -> list[tuple[AccountNumber, Quarter, Quarter]]:
    """Return who had a meter in each quarter of a month; ``TOWN`` where nobody had it."""
    found, at = [], first
    for account, start, end in [*meter.held(first, until), (TOWN, until, until)]:
        if at < start:
            found.append((TOWN, at, start))
        if start < end:
            found.append((account, start, end))
        at = max(at, end)
    return found
