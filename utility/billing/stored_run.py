"""A run as it is stored, with its corrections: from its inputs and the settled data alone the same bills follow again.

Corrections are what earlier bills would be with the data of now, as lines of the next bill (row 21 of the faults). An
issued bill stays. Its month is computed again with the base that it had, and the difference to what was billed for that
month so far becomes a line with its reason. A correction in favour of an account takes at most what the new bill is
without it; the rest follows on later bills, since it is still the difference to what was billed. So do the lines that
people entered. A final bill, of an account that moved out, takes all at once, and may be negative.
"""

import json
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from fractions import Fraction
from functools import partial
from typing import Any, NamedTuple

from pydantic import TypeAdapter

from commonwatt.model.units import AccountNumber, MilliwattHours
from utility.billing.bill import ENTRY_WORDS, LINE_ROWS, Bill, BillEntry, BillLine, LineKind, dollars, later, to_cents
from utility.billing.inputs import RULES, Load, Recorder, RunInputs, Spans, replayed
from utility.billing.proof import (
    Digests,
    Json,
    Leaf,
    bill_bytes,
    canonical,
    digest,
    digest_of,
    head_of,
    leaf_hash,
    plain,
    salts,
)
from utility.billing.rules.lines import Billed
from utility.billing.rules.policies import POLICIES
from utility.billing.run import Progress, RunResult, bills_of, cut_off
from utility.registry.accounts import DatedRegistry
from utility.tariffs.tariff import tariff_of


class BilledMonth(NamedTuple):
    """What an account was billed for a month."""

    cents: int = 0  # the bill's own lines, and the corrections of that month since, cents
    taken: MilliwattHours = 0  # import on the bill, milliwatt-hours
    given: MilliwattHours = 0  # energy with credit on the bill, milliwatt-hours
    taxes: int = 0  # what of ``cents`` is taxes


@dataclass(frozen=True, kw_only=True)
class IssuedMonth:
    """A month with issued bills."""

    inputs: RunInputs  # the registry and the tariffs of now, with the bases that its bills had
    billed: Mapping[AccountNumber, BilledMonth]  # what was billed for it, by account
    corrects: Collection[str] = ()  # the versions with corrected prices by which it was billed already

    def reason(self, number: AccountNumber, was: BilledMonth, now: BilledMonth) -> str:
        """Return why an account's bill of it is corrected: by other prices, by other energies, or by both."""
        tariffs = {s.tariff.label: s.tariff.file.tariff.corrects for s in self.inputs.segments(number)}
        prices = [f"prices of {n}: {why}" for n, why in tariffs.items() if why and n not in self.corrects]
        energies = (
            f"computed again with what is known now: import {_kwh(now.taken)} kWh, billed were {_kwh(was.taken)}; "
            f"with credit {_kwh(now.given)} kWh, billed were {_kwh(was.given)}"
        )
        is_price = prices and (now.taken, now.given) == (was.taken, was.given)
        return "; ".join(prices if is_price else [*prices, energies])


@dataclass(frozen=True, kw_only=True)
class CorrectedBills:
    """Bills with corrections."""

    billed: dict[AccountNumber, Billed]  # the bills, by account
    open_cents: int  # the corrections in favour of accounts that the new bills had no room for, not positive


def billed_month(bill: Bill) -> BilledMonth:
    """Return what a bill billed for its own month."""
    own = [line for line in bill.lines if LINE_ROWS[line.kind].is_of_month]
    taken, credited = (
        sum(line.energy or 0 for line in own if line.kind is kind) for kind in (LineKind.IMPORT, LineKind.CREDIT)
    )
    taxes = sum(to_cents(line.amount) for line in own if line.kind is LineKind.TAX)
    return BilledMonth(cents=sum(to_cents(line.amount) for line in own), taken=taken, given=credited, taxes=taxes)


