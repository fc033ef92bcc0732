"""Which settings of controllers are safe from afar, and which controllers a person names (pure)."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import ControllerId, EpochSeconds
from commonwatt.protocol.controller_commands import PERIODS, Action
from commonwatt.protocol.heartbeats import Heartbeat
from utility.control.changes import Change
from utility.fleet.fleet import cared_for
from utility.outbox.settings import settings_of

KEYS = (*PERIODS, "meters", "strategy", "aggregation")
"""What changes no connection, identity or file, is set by a command, and is put back by one."""

_BY_FILES = "is set at the office in site.toml, and comes with a bundle: from afar a mistake could cut a controller off"


def action_of(key: str, value: str) -> tuple[Action, dict[str, Any]]:
    """Return the command that sets a key, and its fields."""
    if key not in KEYS:
        raise ConfigError(f"{key}: {_BY_FILES}. From afar there are: {', '.join(KEYS)}")
    if key == "meters":
        return Action.SCHEDULE, {"periods": {}, "meters": value}
    if key == "strategy":
        return Action.SHARING, {"strategy": value}
    if key == "aggregation":
        is_none = value in ("none", "file")
        return (Action.DEAGGREGATE, {}) if is_none else (Action.AGGREGATE, {"mode": value})
    if value != "file" and not value.isdecimal():
        raise ConfigError(f"{key}: seconds are wanted, or `file` (found {value!r})")
    return Action.SCHEDULE, {"periods": {key: None if value == "file" else int(value)}}


def chosen_by(
    where: Sequence[str],
    kinds: Mapping[ControllerId, str],
    heard: Mapping[ControllerId, tuple[EpochSeconds, Heartbeat | None]],
) -> list[ControllerId]:
    """Return the controllers that fit all of ``KEY=VALUE``; without any, all."""
    found = cared_for(kinds, heard, ())
    for condition in where:
        key, _, value = condition.partition("=")
        if key not in ("kind", "release", "name"):
            raise ConfigError(f"{condition}: kind=, release= or name= is wanted")
        field = "microgrid" if key == "name" else key
        found = [one for one in found if getattr(one, field) in value.split(",")]
    if not found:
        raise ConfigError(f"no controller fits {' '.join(where)}; see the page Fleet")
    return [one.microgrid for one in found]


def last_of(newest_first: Iterable[Change], fields: Mapping[str, Any]) -> int:
    """Return the number of the newest change of the same setting that was sent and puts nothing back."""
    wanted = settings_of(fields)
    for change in newest_first:
        if change.state == "sent" and change.undoes is None and settings_of(change.fields or {}) & wanted:
            return change.no
    raise ConfigError("there is no such change among the newest", "see: commonwatt show commands/changes")
