"""A move: who leaves a home, and which account has its meters from then on (pure)."""

from dataclasses import dataclass
from enum import StrEnum
from zoneinfo import ZoneInfo

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import AccountNumber, Quarter
from commonwatt.town.town import MAX_ACCOUNT
from utility.registry.accounts import DatedRegistry, Installed
from utility.registry.dates import date_words
from utility.registry.importing import apply_facts
from utility.registry.table import Fact


class Kind(StrEnum):
    """What happens with a home."""

    MOVE = "move"  # one account leaves, another one comes
    EMPTY = "empty"  # the account leaves; the home's energy is the town's
    IN = "in"  # an account comes into an empty home
    HEIRS = "heirs"  # the account stays, its people change


@dataclass(frozen=True, kw_only=True)
class Move:
    """A move as the clerk's form has it."""

    kind: Kind  # what happens
    account: AccountNumber  # the account of the home; of an empty home the one that had it last
    at: Quarter  # the first quarter of what comes: the account that leaves has the one before
    next: AccountNumber | None = None  # the account that comes; ``None``: none does

    @property
    def comes(self) -> AccountNumber | None:
        """The account with other people from then on; ``None``: the home is empty."""
        return self.account if self.kind is Kind.HEIRS else self.next

    @property
    def leaves(self) -> AccountNumber | None:
        """The account without the home from then on; ``None``: none leaves."""
        return self.account if self.kind in (Kind.MOVE, Kind.EMPTY) else None


def free_number(registry: DatedRegistry) -> AccountNumber:
    """Return the next free number of an account."""
    return max(registry.accounts, default=0) + 1


def home_of(registry: DatedRegistry, move: Move, zone: ZoneInfo) -> list[Installed]:
    """Return the meters that a move is about, by id: those of the home then, and those that came into it later.

    Raises:
        ConfigError: The account has no home then, or who has it later is dated already; begins with the field's name.
    """
    account, at, when = move.account, move.at, date_words(move.at, zone)
    had = [meter for _, meter in sorted(registry.meters.items()) if account in {h.account for h in meter.holdings}]
    if not had:
        raise ConfigError(f"account: {account} has no meter, and had none")
    if move.kind is Kind.IN:
        left = (m for m in had if m.holdings[-1].account == account and (m.holdings[-1].end or at + 1) <= at)
        words = f"no home that account {account} had last is empty from {when} on"
    else:
        left = (m for m in had if m.account_at(at - 1) == account)
        begins = date_words(min(h.start for m in had for h in m.holdings if h.account == account), zone)
        words = f"account {account} has no meter just before {when}; it has its first from {begins} on"
    places = {(meter.microgrid, meter.place) for meter in left}
    found = [
        meter
        for _, meter in sorted(registry.meters.items())
        if (meter.microgrid, meter.place) in places and (meter.end is None or at < meter.end)
    ]
    if not found:
        raise ConfigError(f"at: {words}")
    holder = None if move.kind is Kind.IN else account
    for meter in found:
        later = [held for held in meter.holdings if held.end is None or at < held.end]
        goes_on = move.kind is Kind.IN or not later or later[-1].end in (None, meter.end)
        if {held.account for held in later} - {holder} or not goes_on:
            raise ConfigError(f"at: who has {meter.place} in {meter.microgrid} after {when} is dated already")
    return found


def moved(registry: DatedRegistry, move: Move, zone: ZoneInfo) -> DatedRegistry:
    """Return the registry after a move; by the rules of its table (``importing``).

    Raises:
        ConfigError: It can't be; begins with the name of the form's field.
    """
    home = home_of(registry, move, zone)
    if move.kind in (Kind.EMPTY, Kind.HEIRS):
        if move.next is not None:
            raise ConfigError("next: no other account comes; leave it empty")
    elif move.next is None:
        raise ConfigError("next: give the account that comes")
    elif move.next not in registry.accounts and move.next != free_number(registry):
        raise ConfigError(f"next: account {move.next} is not registered; a new one is {free_number(registry)}")
    elif move.next > MAX_ACCOUNT or (move.kind is Kind.MOVE and move.next == move.account):
        raise ConfigError(f"next: account {move.next} can't come")
    if move.kind is Kind.HEIRS:
        return registry
    facts = [] if move.next is None else [Fact(row=0, what="account", account=move.next)]
    for meter in home:
        for held in meter.holdings:
            goes = held.end is None or move.at < held.end
            if held.start < move.at:
                facts.append(_holder(meter, held.account, held.start, move.at if goes else held.end))
            if goes:
                facts.append(_holder(meter, move.next or 0, max(held.start, move.at), held.end))
        if move.kind is Kind.IN:
            facts.append(_holder(meter, move.next, max(meter.start or 0, move.at), None))
    after, faults = apply_facts(registry, facts, (), zone)
    if after is None:
        raise ConfigError("at: " + "; ".join(fault.text for fault in faults))
    return after


def _holder(meter: Installed, account: AccountNumber | None, start: Quarter, end: Quarter | None) -> Fact:
    return Fact(row=0, what="holder", meter=meter.id, account=account, start=start, end=end)