def with_corrections(
    inputs: RunInputs,
    result: RunResult,
    earlier: Sequence[IssuedMonth],
    load: Load,
    progress: Progress | None = None,
    entries: Sequence[BillEntry] = (),
    finals: Collection[AccountNumber] = (),
) -> CorrectedBills:
    """Return the bills of a run with corrections of earlier months, the oldest first, and then what people entered.

    Args:
        result: The run's bills.
        earlier: The months with issued bills, the oldest first.
        load: Returns settled quarter-hours as they are known now.
        progress: Called after each loading.
        entries: What people entered; fees come first, so that what is in favour of an account meets them.
        finals: The accounts that moved out.
    """
    billed = {n: replace(b, bill=replace(b.bill, is_final=n in finals)) for n, b in result.billed.items()}
    left = 0
    for month in earlier:
        again = bills_of(month.inputs, load, progress).billed
        for number in sorted(again.keys() | month.billed.keys()):
            was = month.billed.get(number, BilledMonth())
            now = billed_month(again[number].bill) if number in again else BilledMonth()
            difference, taxes = now.cents - was.cents, now.taxes - was.taxes
            if not difference and not taxes:
                continue
            target = billed.get(number) or _empty(inputs, number, is_final=number in finals)
            taken = _room(target.bill, difference)
            left += difference - taken
            if taken or not difference:
                name, why = month.inputs.month, month.reason(number, was, now)
                # A part of a correction has its part of the taxes; the last part has what is left of them.
                part = taxes if taken == difference else round(Fraction(taxes * taken, difference))
                text = f"Correction of {name}"
                billed[number] = _with(target, LineKind.CORRECTION, text, taken, why, month=name, tax_cents=part)
    for entry in sorted(entries, key=lambda entry: (entry.cents < 0, entry.no)):
        target = billed.get(entry.account) or _empty(inputs, entry.account, is_final=entry.account in finals)
        if taken := _room(target.bill, entry.cents):
            words = ENTRY_WORDS[entry.kind]
            billed[entry.account] = _with(target, LineKind.ENTRY, words, taken, entry.reason, entry=entry.no)
    return CorrectedBills(billed=dict(sorted(billed.items())), open_cents=left)


def _with(target: Billed, kind: LineKind, text: str, cents: int, reason: str, **more: Any) -> Billed:
    line, bill = BillLine(kind=kind, text=text, amount=dollars(cents), reason=reason, **more), target.bill
    return replace(target, bill=replace(bill, lines=(*bill.lines, line), total=bill.total + line.amount))


def _room(bill: Bill, cents: int) -> int:
    """Return what of an amount a bill has room for: what is in favour of its account takes at most what it is."""
    return cents if bill.is_final else max(cents, -to_cents(bill.total))


def _empty(inputs: RunInputs, number: AccountNumber, *, is_final: bool) -> Billed:
    """Return a bill without lines, for the correction of an account that had no meter in the month."""
    policy = POLICIES[inputs.used[0].policy.name]
    bill = Bill(
        account=number,
        month=inputs.month,
        start=inputs.first,
        end=inputs.first,
        tariff=(),
        policy=policy.name,
        lines=(),
        total=dollars(0),
        is_final=is_final,
    )
    return Billed(bill=bill, base=inputs.bases.get(number))


def _kwh(energy: MilliwattHours) -> str:
    return f"{energy // 10**6}.{energy % 10**6 // 1000:03d}"


@dataclass(frozen=True, kw_only=True)
class EarlierMonth:
    """A month with issued bills, as a run stores it."""

    month: str  # the month
    default: str  # the name of the tariff that accounts without one had then
    bases: Mapping[AccountNumber, Decimal]  # the bases that its bills had, dollars
    billed: Mapping[AccountNumber, BilledMonth]  # what was billed for it
    rules: int = RULES  # the version of the rules by which it was billed
    corrects: tuple[str, ...] = later(())  # the versions with corrected prices by which it was billed already


