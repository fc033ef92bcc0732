"""A stranger's checker of receipts, written from docs/billing.md alone, agrees with every bill (U2)."""

import copy
import hashlib
import json
import re
from collections.abc import Iterator
from datetime import datetime
from fractions import Fraction
from math import floor
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from harness.billing.worlds import World, random_world
from tests.unit.utility.billing.test_check_bill import Receipt, receipts
from tests.unit.utility.billing.test_taxes import LEVY, VAT, taxed

PAGE = Path(__file__).parents[4] / "docs/billing.md"


def hashed(first: bytes, *parts: bytes) -> bytes:
    return hashlib.sha256(b"".join((first, *parts))).digest()


def form(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode("ascii")


def is_proved(receipt: Receipt, code: str) -> bool:
    """Tell whether the leaf leads to the root, and all that is hashed to the check code."""
    head, found = receipt["head"], hashed(b"\0", bytes.fromhex(receipt["salt"]), form(receipt["leaf"]))
    path, place, nodes = [bytes.fromhex(each) for each in receipt["proof"]["path"]], receipt["proof"]["index"], 0
    nodes = head["leaves"]
    while nodes > 1:
        if place % 2:
            found = hashed(b"\1", path.pop(0), found)
        elif place < nodes - 1:
            found = hashed(b"\1", found, path.pop(0))
        place, nodes = place // 2, (nodes + 1) // 2
    same = found.hex() == head["root"] and not path and hashed(b"\2", form(head)).hex() == code
    for name, tariff in receipt["tariffs"].items():
        same &= hashed(b"", form(tariff)).hex() == head["tariffs"][name]
    for stated, meter in zip(receipt["leaf"]["meters"], receipt["meters"], strict=True):
        energies = [each.to_bytes(8, "big") for _, of in sorted(meter["energies_mwh"].items()) for each in of]
        same &= hashed(b"", *energies, bytes(meter["quality"])).hex() == stated["sha256"]
        same &= {name: sum(of) for name, of in meter["energies_mwh"].items()} == stated["sums_mwh"]
        same &= (meter["meter"], meter["first"]) == (stated["meter"], stated["first"])
    return same


def period_at(tariff: dict[str, Any], quarter: int, zone: ZoneInfo) -> str:
    local = datetime.fromtimestamp(quarter * 900, zone)
    date, day, clock = local.strftime("%m-%d"), local.strftime("%a").lower(), local.strftime("%H:%M")
    if local.strftime("%Y-%m-%d") in [each["date"] for each in tariff["holiday"]]:
        day = "holiday"
    seasons = {None}
    for each in tariff["season"]:
        begin, until = each["from"], each["until"]
        if begin <= date < until or (begin >= until and (date >= begin or date < until)):
            seasons.add(each["name"])
    (found,) = [
        each["period"]
        for each in tariff["hours"]
        if each["season"] in seasons and day in each["days"] and each["from"] <= clock < each["until"]
    ]
    return str(found)


def clock_of(quarter: int, zone: ZoneInfo) -> str:
    return datetime.fromtimestamp(quarter * 900, zone).strftime("%H:%M")


def taxes_of(receipt: Receipt, lines: list[tuple[str, str, int | None, int]]) -> Iterator[tuple[str, int]]:
    """Yield text and cents of each tax; ``lines``: tariff, kind, energy and cents of the others."""
    labels = list(dict.fromkeys(label for label, *_ in lines))
    for label in labels:
        own = [(kind, energy or 0, cents) for of, kind, energy, cents in lines if of == label]
        known = [(kind, cents) for kind, _, cents in own if kind != "credit"]
        for tax in receipt["tariffs"][label].get("tax", ()):
            if tax["per_kwh"] is not None:
                taken = sum(energy for kind, energy, _ in own if kind == "import")
                exact = Fraction(taken, 10**6) * Fraction(tax["per_kwh"]) * 100
            else:
                on = sum(cents for name, cents in known if name in tax["on"])
                if tax["credit"] == "taxed":
                    on = max(on + sum(cents for kind, _, cents in own if kind == "credit"), 0)
                exact = on * Fraction(tax["percent"]) / 100
            known.append((tax["name"], round(exact)))
            yield tax["name"] + (f", {label}" if len(labels) > 1 else ""), round(exact)


def credit_price(tariff: dict[str, Any], period: str) -> str:
    policy, prices = tariff["policy"], {each["name"]: each for each in tariff["period"]}
    if policy["name"] == "aces":
        return str(prices[policy["off_peak"]][policy["credit_price"]])
    return str(prices[period]["credit" if policy["name"] == "spec" else "import"])


def lines_of(receipt: Receipt) -> Iterator[tuple[str, str, str, int | None, Fraction, Fraction]]:
    """Yield tariff, kind, period, energy, rate and exact amount of each line for a base, import or credit."""
    bill, length, zone = receipt["leaf"]["bill"], receipt["until"] - receipt["first"], ZoneInfo(receipt["timezone"])
    held = {m["first"] + n for m in receipt["meters"] for n in range(len(m["quality"]))}
    near = [each for each in receipt["segments"] if each[1] < bill["end"] and bill["start"] < each[2]]
    policy = receipt["tariffs"][near[0][0]]["policy"]
    is_whole = policy["base_of_part_month"] == "whole"
    for label, start, end in receipt["segments"] if is_whole else near:
        base = Fraction(receipt["tariffs"][label]["tariff"]["base"])
        if bill["policy"] == "aces" and receipt["base_before"] is not None:
            base = min(base, Fraction(receipt["base_before"]))
        quarters = end - start if is_whole else len(held & {*range(start, end)})
        exact = base * quarters / length
        if policy["base_of_part_month"] == "by_day":
            every = range(receipt["first"], receipt["until"])
            last = {q for q in every if clock_of(q + 1, zone) == "00:00"}
            days = len([day for day in last if start <= day < end and day in held])
            unit = Fraction(1, 10**12 * length)
            exact = base * days / len(last) // unit * unit
        yield label, "base", "", None, base, exact
    stated = [line for line in bill["lines"] if line["kind"] in ("import", "credit")]
    for label, start, end in near:
        tariff, sums = receipt["tariffs"][label], dict[tuple[str, str], int]()
        for meter in receipt["meters"]:
            for name, energies in meter["energies_mwh"].items():
                for quarter, energy in enumerate(energies, meter["first"]):
                    if start <= quarter < end:
                        key = name, period_at(tariff, quarter, zone)
                        sums[key] = sums.get(key, 0) + energy
        ours = [line for line in stated if len(near) == 1 or line["text"].endswith(f", {label}")]
        for each in tariff["period"]:
            rate, energies = Fraction(each["import"]), [sums.get(("imported", each["name"]), 0)]
            if policy.get("import_by") == "evenly":
                energies = [x["energy"] for x in ours if (x["kind"], x["period"]) == ("import", each["name"])]
            for energy in energies:
                yield label, "import", each["name"], energy, rate, Fraction(energy, 10**6) * rate
        for each in tariff["period"]:
            energy, rate = sums.get(("exported", each["name"]), 0), Fraction(credit_price(tariff, each["name"]))
            if energy and policy["name"] != "rangers":
                yield label, "credit", each["name"], energy, rate, -Fraction(energy, 10**6) * rate
        for line in ours:
            if line["text"].startswith("Credit, part of"):
                rate = Fraction(credit_price(tariff, line["period"]))
                exact = -Fraction(line["energy"], 10**6) * rate
                if line["text"].startswith("Credit, part of the building's"):
                    assert abs(exact - Fraction(line["amount"])) < Fraction(1, 100)
                    exact = Fraction(line["amount"])
                yield label, "credit", line["period"], line["energy"], rate, exact


def is_computed(receipt: Receipt) -> bool:
    """Tell whether lines and total of the bill follow from quarter-hours and tariffs."""
    bill = receipt["leaf"]["bill"]
    computed = list(lines_of(receipt))
    exact = [100 * amount for *_, amount in computed]
    total, cents = round(sum(exact)), [floor(each) for each in exact]
    order = sorted(range(len(cents)), key=lambda n: cents[n] - exact[n])
    for n in order[: total - sum(cents)]:
        cents[n] += 1
    ours = [
        (kind, period, energy, rate, Fraction(part))
        for (_, kind, period, energy, rate, _), part in zip(computed, cents, strict=True)
    ]
    ready = [(label, kind, energy, n) for (label, kind, _, energy, *_), n in zip(computed, cents, strict=True)]
    taxes = [(text, Fraction(cents)) for text, cents in taxes_of(receipt, ready)]
    stated = [(line["text"], 100 * Fraction(line["amount"])) for line in bill["lines"] if line["kind"] == "tax"]
    theirs = [
        (line["kind"], line["period"], line["energy"], Fraction(line["rate"]), 100 * Fraction(line["amount"]))
        for line in bill["lines"]
        if line["kind"] in ("base", "import", "credit")
    ]
    lapsed = [100 * Fraction(line["amount"]) for line in bill["lines"] if line["kind"] == "lapsed"]
    late = sum(Fraction(line["amount"]) for line in bill["lines"] if line["kind"] in ("correction", "entry"))
    owed = max(0, total) + sum(cents for _, cents in taxes)
    same_sum = Fraction(bill["total"]) == Fraction(owed) / 100 + late
    return ours == theirs and stated == taxes and lapsed == ([-total] if total < 0 else []) and same_sum


def code_of(receipt: Receipt) -> str:
    return hashed(b"\2", form(receipt["head"])).hex()


def of_kind(world: World, seed: int) -> World:
    """Return a world, every other one with taxes and a base by days."""
    both: list[dict[str, Any]] = [
        LEVY,
        VAT,
        {"name": "city", "percent": "3.5", "on": ["import", "VAT"], "credit": "taxed"},
    ]
    return taxed(world, both, "by_day") if seed % 2 else world


def test_every_bill_is_checked_by_what_the_page_says() -> None:  # req: U2
    policies = set()
    for seed in range(8):
        for receipt in receipts(of_kind(random_world(seed), seed)).values():
            assert is_proved(receipt, code_of(receipt))
            assert is_computed(receipt), receipt["leaf"]["bill"]
            policies.add(receipt["leaf"]["bill"]["policy"])
    assert policies == {"spec", "aces", "rangers"}


def test_a_changed_bill_fails_the_check_of_the_page() -> None:
    good = next(iter(receipts(random_world(3)).values()))
    code = code_of(good)
    changed = copy.deepcopy(good)
    changed["leaf"]["bill"]["total"] = "0.01"
    assert not is_proved(changed, code)
    assert not is_computed(changed)


def names_of(value: object, above: str = "") -> Iterator[str]:
    """Yield the names of all fields of a receipt; what is named by data has none: tariffs by their labels."""
    if isinstance(value, dict):
        for name, each in value.items():
            if above != "tariffs":
                yield name
            yield from names_of(each, name)
    elif isinstance(value, list):
        for each in value:
            yield from names_of(each, above)


def test_every_field_of_a_receipt_is_on_the_page() -> None:
    section = PAGE.read_text(encoding="utf-8").split("## The receipt's fields")[1]
    described = set(re.findall(r"`([a-z_0-9]+)`", section))
    for seed in range(8):
        for receipt in receipts(of_kind(random_world(seed), seed)).values():
            assert set(names_of(receipt)) <= described
