"""SQL of the tariffs: versions, proposed and published, never changed (C1); what controllers are told of them (U3)."""

from dataclasses import dataclass
from datetime import date
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, select

from commonwatt.model.calendar import local_text, month_before, month_of, month_quarters
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import QUARTER_S, EpochSeconds, MicrogridId, Quarter
from commonwatt.protocol.controller_commands import Action
from utility.database.engines import Lock, take
from utility.database.town_zone import zone_of
from utility.outbox.store import Wanted
from utility.registry.store.registry import controllers
from utility.registry.tables import account_term, holding, meter
from utility.tariffs.columns import Version
from utility.tariffs.file import BillTable
from utility.tariffs.tables import rates_version
from utility.tariffs.tariff import Tariff, in_force, rates_of, tariff_of

CORRECTED_MONTHS = 12  # newest months with issued bills that a run of bills corrects
_MEANWHILE = "{name} v{version}: was replaced or published meanwhile"
_SEE = "see: commonwatt show tariffs"
AHEAD = 5 * 366 * 96  # quarters from now within which a version begins


def propose(
    connection: Connection, new: Tariff, source: str, person: str, now: EpochSeconds, replaces: int = 0
) -> Tariff:
    """Store a tariff as a proposal; return it with its version.

    Args:
        connection: A transaction that writes.
        new: The checked tariff.
        source: Its file as it was written.
        person: The person who proposes it.
        replaces: The version of a proposal in whose place it is.

    Raises:
        ConfigError: It begins too early, or together with another proposal of its name, in whose place it is not.
    """
    take(connection, Lock.TARIFFS)
    if (fault := too_early(connection, new, now)) is not None:
        raise ConfigError(f"{new.name}: {fault}")
    ours = rates_version.c.name == new.name
    newest = connection.execute(select(func.max(rates_version.c.version)).where(ours)).scalar()
    stored = Tariff(file=new.file, version=(newest or 0) + 1, effective=new.effective)
    if (other := same_day(connection, new)) is not None and other.version != replaces:
        raise ConfigError(
            f"{new.name} v{other.version}, which {other.proposed_by} proposed, begins at the same time and waits for a "
            "second person: say that the new one is in its place, or give this one another `effective`",
            f"commonwatt tariff propose FILE --replaces {other.version}",
        )
    connection.execute(rates_version.update().where(_waits(new.name, replaces)).values(state="replaced"))
    row = {"name": stored.name, "version": stored.version, "state": "proposed", "effective": stored.effective}
    row |= {"content": stored.canonical(), "source": source, "proposed_by": person, "proposed": now}
    connection.execute(rates_version.insert().values(row))
    return stored


def same_day(connection: Connection, new: Tariff) -> Any:
    """Return ``version`` and ``proposed_by`` of the proposal that a tariff would replace; ``None``: there is none."""
    c = rates_version.c
    ours = (c.name == new.name) & (c.state == "proposed") & (c.effective == new.effective)
    return connection.execute(select(c.version, c.proposed_by).where(ours)).first()


def proposal(connection: Connection, name: str, version: int) -> tuple[Tariff, str]:
    """Return a proposal, and the person who made it."""
    found = select(rates_version.c.content, rates_version.c.proposed_by).where(_waits(name, version))
    row = connection.execute(found).first()
    if row is None:
        raise ConfigError(_MEANWHILE.format(name=name, version=version), _SEE)
    return tariff_of(row.content), row.proposed_by


def _waits(name: str, version: int) -> ColumnElement[bool]:
    c = rates_version.c
    return (c.name == name) & (c.version == version) & (c.state == "proposed")


def count_proposals(connection: Connection) -> int:
    """Return how many proposals wait for a second person."""
    waiting = select(func.count()).select_from(rates_version).where(rates_version.c.state == "proposed")
    return int(connection.execute(waiting).scalar_one())


def publish(connection: Connection, name: str, version: int, person: str, now: EpochSeconds) -> None:
    """Publish a proposal.

    Raises:
        ConfigError: It is no proposal any more, or it begins in a time for which others hold.
    """
    ours = _waits(name, version)
    if (fault := too_early(connection, proposal(connection, name, version)[0], now)) is not None:
        raise ConfigError(f"{name} v{version}: {fault}")
    values = {"state": "published", "approved_by": person, "approved": now}
    if not connection.execute(rates_version.update().where(ours).values(values)).rowcount:
        raise ConfigError(_MEANWHILE.format(name=name, version=version), _SEE)


def published(connection: Connection) -> tuple[Tariff, ...]:
    """Return the published versions of all tariffs, by name and version."""
    c = rates_version.c
    statement = select(c.content).where(c.state == "published").order_by(c.name, c.version)
    return tuple(tariff_of(text) for text in connection.execute(statement).scalars())


def bill_table(connection: Connection, name: str, first: BillTable | None = None) -> BillTable | None:
    """Return how the newest version of a tariff has bills written, without one ``first``; ``None``: it does not say."""
    c = rates_version.c
    newest = select(c.content).where(c.state == "published", c.name == name).order_by(c.version.desc()).limit(1)
    content = connection.execute(newest).scalar()
    return tariff_of(content).file.bill if content else first