@dataclass(frozen=True, kw_only=True)
class StoredRun:
    """The inputs of a run."""

    month: str  # the local month
    timezone: str  # its zone
    default: str  # the name of the tariff of accounts without one
    code: str  # the version of the program
    settled: int  # the highest row number of settled data that counts
    previous: int  # the number of the newest issued run; its bills' bases are used. 0: there is none
    tariffs: tuple[str, ...]  # the canonical JSON of each published version
    registry: DatedRegistry = field(repr=False)  # meters and accounts
    bases: Mapping[AccountNumber, Decimal] = field(default_factory=dict, repr=False)  # the accounts' own bases, dollars
    earlier: tuple[EarlierMonth, ...] = ()  # the months to correct, the oldest first
    # The quarters that were provisional when the run was computed; ``None``: it was not yet.
    provisional: Spans | None = field(default=None, repr=False)
    rules: int = RULES  # the version of the rules by which it is computed
    # What only some towns use; stored where it says something.
    entries: tuple[BillEntry, ...] = later(())  # what people entered and no issued bill has yet, by number
    finals: tuple[AccountNumber, ...] = later(())  # accounts that moved out in the month, by number
    addressees: Mapping[AccountNumber, str] | None = later(None)  # digests of names; ``None``: none is known
    replaces: str = later("")  # the check code of the cancelled run of the month; empty: there is none

    def inputs(self) -> RunInputs:
        """Return the inputs of the month's own bills."""
        return self._of(self)

    def corrected(self) -> list[IssuedMonth]:
        """Return the months to correct."""
        return [IssuedMonth(inputs=self._of(m), billed=m.billed, corrects=m.corrects) for m in self.earlier]

    def _of(self, month: "StoredRun | EarlierMonth") -> RunInputs:
        return RunInputs(
            month=month.month,
            timezone=self.timezone,
            registry=self.registry,
            tariffs=tuple(tariff_of(text) for text in self.tariffs),
            default=month.default,
            bases=month.bases,
        )

    def pack(self) -> bytes:
        """Return the inputs as compressed canonical JSON."""
        content = plain(self)
        registry = content["registry"]
        for name in ("meters", "accounts"):
            registry[name] = [thing for _, thing in sorted(registry[name].items(), key=lambda named: int(named[0]))]
        for month in content["earlier"]:  # Runs of before have no taxes there.
            month["billed"] = {number: row if row[-1] else row[:-1] for number, row in month["billed"].items()}
        content["provisional"] = content["provisional"] or {}
        return zlib.compress(canonical(content))


def unpack_run(data: bytes, account: AccountNumber | None = None) -> StoredRun:
    """Return the inputs that ``pack`` wrote.

    Args:
        data: The packed inputs.
        account: Leave out the meters that this account never had, the other accounts, and earlier months: the rest
            explains and proves the account's bill, and takes a tenth of the memory. ``None``: everything.
    """
    content = json.loads(zlib.decompress(data), object_hook=None if account is None else partial(_of_account, account))
    registry = content["registry"]
    for name, key in (("meters", "id"), ("accounts", "number")):
        registry[name] = {thing[key]: thing for thing in registry[name] if thing}
    content |= {name: [*filter(None, content.get(name, ()))] for name in ("earlier", "entries")}
    if account is not None:
        content["bases"] = {number: base for number, base in content["bases"].items() if int(number) == account}
    return _STORED_RUN.validate_python(content)


_STORED_RUN = TypeAdapter(StoredRun)


def kept_of(data: bytes) -> dict[str, Any]:
    """Return what a later run keeps of packed inputs, by the names of ``EarlierMonth``."""
    content = json.loads(zlib.decompress(data))
    corrects = tuple(t.label for t in map(tariff_of, content["tariffs"]) if t.file.tariff.corrects)
    return {"default": content["default"], "rules": content["rules"], "corrects": corrects}


def _of_account(account: AccountNumber, content: dict[str, Any]) -> dict[str, Any]:
    """Return a JSON object of a run's inputs; nothing for a meter or an account that an account has no part in."""
    if "holdings" in content:
        is_its = any(held["account"] == account for held in content["holdings"])
    elif "weights" in content:
        is_its = content["number"] == account
    elif "cents" in content:
        is_its = content["account"] == account
    else:
        is_its = "billed" not in content
    return content if is_its else {}


@dataclass(frozen=True, kw_only=True)
class Tree:
    """The tree over the bills of a month."""

    secret: bytes = field(repr=False)  # what the leaves' salts are made of
    hashes: tuple[bytes, ...]  # the hash of each leaf, by account; that of meters without an account is the first
    head: Json  # the root, and what stands beside it


