"""The proof that a bill is one of its month's: canonical bytes, leaves, a salted tree, its head, witnesses (U2).

The canonical form of a record: keys are sorted, there is no white space, every character is ASCII. Amounts and rates
are strings with all their digits, energies and times are whole numbers. No floating-point number is allowed.

The tree over the leaves of a month is as in RFC 6962, with a salt in each leaf:

- leaf: SHA-256(0x00, salt, content)
- node: SHA-256(0x01, left, right); a node without a right neighbour goes up unchanged
- an empty tree has no root

The first byte tells leaves from nodes, so that no node can be shown as a leaf. A salt is 32 secret bytes: without it,
amounts can't be tried out until a hash fits.

Totals of the head are of groups of accounts. A group has at least 15, or no totals are given; each account is in
exactly one group, and no sum over several groups is given, so that no difference of totals is a single bill. A total of
which one account has more than 15 % is withheld, since it would nearly be that account's.
"""

import hashlib
import hmac
import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from decimal import Decimal
from enum import Enum
from typing import Any, TypeAlias

import numpy as np
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from numpy.typing import NDArray
from pydantic import TypeAdapter

from commonwatt.identity.certificates import check_signed
from commonwatt.identity.chains import check_issued
from commonwatt.model.exceptions import ConfigError, StoreError
from commonwatt.model.units import AccountNumber, ControllerId, MeterId, MicrogridId, MilliwattHours, Quarter
from commonwatt.protocol.controller_commands import WITNESS_PURPOSE, witness_key_text
from commonwatt.town.town import Direction
from utility.billing.bill import Bill
from utility.billing.inputs import RunInputs
from utility.energy.quarters import Quantity, SettledQuarters
from utility.registry.accounts import DatedRegistry, Installed, functions_of

Json = Any  # what ``json.loads`` returns


def canonical(value: Json) -> bytes:
    """Return the canonical JSON of a plain value.

    Raises:
        TypeError: The value holds a floating-point number, or a value that is not JSON.
    """
    _refuse_floats(value)
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def plain(value: object) -> Json:
    """Return a record, such as a bill, as a plain value for ``canonical``."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Decimal):
        return format(value, "f")
    if is_dataclass(value):
        return {name: plain(part) for name, part in fields_of(value).items()}
    if isinstance(value, dict):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    return value


def fields_of(record: Any) -> dict[str, Any]:
    """Return the fields of a record by name; those of later versions (``bill.later``) only where they say something."""
    values = {field.name: (getattr(record, field.name), field) for field in fields(record)}
    return {name: v for name, (v, field) in values.items() if not ("later" in field.metadata and v == field.default)}


def _refuse_floats(value: Json) -> None:
    if isinstance(value, float):
        raise TypeError(f"{value!r}: a canonical record has no floating-point numbers")
    if isinstance(value, dict):
        for key, part in value.items():
            if not isinstance(key, str):
                raise TypeError(f"{key!r}: a canonical record has only text as keys")
            _refuse_floats(part)
    elif isinstance(value, list | tuple):
        for part in value:
            _refuse_floats(part)


SALT_BYTES = 32  # length of a salt, and of the secret of a run
HASH_BYTES = 32  # length of a hash

_LEAF, _NODE = b"\x00", b"\x01"


def salts(secret: bytes, accounts: Iterable[AccountNumber]) -> dict[AccountNumber, bytes]:
    """Return the salt of each account, from the secret of the run (32 random bytes).

    Each is HMAC-SHA-256 of the account's number: one account's salt tells nothing of another's. So a run keeps 32
    bytes, and makes the same root again.
    """
    if len(secret) != SALT_BYTES:
        raise ValueError(f"the secret of a run has {SALT_BYTES} bytes, this one has {len(secret)}")
    return {account: hmac.digest(secret, b"%d" % account, "sha256") for account in accounts}


def leaf_hash(salt: bytes, content: bytes) -> bytes:
    """Return the hash of a leaf."""
    if len(salt) != SALT_BYTES:
        raise ValueError(f"a salt has {SALT_BYTES} bytes, this one has {len(salt)}")
    return hashlib.sha256(_LEAF + salt + content).digest()


def root(leaves: Sequence[bytes]) -> bytes:
    """Return the root over the hashes of leaves, at least one."""
    return _levels(leaves)[-1][0]


def path_of(leaves: Sequence[bytes], index: int) -> Iterator[bytes]:
    """Yield what proves one leaf: the neighbours' hashes from the leaf up to the root."""
    for level in _levels(leaves)[:-1]:
        neighbour = index ^ 1
        if neighbour < len(level):
            yield level[neighbour]
        index //= 2