def holidays(connection: Connection) -> frozenset[date]:
    """Return the holidays that published tariffs list."""
    return frozenset(date.fromisoformat(each.date) for tariff in published(connection) for each in tariff.file.holiday)


def versions(connection: Connection) -> list[Version]:
    """Return all versions without their content, by name and version."""
    c = rates_version.c
    columns = (c.name, c.version, c.state, c.effective, c.proposed_by, c.proposed, c.approved_by, c.approved)
    rows, zone = connection.execute(select(*columns).order_by(c.name, c.version)).mappings(), zone_of(connection)
    return [
        Version(**{**row, "effective": row["effective"] * QUARTER_S}, begins=local_text(row["effective"], zone))
        for row in rows
    ]


@dataclass(frozen=True, kw_only=True)
class StoredVersion:
    """A version as it is stored."""

    tariff: Tariff  # the version
    state: str  # ``proposed``, ``published`` or ``replaced``
    source: str  # its text as it was proposed
    proposed_by: str  # the person who proposed it
    proposed: EpochSeconds  # when
    approved_by: str | None  # the person who published it; ``None``: nobody did
    approved: EpochSeconds | None  # when


def find_version(connection: Connection, name: str, version: int) -> StoredVersion:
    """Return a version.

    Raises:
        ConfigError: There is none.
    """
    c = rates_version.c
    columns = (c.content, c.state, c.source, c.proposed_by, c.proposed, c.approved_by, c.approved)
    row = connection.execute(select(*columns).where(c.name == name, c.version == version)).mappings().first()
    if row is None:
        raise ConfigError(f"{name:.32} v{version}: there is no such version")
    return StoredVersion(tariff=tariff_of(row["content"]), **{key: row[key] for key in row if key != "content"})


def out_of_time(connection: Connection, new: Tariff, now: EpochSeconds) -> str | None:
    """Return why a version can't be proposed to begin when it does; ``None``: it can."""
    if new.effective > now // QUARTER_S + AHEAD:
        return "it begins more than five years from now; choose an earlier first day"
    return too_early(connection, new, now)


def too_early(connection: Connection, new: Tariff, now: EpochSeconds) -> str | None:
    """Return why a version begins too early, or late for a correction; ``None``: it does not."""
    versions = [each for each in published(connection) if each.name == new.name]
    if not versions:
        # The first version of a name may begin in the past.
        return None
    newest, quarter = max(each.effective for each in versions), now // QUARTER_S
    if new.file.tariff.corrects is None:
        early, past = "before a published version, or together with it", "in the past, for which another was published"
        fault = early if new.effective <= newest else past if new.effective < quarter else ""
        return f"it begins {fault}; choose a later first day" if fault else None
    month = month_of(quarter, new.zone)
    for _ in range(CORRECTED_MONTHS):
        month = month_before(month)
    if new.effective < month_quarters(month, new.zone)[0]:
        return f"it begins before {month}: only the bills of {CORRECTED_MONTHS} months are corrected"
    if new.effective > max(newest, quarter):
        return "it begins after all that it could correct, so it is no correction"
    was = in_force(versions, new.effective)
    return None if was and was.policy == new.policy else "it has another policy than what it corrects"


def wanted_rates(connection: Connection, default: str, now: EpochSeconds) -> list[Wanted]:
    """Return the rates that each controller is to be told: those of its accounts' tariffs, in this month and the next.

    Args:
        default: The name of the tariff of accounts without one, and of microgrids without an account.
    """
    quarter, zone, versions = now // QUARTER_S, zone_of(connection), published(connection)
    month = month_of(quarter, zone)
    names = {version.name for version in versions}
    rates = {name: rates_of([each for each in versions if each.name == name], month, zone) for name in names}
    theirs = _tariffs_of(connection, default, quarter) if versions else {}
    return [
        Wanted(
            controller=microgrid,
            topic=f"rates {name}",
            fields={"cmd": Action.RATES, **vars(its)},
            content={"tariff": name, "version": its.version, "month": month},
            until=its.rates_until,
        )
        for microgrid, names in theirs.items()
        for name in sorted(names)
        if (its := rates.get(name)) is not None
    ]


def _tariffs_of(connection: Connection, default: str, quarter: Quarter) -> dict[MicrogridId, set[str]]:
    """Return the names of the tariffs of each microgrid's accounts in a quarter."""
    h, t = holding.c, account_term.c
    newest = select(t.account, func.max(t.since).label("since")).where(t.what == "tariff", t.since <= quarter)
    begun = newest.group_by(t.account).subquery()
    in_force = (t.account == begun.c.account) & (t.since == begun.c.since) & (t.what == "tariff")
    statement = (
        select(meter.c.microgrid, t.value)
        .distinct()
        .join(holding, h.meter == meter.c.id)
        .outerjoin(begun, begun.c.account == h.account)
        .outerjoin(account_term, in_force)
        .where(h.since <= quarter, h.until.is_(None) | (h.until > quarter))
    )
    found: dict[MicrogridId, set[str]] = {}
    for row in connection.execute(statement):
        found.setdefault(row.microgrid, set()).add(row.value or default)
    return {name: found.get(name, {default}) for name in controllers(connection)}
