"""Check an electricity bill from its receipt, without any other program; docs/billing.md says what it shows."""

import argparse
import csv
import hashlib
import json
import sys
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from zoneinfo import ZoneInfo

WIDE = 1000  # Milliwatt-hours (1 Wh) by which the household's own meter may differ in a quarter-hour.
FAULTS: list[str] = []
JSON = json.JSONEncoder(sort_keys=True, separators=(",", ":"))


def fault(is_wrong: bool, words: str) -> None:
    FAULTS.extend([words] * is_wrong)


def sha256(*parts: object) -> bytes:
    texts = [each if isinstance(each, bytes) else JSON.encode(each).encode() for each in parts]
    return hashlib.sha256(b"".join(texts)).digest()


def check_proof(receipt: dict, code: str | None) -> None:
    head, path = receipt["head"], [bytes.fromhex(each) for each in receipt["proof"]["path"]]
    found = sha256(b"\x00", bytes.fromhex(receipt["salt"]), receipt["leaf"])
    at, last = receipt["proof"]["index"], head["leaves"] - 1
    while last > 0 and path:
        if at % 2 or at < last:
            found = sha256(b"\x01", path[0], found) if at % 2 else sha256(b"\x01", found, path[0])
            path = path[1:]
        at, last = at // 2, last // 2
    fault(last > 0 or bool(path) or found.hex() != head["root"], "proof: it does not lead from this bill to the root")
    printed = sha256(b"\x02", head).hex()
    print(f"check code of the month: {printed}" + ("" if code else "; compare it with yours and a neighbour's bill"))
    fault(code is not None and "".join(code.split()) != printed, "proof: the printed check code is another one")
    for name, tariff in receipt["tariffs"].items():
        fault(sha256(tariff).hex() != head["tariffs"].get(name), f"tariff {name}: it is not that of all bills")
    fault(len(receipt["leaf"]["meters"]) != len(receipt["meters"]), "meters: not as many as the bill has")
    for stated, meter in zip(receipt["leaf"]["meters"], receipt["meters"], strict=False):
        energies, quality = meter["energies_mwh"], bytes(meter["quality"])
        numbers = [number.to_bytes(8, "big") for name in sorted(energies) for number in energies[name]]
        found = {"meter": meter["meter"], "first": meter["first"], "sha256": sha256(*numbers, quality).hex()}
        found |= {"quarters": len(quality), "sums_mwh": {name: sum(each) for name, each in energies.items()}}
        fault(not found.items() <= stated.items(), f"meter {stated['meter']}: its quarter-hours are not the bill's")


P, ORDER = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493  # of Ed25519 (RFC 8032)
D = -121665 * pow(121666, -1, P) % P


def plus(one: tuple, other: tuple) -> tuple:
    (x, y), (u, v) = one, other
    part = D * x * u * y * v
    return (x * v + u * y) * pow(1 + part, -1, P) % P, (y * v + x * u) * pow(1 - part, -1, P) % P


def times(number: int, point: tuple) -> tuple:
    found = (0, 1)
    while number:
        found, point, number = plus(found, point) if number & 1 else found, plus(point, point), number >> 1
    return found


