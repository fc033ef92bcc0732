"""The inputs of a run, whole, as it is stored: from them alone and the settled data the same bills follow again."""

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import partial
from typing import Any

from pydantic import TypeAdapter

from commonwatt.model.units import AccountNumber
from utility.billing.bill import LINE_ROWS, LineKind, later
from utility.billing.canonical import bill_bytes, digest_of
from utility.billing.corrections import BilledMonth, Earlier, with_corrections
from utility.billing.entries import Entry
from utility.billing.inputs import RULES, Load, RunInputs
from utility.billing.lines import Billed
from utility.billing.proof.canonical import Json, canonical, plain
from utility.billing.proof.digests import Digests
from utility.billing.proof.head import digest, head_of
from utility.billing.proof.leaf import Leaf
from utility.billing.proof.tree import leaf_hash, salts
from utility.billing.provisional import Recorder, Spans, replayed
from utility.billing.run import Progress, Result, bills_of
from utility.billing.so_far import cut_off
from utility.registry.accounts import DatedRegistry
from utility.tariffs.tariff import tariff_of


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
    entries: tuple[Entry, ...] = later(())  # what people entered and no issued bill has yet, by number
    finals: tuple[AccountNumber, ...] = later(())  # accounts that moved out in the month, by number
    addressees: Mapping[AccountNumber, str] | None = later(None)  # digests of names; ``None``: none is known
    replaces: str = later("")  # the check code of the cancelled run of the month; empty: there is none

    def inputs(self) -> RunInputs:
        """Return the inputs of the month's own bills."""
        return self._of(self)

    def corrected(self) -> list[Earlier]:
        """Return the months to correct."""
        return [Earlier(inputs=self._of(it), billed=it.billed, corrects=it.corrects) for it in self.earlier]

    def _of(self, of: "StoredRun | EarlierMonth") -> RunInputs:
        return RunInputs(
            month=of.month,
            timezone=self.timezone,
            registry=self.registry,
            tariffs=tuple(tariff_of(text) for text in self.tariffs),
            default=of.default,
            bases=of.bases,
        )

    def pack(self) -> bytes:
        """Return the inputs as compressed canonical JSON."""
        content = plain(self)
        registry = content["registry"]
        for name in ("meters", "accounts"):
            registry[name] = [each for _, each in sorted(registry[name].items(), key=lambda named: int(named[0]))]
        for each in content["earlier"]:  # Runs of before have no taxes there.
            each["billed"] = {number: of if of[-1] else of[:-1] for number, of in each["billed"].items()}
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
        registry[name] = {each[key]: each for each in registry[name] if each}
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
        tariffs = {each.label: digest(json.loads(each.canonical())) for each in self.run.inputs().used}
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
    billed = {number: _addressed(run, each) for number, each in corrected.billed.items()}
    contents = {number: bill_bytes(each.bill) for number, each in billed.items()}
    return Computed(
        run=replace(run, provisional=recorder.found),
        billed=billed,
        contents=contents,
        digest=digest_of(contents.values()),
        figures=_figures(corrected.billed, result, corrected.open_cents) | _days(inputs, recorder),
        leaves=digests.leaves({number: each.bill for number, each in billed.items()}),
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


def _figures(billed: Mapping[AccountNumber, Billed], result: Result, open_cents: int = 0) -> dict[str, Any]:
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