@dataclass(frozen=True, kw_only=True)
class Computed:
    """What a run made."""

    run: StoredRun  # its inputs, complete
    billed: Mapping[AccountNumber, Billed]  # the bills, by account
    contents: Mapping[AccountNumber, bytes]  # the bills as canonical JSON, by account
    digest: str  # the SHA-256 over all of them
    figures: Mapping[str, Any]  # sums, for people
    leaves: Mapping[AccountNumber, Json] = field(repr=False)  # the content of each leaf of the month's tree, by account

    def tree(self, secret: bytes) -> Tree:
        """Return the month's tree over all leaves, salted by a secret, and its head."""
        salted = salts(secret, self.leaves)
        leaves = [Leaf(account=n, content=content, salt=salted[n]) for n, content in sorted(self.leaves.items())]
        hashes = [leaf_hash(leaf.salt, leaf.canonical()) for leaf in leaves]
        tariffs = {tariff.label: digest(json.loads(tariff.canonical())) for tariff in self.run.inputs().used}
        contents = [leaf.content for leaf in leaves]
        replaces = {"replaces": self.run.replaces} if self.run.replaces else {}
        head = head_of(self.run.month, contents, hashes, tariffs=tariffs, rules=self.run.rules, **replaces)
        return Tree(secret=secret, hashes=tuple(hashes), head=head)


def computed(run: StoredRun, load: Load, progress: Progress | None = None) -> Computed:
    """Return the bills of a run; the same inputs give the same bytes."""
    inputs = run.inputs()
    recorder = Recorder(load if run.provisional is None else replayed(load, run.provisional))
    digests = Digests(inputs)
    result = bills_of(inputs, recorder.load, progress, digests.see)
    corrected = with_corrections(
        inputs, result, run.corrected(), recorder.load, progress, run.entries, frozenset(run.finals)
    )
    billed = {number: _addressed(run, b) for number, b in corrected.billed.items()}
    contents = {number: bill_bytes(b.bill) for number, b in billed.items()}
    return Computed(
        run=replace(run, provisional=recorder.found),
        billed=billed,
        contents=contents,
        digest=digest_of(contents.values()),
        figures=_figures(corrected.billed, result, corrected.open_cents) | _days(inputs, recorder),
        leaves=digests.leaves({number: b.bill for number, b in billed.items()}),
    )


def _addressed(run: StoredRun, billed: Billed) -> Billed:
    digest = (run.addressees or {}).get(billed.bill.account, "")
    return replace(billed, bill=replace(billed.bill, addressee=digest)) if digest else billed


def first_days(run: StoredRun, load: Load, days: int) -> dict[str, Any]:
    """Return a run's sums as they are by its month's first days, without what people entered, and how many these are.

    The bases are of the whole month, as those of a draft of a month that is not over.
    """
    inputs = run.inputs()
    ends = inputs.day_ends[:days]
    result = bills_of(inputs, cut_off(load, ends[-1] + 1))
    return _figures(result.billed, result) | {"days": len(ends)}


def _days(inputs: RunInputs, recorder: Recorder) -> dict[str, int]:
    """Return of how many days of how many a run is; of all, or if no reading may come: nothing."""
    days, of_days = len(recorder.settled.intersection(inputs.day_ends)), len(inputs.day_ends)
    return {"days": days, "of_days": of_days} if recorder.found and days < of_days else {}


def _figures(billed: Mapping[AccountNumber, Billed], result: RunResult, open_cents: int = 0) -> dict[str, Any]:
    bills = [each.bill for each in billed.values()]
    lines = [line for bill in bills for line in bill.lines]
    sums = {kind: sum((line.amount for line in lines if line.kind is kind), Decimal(0)) for kind in LineKind}
    amounts: dict[str, Any] = {
        kind.value: str(amount) for kind, amount in sums.items() if amount or LINE_ROWS[kind].is_always_summed
    }
    return amounts | {
        "bills": len(bills),
        "total": str(sum((bill.total for bill in bills), Decimal(0))),
        "open_corrections": str(Decimal(open_cents).scaleb(-2)),
        "provisional": sum(bill.provisional > 0 for bill in bills),
        "estimated": sum(bill.estimated > 0 for bill in bills),
        "missing": sum(bill.missing > 0 for bill in bills),
        "given_mwh": result.sums.given,
        "kept_by_town_mwh": result.sums.kept,
        "taken_mwh": sum(line.energy or 0 for line in lines if line.kind == "import"),
        "taken_by_nobody_mwh": result.sums.unheld,
    }