def point_of(data: bytes) -> tuple:
    y, is_odd = int.from_bytes(data, "little") % 2**255, data[31] >> 7
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    x = x if (x * x - square) % P == 0 else x * pow(2, (P - 1) // 4, P) % P
    return ((P - x) % P if x % 2 != is_odd else x, y) if (x * x - square) % P == 0 else (0, 0)


def is_signed(key: bytes, signature: bytes, text: bytes) -> bool:
    if len(key) != 32 or len(signature) != 64 or (0, 0) in (point_of(key), point_of(signature[:32])):
        return False
    drawn = int.from_bytes(hashlib.sha512(signature[:32] + key + text).digest(), "little") % ORDER
    scale, base = int.from_bytes(signature[32:], "little"), point_of((4 * pow(5, -1, P) % P).to_bytes(32, "little"))
    made = plus(point_of(signature[:32]), times(drawn, point_of(key)))
    return scale < ORDER and times(8, point_of(key)) != (0, 1) and times(scale, base) == made  # no key of low order


def is_bound(known: dict, authority: bytes) -> bool:
    from cryptography import x509  # This check alone needs more than Python's standard library.
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA

    text = f"commonwatt witness key\n{known['controller']}\n{known['key']}\n".encode()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, known["controller"])])
    try:
        chain = x509.load_pem_x509_certificates(known["certificate"].encode())
        for one, issuer in zip(chain, [*chain[1:], x509.load_pem_x509_certificate(authority)], strict=True):
            one.verify_directly_issued_by(issuer)
        limits = [one.extensions.get_extension_for_class(x509.NameConstraints).value for one in chain[1:]]
        chain[0].public_key().verify(bytes.fromhex(known["bound"]), text, ECDSA(hashes.SHA256()))
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        return False
    return chain[0].subject == name and all(x509.DirectoryName(name) in (of.permitted_subtrees or ()) for of in limits)


def check_witnesses(receipt: dict, path: str, ca: str) -> None:
    keys = {(each["controller"], each["key"]): each for each in json.loads(Path(path).read_text("utf-8"))["keys"]}
    head, good, authority = receipt["head"], set(), Path(ca).read_bytes()
    code = sha256(b"\x02", head).hex()
    for each in receipt.get("witnesses", []):
        name, signed = each["controller"], bytes.fromhex(each["signed"])
        known = keys.get((name, signed[:32].hex()))
        text = f"commonwatt witness 1\n{name}\n{head['month']}\n{code}\n{head.get('replaces', '')}\n".encode()
        made, bound = is_signed(signed[:32], signed[32:], text), known is not None and is_bound(known, authority)
        fault(not made, f"witness {name}: its signature is not under this check code")
        fault(known is None, f"witness {name}: the public list does not have its key")
        fault(known is not None and not bound, f"witness {name}: no certificate of this authority signed its key")
        good.update([name] * bool(made and bound and not known["revoked"]))
        print(f"{name} signs by the key {signed[:32].hex()}; compare it with that on its controller's page")
    replaced = f"; the list replaces another one, {head['replaces']}: compare both" if head.get("replaces") else ""
    print(f"signed by the controllers: {', '.join(sorted(good)) or 'none'}{replaced}")
    print(f"authority: {hashlib.sha256(authority).hexdigest()}; compare it with a neighbour's")
    for street in sorted({meter["microgrid"] for meter in receipt["leaf"]["meters"]} - good):
        fault(True, f"witness {street}: your street has not signed; compare the code on its controller's page")


def day(quarter: int, zone: ZoneInfo) -> object:
    return datetime.fromtimestamp(quarter * 900, zone).date()


def periods(tariff: dict, first: int, until: int, zone: ZoneInfo) -> list[str]:
    found, days, holidays = [], {}, {each["date"] for each in tariff["holiday"]}
    seasons = [(each["name"], each["from"], each["until"]) for each in tariff["season"]]
    for quarter in range(first, until):
        date, time, kind = f"{datetime.fromtimestamp(quarter * 900, zone):%Y-%m-%d %H:%M %a}".lower().split()
        if date not in days:
            kind, day = "holiday" if date in holidays else kind, date[5:]
            now = [None, *(name for name, a, b in seasons if (a <= day) + (day < b) + (a >= b) == 2)]
            days[date] = [each for each in tariff["hours"] if kind in each["days"] and each["season"] in now]
        found.append([each["period"] for each in days[date] if each["from"] <= time < each["until"]][-1])
    return found