def _levels(leaves: Sequence[bytes]) -> list[Sequence[bytes]]:
    if not leaves:
        raise ValueError("a tree needs at least one leaf")
    levels = [leaves]
    while len(below := levels[-1]) > 1:
        pairs = [_node(below[n], below[n + 1]) for n in range(0, len(below) - 1, 2)]
        levels.append(pairs + list(below[len(below) - len(below) % 2 :]))
    return levels


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(_NODE + left + right).digest()


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
        hasher = hashlib.sha256()
        for _, quantity in sorted(QUANTITIES.items()):
            if quantity in self.energies:
                hasher.update(self.energies[quantity].astype(">i8").tobytes())
        hasher.update(self.quality.astype(np.uint8).tobytes())
        return hasher.hexdigest()

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
        "meters": sorted(meters, key=lambda meter: (int(meter["meter"]), meter["first"])),
    }


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
        contents = {TOWN: content_of(TOWN, "town", None, self._stated.get(TOWN, ()))}
        for number, bill in sorted(bills.items()):
            customer = customer_of(self._inputs.registry, number)
            contents[number] = content_of(number, customer, bill, self._stated.get(number, ()))
        return contents


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
    holders, at = [], first
    for account, start, end in [*meter.held(first, until), (TOWN, until, until)]:
        if at < start:
            holders.append((TOWN, at, start))
        if start < end:
            holders.append((account, start, end))
        at = max(at, end)
    return holders


LEAST_ACCOUNTS = 15  # accounts of a group whose totals are given
LARGEST_PERCENT = 15  # no account has more of a total that is given

_HEAD = b"\x02"


def head_of(month: str, contents: Sequence[Json], hashes: Sequence[bytes], **stated: Json) -> Json:
    """Return the head of a month.

    Args:
        contents: The contents of all leaves, by account.
        stated: What else the head commits to, such as the run, and digests of tariffs and boundaries.
    """
    return {
        **stated,
        "month": month,
        "leaves": len(contents),
        "root": root(hashes).hex(),
        "groups": totals(contents),
    }


def check_code(head: Json) -> str:
    """Return the code that is printed on every bill of the month: SHA-256 of 0x02 and the head, in hexadecimal."""
    return hashlib.sha256(_HEAD + canonical(head)).hexdigest()


def digest(value: Json) -> str:
    """Return the SHA-256 of a value's canonical JSON, in hexadecimal, as heads commit to tariffs and boundaries."""
    return hashlib.sha256(canonical(value)).hexdigest()


def totals(contents: Sequence[Json]) -> list[Json]:
    """Return the totals of each group of accounts, from the contents of all leaves."""
    accounts = [content for content in contents if content["account"] != TOWN]
    groups = group_customers(Counter(content["customer"] for content in accounts))
    return [_totals(names, [c for c in accounts if c["customer"] in names]) for names in groups]


def group_customers(counts: Mapping[str, int]) -> list[tuple[str, ...]]:
    """Return which kinds of customers have their totals together.

    Kinds with fewer than 15 accounts form one group; if it still has fewer, it goes to the largest kind, in which
    single accounts count least.
    """
    small = [name for name in sorted(counts) if counts[name] < LEAST_ACCOUNTS]
    large = sorted((name for name in counts if name not in small), key=lambda name: (-counts[name], name))
    if not small or sum(counts[name] for name in small) >= LEAST_ACCOUNTS or not large:
        return [*((name,) for name in sorted(large)), *([tuple(small)] if small else [])]
    merged = tuple(sorted((large[0], *small)))
    return sorted([merged, *((name,) for name in large[1:])])


def _totals(names: tuple[str, ...], contents: Sequence[Json]) -> Json:
    """Return the totals of a group; those that would tell of one account are ``None``."""
    billed = [Decimal(content["bill"]["total"]) for content in contents]
    shown = None if _tells(billed) else format(sum(billed, Decimal(0)), "f")
    energies = {
        f"{name}_mwh": None if _tells(sums) else sum(sums)
        for name in ("imported", "exported", "shared_in", "shared_out")
        for sums in [[sum(meter["sums_mwh"].get(name, 0) for meter in content["meters"]) for content in contents]]
    }
    return {"customers": list(names), "accounts": len(contents), "billed": shown, **energies}


def _tells(values: Sequence[Decimal] | Sequence[int]) -> bool:
    """Return whether a total would tell of a single account; only totals of final bills are negative."""
    return len(values) < LEAST_ACCOUNTS or 100 * max(map(abs, values)) > LARGEST_PERCENT * sum(values)


