"""What an account's issued bill says in Green Button: a UsageSummary whose items are the bill's lines, to the cent."""

from dataclasses import dataclass
from xml.sax.saxutils import escape

import numpy as np
import numpy.typing as npt

from commonwatt.model.units import QUARTER_S
from utility.billing.bill import LINE_ROWS, Bill, Line
from utility.billing.inputs import RunInputs

_SCALE = 5  # amounts are whole hundred-thousandths of the currency
# ISO 4217; the currency of another code is left out.
_CURRENCIES = {"USD": 840, "EUR": 978, "CHF": 756, "GBP": 826, "CAD": 124, "AUD": 36, "MXN": 484}


@dataclass(frozen=True, kw_only=True, eq=False)
class CostedBill:
    """An issued bill with the tariff's period of each of its quarter-hours."""

    bill: Bill  # the bill
    currency: str  # of its amounts, ISO 4217
    names: tuple[str, ...]  # the names of the periods; ``tou`` is a name's place, from 1
    tou: npt.NDArray[np.uint8]  # of each quarter-hour of the bill


def costed(bill: Bill, inputs: RunInputs) -> CostedBill:
    """Return a bill with its periods, of the inputs of its run."""
    segments = inputs.within(bill.account, bill.start, bill.end)
    names = tuple(dict.fromkeys(price.name for each in segments for price in each.tariff.prices))
    tou = np.zeros(bill.end - bill.start, np.uint8)
    for each in segments:
        start, end = max(each.start, bill.start), min(each.end, bill.end)
        places = np.array([names.index(price.name) + 1 for price in each.tariff.prices], np.uint8)
        tou[start - bill.start : end - bill.start] = places[each.tariff.periods_of(np.arange(start, end))]
    table = (segments or inputs.segments(bill.account))[-1].tariff.file.bill
    return CostedBill(bill=bill, currency=table.currency if table else "USD", names=names, tou=tou)


def usage_summary(costs: CostedBill) -> str:
    """Return a bill as an ESPI resource."""
    bill, currency = costs.bill, _CURRENCIES.get(costs.currency)
    period = f"<duration>{(bill.end - bill.start) * QUARTER_S}</duration><start>{bill.start * QUARTER_S}</start>"
    return (
        f"<UsageSummary xmlns='http://naesb.org/espi'><billingPeriod>{period}</billingPeriod>"
        f"<billLastPeriod>{bill.total.scaleb(_SCALE):f}</billLastPeriod>"
        f"{''.join(_item(line, bill.end * QUARTER_S) for line in bill.lines)}"
        f"{f'<currency>{currency}</currency>' if currency else ''}"
        f"<statusTimeStamp>{bill.end * QUARTER_S}</statusTimeStamp><commodity>1</commodity>"
        f"<tariffProfile>{escape(', '.join(bill.tariff))}</tariffProfile></UsageSummary>"
    )


def _item(line: Line, time: int) -> str:
    kind = LINE_ROWS[line.kind].espi[line.amount < 0]
    energy = f"<powerOfTenMultiplier>-3</powerOfTenMultiplier><uom>72</uom><value>{line.energy}</value>"
    measured = "" if line.energy is None else f"<measurement>{energy}</measurement>"
    return (
        f"<costAdditionalDetailLastPeriod><amount>{line.amount.scaleb(_SCALE):f}</amount><dateTime>{time}</dateTime>"
        f"<note>{escape(line.text[:256])}</note>{measured}<itemKind>{kind}</itemKind></costAdditionalDetailLastPeriod>"
    )
