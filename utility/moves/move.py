"""A move: who leaves a home, and which account has its meters from then on (pure)."""

from dataclasses import dataclass, replace
from enum import StrEnum
from zoneinfo import ZoneInfo

from commonwatt.look.writing import Writing
from commonwatt.model.calendar import local_text
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import AccountNumber, Quarter
from commonwatt.town.town import MAX_ACCOUNT
from utility.registry.accounts import Account, DatedRegistry, Holding, Installed
from utility.registry.changes import date_words


class MoveKind(StrEnum):
    """What changes with an account."""

    PEOPLE = "people"  # its people alone: another name or address, heirs
    MOVE = "move"  # it leaves its home, and another account comes
    EMPTY = "empty"  # it leaves its home, whose energy is the town's
    IN = "in"  # an account comes into the home that it had last, which is empty
    BACK = "back"  # its next move, of a day to come, is taken back


ADDRESS = ("street", "postcode", "city", "country")  # fields of a contact
OUT, COMES = "moves out", "moves in"  # what a household is told
TOLD = {
    OUT: ("You move out on {number}", "Your last bill ends then. If this is wrong, tell the office before that day."),
    COMES: ("You move in on {number}", "Your bills begin then. If this is wrong, tell the office before that day."),
    MoveKind.BACK: ("Your move on {number} is taken back", "Nothing changes for you then."),
}
"""What a household reads on its page and in a mail, in English, as in the catalogue of bills."""


def told(what: str, at: Quarter, zone: ZoneInfo, writing: Writing) -> tuple[str, str]:
    """Return what a household reads of a move, its subject and its sentence, in the household's language."""
    subject, words = TOLD[what]
    return writing.say(subject, number=day_of(at, zone)), writing.say(words)


def day_of(at: Quarter, zone: ZoneInfo) -> str:
    """Return when a move is: a day, with the time if it is not the day's begin."""
    return local_text(at, zone).removesuffix(" 00:00")


@dataclass(frozen=True, kw_only=True)
class Move:
    """A change of an account, as the clerk's form has it."""

    kind: MoveKind  # what changes
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
    if move.kind is MoveKind.PEOPLE:
        return registry, move.account, []
    comes = max(registry.accounts) + 1 if move.next == 0 else move.next
    if (comes is None) != (move.kind is MoveKind.EMPTY):
        raise ConfigError("next: give the account that comes, or leave it empty where the home stays empty")
    if (move.next and comes not in registry.accounts) or (comes or 0) > MAX_ACCOUNT:
        raise ConfigError(f"next: {comes} is no registered account; write `new` for a new one")
    if move.kind is MoveKind.MOVE and comes == move.account:
        raise ConfigError("next: this account leaves")
    home, meters, accounts = _home_of(registry, move, zone), dict(registry.meters), dict(registry.accounts)
    for meter in home:
        ends = [replace(h, end=min(move.at, h.end or move.at)) for h in meter.holdings if h.start < move.at]
        later = [h for h in meter.holdings if h.end is None or move.at < h.end]
        if move.kind is MoveKind.IN:
            later = [Holding(account=0, start=meter.start or 0, end=meter.end)]
        begins = [replace(h, account=comes, start=max(h.start, move.at)) for h in later if comes is not None]
        meters[meter.id] = replace(meter, holdings=(*ends, *begins))
    if comes is not None:
        accounts[comes] = accounts.get(comes) or Account(number=comes, function=home[0].function)
    return replace(registry, meters=meters, accounts=accounts), comes, home


def next_move(registry: DatedRegistry, account: AccountNumber, now: Quarter) -> tuple[Quarter, str] | None:
    """Return when the next move of an account is, and if it moves ``OUT`` or ``COMES``; ``None``: none is dated."""
    ours = [(m, held) for m in registry.meters.values() for held in m.holdings if held.account == account]
    ends = [(h.end, OUT) for m, h in ours if h.end is not None and h.end != m.end]
    begins = [(h.start, COMES) for m, h in ours if h.start not in (0, m.start)]
    return min((each for each in (*ends, *begins) if each[0] > now), default=None)


def taken_back(
    registry: DatedRegistry, account: AccountNumber, now: Quarter
) -> tuple[DatedRegistry, Quarter, list[AccountNumber]]:
    """Return the registry without the next move of an account, when that was, and which accounts moved."""
    if (found := next_move(registry, account, now)) is None:
        raise ConfigError(f"account {account} has no move of a day to come")
    at, meters = found[0], dict(registry.meters)
    ours = [m for m in meters.values() if any(h.account == account and at in (h.start, h.end) for h in m.holdings)]
    places = {(m.microgrid, m.place) for m in ours}
    home = [m for m in meters.values() if (m.microgrid, m.place) in places and (m.end is None or at < m.end)]
    leave = {h.account for m in ours for h in m.holdings if h.end == at}
    come = {h.account for m in home for h in m.holdings if h.start >= at} - leave
    if len(leave) > 1 or len(come) > 1:
        raise ConfigError("another move of the same home is dated after it: take that one back first")
    for meter in home:
        stays = [held for held in meter.holdings if held.start < at]
        if stays and stays[-1].end == at:
            stays[-1] = replace(stays[-1], end=meter.end)
        elif not stays:
            stays = [Holding(account=number, start=meter.start or 0, end=meter.end) for number in leave]
        meters[meter.id] = replace(meter, holdings=tuple(stays))
    return replace(registry, meters=meters), at, sorted(leave | come)


def _home_of(registry: DatedRegistry, move: Move, zone: ZoneInfo) -> list[Installed]:
    """Return the meters of the home that a move is about, by id, with those that came into it later."""
    account, at, when = move.account, move.at, date_words(move.at, zone)
    had = [m for m in registry.meters.values() if account in {held.account for held in m.holdings}]
    if move.kind is MoveKind.IN:
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
