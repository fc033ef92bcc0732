"""What clerks decide about people of accounts and moves; the audit log names the accounts, never the people."""

from dataclasses import replace
from datetime import date
from typing import Any

from commonwatt.look.writing import Writing
from commonwatt.model.calendar import local_day, month_of, require_near
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.records import RecordType
from commonwatt.model.text import counted
from commonwatt.model.units import QUARTER_S, AccountNumber, Quarter, quarter_of
from utility.access.people import Actor
from utility.access.store.audit_log import record
from utility.billing.inputs import Load
from utility.billing.run import bills_so_far
from utility.billing.store import billing_sources
from utility.billing.store.runs import newest_issued
from utility.customers.people import Contact, PersonChange, changed, read_people
from utility.customers.store import delete_contacts, drop_contacts, histories, office_key, set_contact
from utility.database.base import Connection
from utility.database.town_zone import zone_of
from utility.energy.quarters import QUANTITY_WORDS, SettledQuality
from utility.moves.move import ADDRESS, COMES, OUT, Move, MoveKind, moved, taken_back, told
from utility.readings.store.reads import numbers_of, readings
from utility.registry.accounts import DatedRegistry, Installed
from utility.registry.changes import date_words, differences
from utility.registry.store.accounts import load_dated_registry, load_for_change, save_dated_registry
from utility.registry.store.statements import add_move, delete_moves
from utility.webkit.services import Api


def take_over(api: Api, actor: Actor, table: str, *, store: bool) -> list[PersonChange]:
    """Return what a table of people changes; ``store``: store it, all or nothing."""
    with (api.database.writes if store else api.database.reads).begin() as connection:
        known = histories(connection, office_key(connection, api.settings.office))
        changes, faults = read_people(table, api.zone.read(), load_dated_registry(connection).accounts, known)
        if faults:
            raise ConfigError("\n".join([*map(str, faults), f"{counted(len(faults), 'mistake')}; nothing changed"]))
        for change in changes if store else ():
            _keep(api, connection, actor, change)
    return changes


def delete(api: Api, actor: Actor, account: AccountNumber, until: Quarter | None) -> None:
    """Delete who an account is from times up to a day on, which a quarter begins; 0: all.

    Raises:
        ConfigError: There is nothing, or no such quarter.
    """
    with api.database.writes.begin() as connection:
        if until is None or not (count := delete_contacts(connection, account, until)):
            raise ConfigError("no name and address from a time up to then are known")
        record(connection, actor, int(api.clock.now()), "contact.delete", f"account {account}", {"contacts": count})


def decide(
    api: Api, actor: Actor, move: Move, who: Contact | None, forward: Contact | None = None, *, store: bool
) -> dict[str, Any]:
    """Return what a move changes, with readings at its date and bills by what is known now; ``store``: do it.

    Args:
        who: The people who come; ``None``: they are not known yet.
        forward: Has the address to which the account that leaves moves; ``None``: it is not known.

    Raises:
        ConfigError: It can't be done; begins with the name of the form's field.
    """
    with (api.database.writes if store else api.database.reads).begin() as connection:
        zone, key = zone_of(connection), office_key(connection, api.settings.office)
        today = local_day(int(api.clock.now()), zone)
        require_near("at", local_day(move.at * QUARTER_S, zone), today, 7_320, 366)
        if who and who.mandate_day:
            require_near("mandate_day", date.fromisoformat(who.mandate_day), today, 7_320, 0)
        before = load_for_change(connection) if store else load_dated_registry(connection)
        after, comes, home = moved(before, move, zone)
        known = histories(connection, key, comes) if who and comes else {}
        if (
            who
            and comes
            and move.kind is not MoveKind.PEOPLE
            and comes in known
            and known[comes][-1][1].name != who.name
        ):
            name = known[comes][-1][1].name
            raise ConfigError(f"next: account {comes} is of {name}; leave the name empty, or write `new`")
        news = [changed(comes, move.at, who, known.get(comes, []))] if who and comes else []
        if forward:
            people = histories(connection, key, move.account).get(move.account, [])
            if not people:
                raise ConfigError(
                    f"to_street: who account {move.account} is, is not known: enter name and address first"
                )
            where = {cell: getattr(forward, cell) for cell in ADDRESS}
            news.append(changed(move.account, move.at, replace(people[-1][1], **where), people))
        lines = [f"account {each.account}, {line}" for each in news for line in each.lines]
        moving = [(move.account, OUT)] if move.kind in (MoveKind.MOVE, MoveKind.EMPTY) else []
        moving += [(comes, COMES)] if home and comes else []
        told_to = [(number, *told(what, move.at, zone, Writing())) for number, what in moving]
        seen = {"lines": lines, "changes": list(differences(before, after, zone)), "told": told_to}
        if not store:
            return seen | _known(api, connection, move, home, after) if home else seen
        for change in news:
            if change.lines:
                _keep(api, connection, actor, change)
        if home:
            save_dated_registry(connection, before, after, actor.name, int(api.clock.now()), zone)
            said = {"kind": move.kind, "from": date_words(move.at, zone), "next": comes}
            record(connection, actor, int(api.clock.now()), "move.make", f"account {move.account}", None, said)
        if move.kind in (MoveKind.MOVE, MoveKind.EMPTY):
            add_move(connection, move.account, move.at)
    return seen