class AlteredBillError(StoreError):
    """The database was changed after a run of bills was issued.

    Attributes:
        run: The run's number.
        month: Its local month.
        account: The account; ``None``: the run as a whole.
        what: What differs, in words.
    """

    def __init__(self, run: int, month: str, account: AccountNumber | None, what: str) -> None:
        super().__init__(run, month, account, what)
        self.run, self.month, self.account, self.what = run, month, account, what

    def __str__(self) -> str:
        account = "" if self.account is None else f", account {self.account}"
        return (
            f"issued run {self.run} of {self.month}{account}: {self.what}. The database was changed after the run was "
            "issued; nothing of it is shown. Restore a backup: the printed check code tells which one is right"
        )


_TOP = (1 << 255) - 1
# Points of low order, by which one signature fits every text: 0, 1, p - 1, p, p + 1 and the two of order 8.
_LOW_ORDER = {
    *(n.to_bytes(32, "little") for n in (0, 1, 2**255 - 20, 2**255 - 19, 2**255 - 18)),
    bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
    bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
}
OTHERS = 2  # signatures of other streets in a receipt
FORM = "commonwatt witnesses 1"  # the name of the public list's form


@dataclass(frozen=True, kw_only=True)
class Signed:
    """A controller's signature of a month's check code."""

    controller: ControllerId  # the controller
    month: str  # the month
    signed: str  # its public key and the signature, as in ``ControllerOutcome.signed``


@dataclass(frozen=True, kw_only=True)
class BoundKey:
    """A controller's public key, and the controller's certificate behind it."""

    controller: ControllerId  # the controller
    key: str  # its public key, hexadecimal
    bound: str  # the signature of the key by the certificate, hexadecimal
    certificate: str  # the certificate and, if one issued it, the enrolment certificate (PEM); it may have expired

    def is_good(self, authority: bytes) -> bool:
        """Return whether an authority (PEM) issued the certificate for the controller, and it signed the key."""
        chain, text = self.certificate.encode(), witness_key_text(self.controller, self.key)
        try:
            check_issued(chain, authority, None, self.controller)
            check_signed(chain, WITNESS_PURPOSE, text, bytes.fromhex(self.bound))
        except ConfigError:
            return False
        return True


def is_signed(signed: str, text: bytes) -> bool:
    """Return whether a key and its signature (``Signed.signed``) are good, and of a text."""
    try:
        raw = bytes.fromhex(signed)
        point = (int.from_bytes(raw[:32], "little") & _TOP).to_bytes(32, "little")
        Ed25519PublicKey.from_public_bytes(raw[:32]).verify(raw[32:], text)
    except (ValueError, InvalidSignature):
        return False
    return point not in _LOW_ORDER


def chosen(signed: Iterable[Signed], code: str, streets: Collection[MicrogridId]) -> list[Json]:
    """Return the signatures for a receipt: of its streets, and of others that the code chooses, not the utility."""
    drawn = sorted(signed, key=lambda signature: hashlib.sha256(f"{code}{signature.controller}".encode()).digest())
    own = [signature for signature in drawn if signature.controller in streets]
    others = [signature for signature in drawn if signature.controller not in streets]
    return [{"controller": signature.controller, "signed": signature.signed} for signature in (*own, *others[:OTHERS])]


def public_list(signed: Sequence[Signed], bound: Sequence[BoundKey], revoked: Collection[ControllerId]) -> Json:
    """Return the public list of keys with their first and last months; those of revoked controllers count no more."""
    months: dict[tuple[ControllerId, str], list[str]] = {}
    for signature in signed:
        months.setdefault((signature.controller, signature.signed[:64]), []).append(signature.month)
    keys = [
        asdict(key) | {"first": min(its), "last": max(its), "revoked": key.controller in revoked}
        for key in bound
        if (its := months.get((key.controller, key.key)))
    ]
    return {"form": FORM, "keys": keys}


def bill_bytes(bill: Bill) -> bytes:
    """Return a bill as canonical JSON; lines have only the keys that say something."""
    lines = [{name: value for name, value in fields_of(line).items() if value not in ("", None)} for line in bill.lines]
    return canonical(plain(fields_of(bill) | {"lines": lines}))


def bill_of(data: bytes | str) -> Bill:
    """Return the bill that ``bill_bytes`` wrote."""
    return _BILL.validate_json(data)


def digest_of(parts: Iterable[bytes]) -> str:
    """Return the SHA-256 of parts, each with its length before it, hexadecimal."""
    hasher = hashlib.sha256()
    for part in parts:
        hasher.update(len(part).to_bytes(8, "big") + part)
    return hasher.hexdigest()


_BILL = TypeAdapter(Bill)
