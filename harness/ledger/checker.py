"""Check a ledger from files alone: its exports, the bills, the payments. Uses the standard library only.

``python -m harness.ledger.checker FOLDER``: ``ledger-*.csv`` are exports of months, ``bills.csv`` has run, account,
cents, taxes (cents of them) and state (issued, cancelled), ``payments.csv`` the bank's bookings: cents
and the account, 0 if it is of none.
"""

import csv
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

Row = Mapping[str, str]


def faults(exports: Mapping[str, Sequence[Row]], bills: Iterable[Row], payments: Iterable[Row]) -> list[str]:
    """Return what does not balance, in words; ``exports`` are the lines of months."""
    found, entries, owed, totals, fees = [], defaultdict[str, int](int), Counter[str](), Counter[str](), Counter[str]()
    costs, months, bills = Counter[str](), dict[str, str](), list(bills)
    every = [line for lines in exports.values() for line in lines]
    reminders = {line["entry"]: line["about"] for line in every if line["kind"] == "reminder"}
    numbers = {line["of"]: line["entry"] for line in every if line["kind"] == "bill"}
    for month, lines in exports.items():
        for line in lines:
            entries[line["entry"]] += (cents := int(line["cents"]))
            totals[line["key"]] += cents
            owed[line["account"]] += cents if line["key"] == "receivables" else 0
            for reminder in {line["entry"], line["about"]} & reminders.keys() if line["key"] == "fees" else ():
                fees[line["account"]] -= cents
                costs[reminder] -= cents
            if not line["day"].startswith(month) or months.setdefault(line["entry"], month) != month:
                found.append(f"entry {line['entry']} of {line['day']} stands in {month}")
    found += [f"entry {entry} is out of balance by {cents}" for entry, cents in entries.items() if cents]
    of_runs = (f"run {each['run']} account {each['account']}" for each in bills if each["state"] == "cancelled")
    gone = {numbers.get(each) for each in of_runs}
    fees_left = [(entry, cents) for entry, cents in costs.items() if cents and reminders[entry] in gone]
    found += [f"reminder {entry} of a cancelled bill costs {cents}" for entry, cents in fees_left]
    should, taxes, bank, waits = Counter[str](), 0, 0, 0
    for bill in bills:
        should[bill["account"]] += int(bill["cents"]) if bill["state"] == "issued" else 0
        taxes += int(bill["taxes"]) if bill["state"] == "issued" else 0
    for payment in payments:
        bank += (cents := int(payment["cents"]))
        waits += cents if payment["account"] == "0" else 0
        should[payment["account"]] -= cents if payment["account"] != "0" else 0
    for account in sorted({*should, *owed} - {"0"}):
        should[account] += fees[account]
        if owed[account] != should[account]:
            found.append(f"account {account} owes {owed[account]}, and should owe {should[account]}")
    if totals["taxes"] != -taxes:
        found.append(f"taxes are {-totals['taxes']}, and should be {taxes}")
    if totals["bank"] != bank or totals["suspense"] != -waits:
        found.append(f"bank {totals['bank']}, suspense {totals['suspense']}; the bank says {bank}, of none are {waits}")
    return found


def main(folder: Path) -> int:
    """Check a folder; print what does not balance."""

    def rows(path: Path) -> list[dict[str, str]]:
        with path.open(newline="") as file:
            return list(csv.DictReader(file))

    exports = {path.stem.removeprefix("ledger-"): rows(path) for path in sorted(folder.glob("ledger-*.csv"))}
    found = faults(exports, rows(folder / "bills.csv"), rows(folder / "payments.csv"))
    print("\n".join(found) or f"{len(exports)} months balance to the cent")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