def check_amount(receipt: dict) -> None:
    bill, length, tariffs = receipt["leaf"]["bill"], receipt["until"] - receipt["first"], receipt["tariffs"]
    lines = [line for line in bill["lines"] if line["kind"] in ("base", "import", "credit")]
    spans = [(meter["first"], meter["first"] + len(meter["quality"]), meter) for meter in receipt["meters"]]
    held = {quarter for first, until, _ in spans for quarter in range(first, until)}
    parts = [part for part in receipt["segments"] if held and part[1] <= max(held) and min(held) < part[2]]
    parts = parts or (receipt["segments"] if lines else [])
    rules = tariffs[parts[0][0]]["policy"] if parts else {}
    base_by, name, zone = rules.get("base_of_part_month"), rules.get("name"), ZoneInfo(receipt["timezone"])
    days = {q for q in range(receipt["first"], receipt["until"]) if day(q, zone) != day(q + 1, zone)}  # each day's last
    prices, used, billed, bases, amounts, labels = {}, Counter(), Counter(), [], [], []
    version = receipt["head"]["rules"]
    fault(version not in (2, 3), f"the bill is by version {version} of the rules: get the program for them")
    cent = 10**10 * length  # Amounts are whole numbers of 10**-12 dollars divided by the quarters of the month.
    for label, start, end in receipt["segments"] if base_by == "whole" else parts:
        base = Decimal(tariffs[label]["tariff"]["base"])
        base = min(base, Decimal(receipt["base_before"] or base))
        span = {*range(start, end)} & ({*range(start, end)} if base_by == "whole" else held)
        part = (len(span & days) * length, len(days)) if base_by == "by_day" else (len(span), 1)
        bases.append((label, base, *part))
    for label, start, end in parts:
        table, own = {period["name"]: period for period in tariffs[label]["period"]}, tariffs[label]["policy"]
        for period in table:
            prices["import", label, period] = Decimal(table[period]["import"])
            credit = {"spec": "credit", "rangers": "import", "aces": own.get("credit_price")}[name]
            prices["credit", label, period] = Decimal(table[own.get("off_peak", period)][credit])
        at = periods(tariffs[label], start, end, zone)
        for first, until, meter in spans:
            for kind, quantity in (("import", "imported"), ("credit", "exported")):
                energies = meter["energies_mwh"].get(quantity) or [0] * (until - first)
                for quarter in range(max(first, start), min(until, end)):
                    used[kind, label, at[quarter - start]] += energies[quarter - first]
    pooled = {"credit": name == "rangers", "import": rules.get("import_by") == "evenly"}
    for line in lines:
        kind = line["kind"]
        if kind == "base":
            label, rate, part, whole = bases.pop(0) if bases else ("", Decimal(0), 0, 1)
            amounts.append(int(rate * 10**6) * 10**6 * part // whole)
        else:
            label = next((label for label, _, _ in parts if line["text"].endswith(f", {label}")), parts[0][0])
            rate = prices.get((kind, label, line["period"]), Decimal(0))
            amounts.append(line["energy"] * int(rate * 10**6) * length * (1 if kind == "import" else -1))
            if pooled[kind] or line["text"].startswith("Credit, part of"):
                print(f"as stated, not computed: {line['text']}: {line['energy'] / 10**6:.6f} kWh")
            else:
                billed[kind, label, line["period"]] += line["energy"]
            if line["text"].startswith("Credit, part of the building's"):
                exact, amounts[-1] = amounts[-1], int(Decimal(line["amount"]) * 100) * cent
                fault(abs(exact - amounts[-1]) >= cent, f"{line['text']}: {line['amount']} is a cent off or more")
        labels.append(label)
        fault(Decimal(line["rate"]) != rate, f"{line['text']}: the rate is {line['rate']}, by the tariff {rate}")
    fault(bool(bases), "a line for the base is missing")
    for key in [key for key in used | billed if used[key] != billed[key] and not pooled[key[0]]]:
        fault(True, f"{' '.join(key)}: billed {billed[key]} mWh, by the quarter-hours {used[key]}")
    total = round(Fraction(sum(amounts), cent))  # Half a cent to the even one.
    cents = [amount // cent for amount in amounts]
    for n in sorted(range(len(cents)), key=lambda n: -(amounts[n] % cent))[: total - sum(cents)]:
        cents[n] += 1
    for line, found in zip(lines, cents, strict=True):
        fault(Decimal(line["amount"]) * 100 != found, f"{line['text']}: {line['amount']}, computed {found / 100:.2f}")
    taxes = check_taxes(bill, tariffs, list(zip(lines, labels, cents, strict=True)))
    late = sum(Decimal(line["amount"]) for line in bill["lines"] if line["kind"] in ("correction", "entry"))
    due = Decimal(max(0, total) + taxes) / 100 + late
    fault(Decimal(bill["total"]) != due, f"total: billed {bill['total']}, computed {due}")
    fault(due < 0 and not bill.get("is_final"), f"total: {due} is negative, and the bill is no final one")
    print(f"account {bill['account']}, {bill['month']}: {due} dollars; corrections and entries, as stated: {late}")


def check_taxes(bill: dict, tariffs: dict, lines: list) -> int:
    """Check the tax lines by the cents of the other lines; return their sum in cents."""
    labels, found = list(dict.fromkeys(label for _, label, _ in lines)), []
    for label in labels:
        ours = [(line["kind"], line["energy"], cents) for line, of, cents in lines if of == label]
        amounts = {kind: sum(cents for of, _, cents in ours if of == kind) for kind in ("base", "import")}
        credit = sum(cents for kind, _, cents in ours if kind == "credit")
        for tax in tariffs.get(label, {}).get("tax", []):
            on = sum(amounts[name] for name in tax["on"])
            on = max(0, on + credit) if tax["credit"] == "taxed" else on
            if tax["percent"] is None:
                on = Fraction(sum(energy for kind, energy, _ in ours if kind == "import"), 100)  # cents at 1 a kWh
            amounts[tax["name"]] = round(on * Fraction(tax["percent"] or tax["per_kwh"]) / 100)
            found.append((tax["name"] + f", {label}" * (len(labels) > 1), amounts[tax["name"]]))
    stated = [(line["text"], Decimal(line["amount"]) * 100) for line in bill["lines"] if line["kind"] == "tax"]
    fault(stated != found, f"taxes: the bill has {stated}, computed {found}, in cents")
    return sum(cents for _, cents in found)


def check_meter(receipt: dict, path: str) -> None:
    own, settled = Counter(), Counter()
    for row in csv.DictReader(Path(path).read_text(encoding="utf-8").splitlines()):
        own[int(datetime.fromisoformat(row["start"]).timestamp()) // 900] += int(Decimal(row["taken_kwh"]) * 10**6)
    for meter in receipt["meters"]:
        for name in {"imported", "shared_in"} & meter["energies_mwh"].keys():
            settled.update(dict(enumerate(meter["energies_mwh"][name], meter["first"])))
    both = sorted(own.keys() & settled.keys())
    wide = [quarter for quarter in both if abs(own[quarter] - settled[quarter]) > WIDE]
    print(f"your meter: {len(both)} of {len(settled)} quarter-hours compared, {len(wide)} differ by over {WIDE} mWh")
    for at in wide[:5]:
        fault(True, f"{datetime.fromtimestamp(at * 900, UTC)}: your meter {own[at]} mWh, settled {settled[at]} mWh")
    fault(not both, "your meter: its file has no quarter-hour of the receipt")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Check an electricity bill from its receipt.")
    parser.add_argument("receipt")
    parser.add_argument("--code", help="the check code as it is printed on the bill")
    parser.add_argument("--meter", help="your own meter: CSV with the columns start (ISO 8601 with zone), taken_kwh")
    parser.add_argument("--witnesses", nargs=2, metavar=("LIST", "ca.pem"), help="public list, town's authority")
    given = parser.parse_args()
    receipt = json.loads(Path(given.receipt).read_text(encoding="utf-8"))
    check_proof(receipt, given.code)
    check_amount(receipt)
    if given.witnesses:
        check_witnesses(receipt, *given.witnesses)
    if given.meter:
        check_meter(receipt, given.meter)
    sys.exit("\n".join(f"WRONG: {words}" for words in FAULTS) or print("nothing is wrong"))
