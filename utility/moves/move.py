"""A move: who leaves a home, and which account has its meters from then on (pure)."""

from dataclasses import dataclass, replace
from enum import StrEnum
from zoneinfo import ZoneInfo

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import AccountNumber, Quarter
from commonwatt.town.town import MAX_ACCOUNT
from utility.registry.accounts import Account, DatedRegistry, Holding, Installed
from utility.registry.dates import date_words


class Kind(StrEnum):
    """What changes with an account."""

    PEOPLE = "people"  # its people alone: another name or address, heirs
    MOVE = "move"  # it leaves its home, and another account comes
    EMPTY = "empty"  # it leaves its home, whose energy is the town's
    IN = "in"  # an account comes into the home that it had last, which is empty


@dataclass(frozen=True, kw_only=True)
class Move:
    """A change of an account, as the clerk's form has it."""

    kind: Kind  # what changes
    account: AccountNumber  # the account
    at: Quarter  # the first quarter with the change: an account that leaves has the one before
    next: AccountNumber | None = None  # the account that comes; 0: a new one, the next free number; ``None``: none


def moved(
    registry: DatedRegistry, move: Move, zone: ZoneInfo
) -> tuple[DatedRegistry, AccountNumber | None, list[Installed]]:
    """Return the registry after a move, the account of the people who come, and the home's meters before it.

    Raises:
        ConfigError: It can't be; begins with the name of the form's field.
    """
    if move.account not in registry.accounts:
        raise ConfigError(f"account: {move.account} is not registered")
    if move.kind is Kind.PEOPLE:
        return registry, move.account, []
    comes = max(registry.accounts) + 1 if move.next == 0 else move.next
    if (comes is None) != (move.kind is Kind.EMPTY):
        raise ConfigError("next: give the account that comes, or leave it empty where the home stays empty")
    if (move.next and comes not in registry.accounts) or (comes or 0) > MAX_ACCOUNT:
        raise ConfigError(f"next: {comes} is no registered account; write `new` for a new one")
    if move.kind is Kind.MOVE and comes == move.account:
        raise ConfigError("next: this account leaves")
    home, meters, accounts = _home_of(registry, move, zone), dict(registry.meters), dict(registry.accounts)
    for meter in home:
        ends = [replace(h, end=min(move.at, h.end or move.at)) for h in meter.holdings if h.start < move.at]
        later = [h for h in meter.holdings if h.end is None or move.at < h.end]
        if move.kind is Kind.IN:
            later = [Holding(account=0, start=meter.start or 0, end=meter.end)]
        begins = [replace(h, account=comes, start=max(h.start, move.at)) for h in later if comes is not None]
        meters[meter.id] = replace(meter, holdings=(*ends, *begins))
    if comes is not None:
        accounts[comes] = accounts.get(comes) or Account(number=comes, function=home[0].function)
    return replace(registry, meters=meters, accounts=accounts), comes, home


def _home_of(registry: DatedRegistry, move: Move, zone: ZoneInfo) -> list[Installed]:
    """Return the meters of the home that a move is about, by id, with those that came into it later.

    Raises:
        ConfigError: The account has no home then, or who has it later is dated already; begins with the field's name.
    """
    account, at, when = move.account, move.at, date_words(move.at, zone)
    had = [m for m in registry.meters.values() if account in {held.account for held in m.holdings}]
    if move.kind is Kind.IN:
        holder, words = None, f"no home that account {account} had last is empty on {when}"
        left = [m for m in had if m.holdings[-1].account == account and (m.holdings[-1].end or at + 1) <= at]
    else:
        holder, words = account, f"account {account} has no meter just before {when}"
        left = [m for m in had if m.account_at(at - 1) == account]
    places, meters = {(m.microgrid, m.place) for m in left}, [m for _, m in sorted(registry.meters.items())]
    found = [m for m in meters if (m.microgrid, m.place) in places and (m.end is None or at < m.end)]
    if not found:
        raise ConfigError(f"at: {words}")
    for meter in found:
        later = [held for held in meter.holdings if held.end is None or at < held.end]
        if {held.account for held in later} - {holder} or (later and later[-1].end not in (None, meter.end)):
            raise ConfigError(f"at: who has {meter.place} in {meter.microgrid} after {when} is dated already")
    return found
