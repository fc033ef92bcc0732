"""Tariffs: proposed by one person, compared and previewed, published by another one."""

from collections.abc import Iterator, Mapping
from typing import Any

from commonwatt.model.calendar import local_text
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import EpochSeconds
from utility.access.decisions import Second, require_second, second_person
from utility.access.people import Actor
from utility.access.store.audit_log import record
from utility.database.database import Database
from utility.database.town_zone import timezone_of
from utility.tariffs import store as tariffs
from utility.tariffs.tariff import Tariff, parse_tariff

MAX_TARIFF_BYTES = 256 * 1024  # longest text of a tariff that a page or the API takes


def propose(database: Database, source: str, actor: Actor, now: EpochSeconds, replaces: int = 0) -> Tariff:
    """Store a tariff's text as the next version of its name, for another person to approve.

    Args:
        source: The TOML.
        actor: The person who proposes it.
        replaces: The version of a proposal that waits, in whose place it is.

    Raises:
        ConfigError: The text has faults, a line for each, its times are of another zone than the town's, or another
            proposal begins together with it, in whose place it is not.
    """
    new = parse_tariff(source)
    with database.writes.begin() as connection:
        _require_zone(new, timezone_of(connection))
        if (fault := tariffs.out_of_time(connection, new, now)) is not None:
            raise ConfigError(f"{new.name}: {fault}")
        stored = tariffs.propose(connection, new, source, actor.name, now, replaces)
        record(connection, actor, now, "tariff.propose", stored.label, None, _facts(stored))
    return stored


def publish(database: Database, name: str, version: int, second: Second) -> Tariff:
    """Publish a proposal; the second person is apart from its proposer.

    Args:
        name: The tariff's name.
        version: The version that the person looked at.
        second: The person who approves it.

    Raises:
        ConfigError: It is no proposal any more, the person may not be the second one, it begins too early, or its times
            are of another zone than the town's.
    """
    actor, now = second.actor, second.now
    with second_person(database, second, f"tariff {name}") as connection:
        proposed, first = tariffs.proposal(connection, name, version)
        require_second(connection, second, {first: "proposed it"})
        _require_zone(proposed, timezone_of(connection))
        tariffs.publish(connection, name, version, actor.name, now)
        record(connection, actor, now, "tariff.publish", proposed.label, {"state": "proposed"}, _facts(proposed))
    return proposed


def _require_zone(tariff: Tariff, zone: str) -> None:
    """Refuse a tariff whose hours are not those of the months that are billed."""
    if tariff.zone.key != zone:
        raise ConfigError(
            f"{tariff.name}: its timezone is {tariff.zone.key}, and the town's is {zone}: peak hours would be at other "
            f'times than people see; write timezone = "{zone}" into its [tariff]'
        )


def differences(old: Tariff, new: Tariff) -> list[tuple[str, str, str]]:
    """Return (key, before, after) of what differs between two tariffs; empty text: it is not there."""
    before, after = (dict(_flat("", each.file.canonical())) for each in (old, new))
    keys = [*before, *(key for key in after if key not in before)]
    return [(k, before.get(k, ""), after.get(k, "")) for k in keys if before.get(k, "") != after.get(k, "")]


def _flat(key: str, value: Any) -> Iterator[tuple[str, str]]:
    """Yield the values of a tariff by their keys; tables of a list are named by what tells them apart."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _flat(f"{key}.{name}" if key else name, inner)
    elif isinstance(value, list) and value and isinstance(value[0], Mapping):
        for each in value:
            yield from _flat(f"{key} {_name(each)}", {k: v for k, v in each.items() if k not in _NAMES})
    elif value is not None:
        yield key, ", ".join(map(str, value)) if isinstance(value, list) else str(value)


_NAMES = ("name", "date", "period", "days", "season", "from", "until")


def _name(table: Mapping[str, Any]) -> str:
    words = [", ".join(v) if isinstance(v, list) else str(v) for k in _NAMES if (v := table.get(k)) is not None]
    return " ".join(words)


def _facts(tariff: Tariff) -> dict[str, str]:
    return {"effective": local_text(tariff.effective, tariff.zone), "base": str(tariff.base)}