def take_back(api: Api, actor: Actor, account: AccountNumber) -> None:
    """Take the next move of an account back, with the names and addresses that came with it."""
    now = int(api.clock.now())
    with api.database.writes.begin() as connection:
        before, zone = load_for_change(connection), zone_of(connection)
        after, at, accounts = taken_back(before, account, quarter_of(now))
        save_dated_registry(connection, before, after, actor.name, now, zone)
        delete_moves(connection, accounts, at)
        drop_contacts(connection, accounts, at)
        said = {"at": date_words(at, zone), "accounts": accounts}
        record(connection, actor, now, "move.back", f"account {account}", said)


def _keep(api: Api, connection: Connection, actor: Actor, change: PersonChange) -> None:
    set_contact(connection, change.account, change.since, change.who, office_key(connection, api.settings.office))
    record(connection, actor, int(api.clock.now()), "contact.set", f"account {change.account}")


def _known(api: Api, connection: Connection, move: Move, home: list[Installed], after: DatedRegistry) -> dict[str, Any]:
    """Return the readings of a home at a move, the bills of the month until and from then on, and if it is issued."""
    month = month_of(move.at - 1, zone_of(connection))
    part = replace(after, meters={i: m for i, m in after.meters.items() if m.microgrid in {h.microgrid for h in home}})
    inputs = billing_sources.inputs_of(connection, month, part, api.settings.billing.tariff)
    load = billing_sources.settled_as_of(api.database, billing_sources.newest_settled(connection))
    theirs = {number for one in home for number, *_ in after.meters[one.id].held(inputs.first, inputs.until)}
    try:
        bills, why = bills_so_far(inputs, load).bills, ""
    except ConfigError as error:  # such as: no tariff is in force yet
        bills, why = {}, error.text
    return {
        "readings": [(meter, *_reading(api, meter, move.at, inputs.first, load)) for meter in home],
        "bills": [bill for number, bill in bills.items() if number in theirs],
        "why": why,
        "issued": [month for _, issued, *_ in newest_issued(connection, 1) if month <= issued],
    }


def _reading(api: Api, m: Installed, at: Quarter, first: Quarter, load: Load) -> tuple[Any, ...]:
    """Return a meter's register at a quarter, ``None``: it has none; its energies since another, and their quality."""
    settled = load([m.id], max(first, min(m.start or 0, at - 1)), at)
    blocks = readings(api.database, api.database.read(numbers_of, [m.id])[m.id], RecordType.REGISTER, at - 1, at - 1)
    register = int(blocks.values[0, -1]) if len(blocks) and blocks.quality[0, -1] else None
    sums = {words: int(settled.of(quantity).sum()) for quantity, words in QUANTITY_WORDS.items()}
    return register, sums, {each.name.lower(): int((settled.quality == each).sum()) for each in SettledQuality}
