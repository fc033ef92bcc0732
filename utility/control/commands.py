"""Commands to gateways (pure): from a form's fields, in words, in force, put back; the weights to send.

What is in force comes from the gateway's last heartbeat; what no heartbeat says comes from the utility's own last
change.

A gateway keeps the weights in force and the next ones; weights from a time on drop all that begin then or later.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, mode
from typing import Any
from zoneinfo import ZoneInfo

from pydantic import ValidationError

from commonwatt.config.files import plain
from commonwatt.model.calendar import parse_time
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.text import counted, moment
from commonwatt.model.units import MAX_EPOCH, QUARTER_S, AccountNumber, EpochSeconds, MicrogridId, Quarter
from commonwatt.protocol.controller_commands import PERIODS, Action, ControllerCommand
from commonwatt.protocol.heartbeats import Heartbeat
from commonwatt.protocol.json_messages import MAX_COMMAND_BYTES
from commonwatt.town.town import Direction
from utility.outbox.changes import AT_GATEWAY, AT_METERS, METERS, STRATEGY, WEIGHTS
from utility.registry.accounts import Account, Installed, value_at

_UNITS = (("h", 3_600), ("min", 60), ("s", 1))
OWN = "as installed"  # what a setting is that only the gateway's own file has
_CALLED = {
    "collect_s": "collect",
    "levels_s": "levels",
    "relay_s": "relay",
    "put_s": "meters' puts",
    "compact_s": "compact",
    "for_s": "minutes",
    "import_limit_w": "limit",
}
_PLAIN = ("strategy", "meter", "state", "supply", "power")


def called(name: str) -> str:
    """Return what people call a setting or a field of a command."""
    return _CALLED.get(name, name.replace("_", " "))


def duration(seconds: int) -> str:
    """Return a duration in the largest unit that has a whole number of it."""
    return next(f"{seconds // length} {unit}" for unit, length in _UNITS if seconds % length == 0)


def words_of(message: Mapping[str, Any]) -> str:
    """Return a command's content, without what equals the defaults, as text for people.

    Args:
        message: A ``ControllerCommand``'s keys and values.
    """
    cmd = message["cmd"]
    details = []
    if cmd in (Action.AGGREGATE, Action.DEAGGREGATE) and message.get("at") == "meters":
        details.append("at meters")
    if cmd == Action.AGGREGATE and message.get("mode") == "lossy":
        details.append("lossy")
    if message.get("for_s"):
        details.append(f"for {duration(message['for_s'])}")
    if blocks := message.get("blocks"):
        details.append(counted(len(blocks), "block"))
    if message.get("first_quarter") is not None and message.get("last_quarter") is not None:
        first, end = message["first_quarter"] * QUARTER_S, (message["last_quarter"] + 1) * QUARTER_S
        details.append(f"{moment(first)} to {moment(end)}")
    details += [str(message[name]) for name in _PLAIN if message.get(name) is not None]
    if message.get("import_limit_w") is not None:
        details.append(f"at most {message['import_limit_w']} W")
    details += _weights(message.get("weights"))
    if message.get("from_time") is not None:
        details.append(f"from {moment(message['from_time'])}")
    details += [f"meters {message['meters']}"] if message.get("meters") else []
    periods = message.get("periods") or {}
    details += [f"{called(name)} {OWN if seconds is None else f'{seconds} s'}" for name, seconds in periods.items()]
    return f"{cmd} {', '.join(details)}".rstrip()


def _weights(weights: Mapping[str, Any] | None) -> list[str]:
    if weights is None:
        return []
    return [f"{meter}={weight}" for meter, weight in weights.items()] or ["weights 1"]


def answered(outcome: Mapping[str, Any] | None) -> str:
    """Return a gateway's answer as text for people; empty without one.

    Args:
        outcome: A ``ControllerOutcome``'s keys and values.
    """
    if not outcome:
        return ""
    text = ": ".join(str(outcome[key]) for key in ("result", "reason") if outcome.get(key))
    if outcome.get("sent") is not None:
        text += f", {counted(outcome['sent'], 'block')} sent"
    if outcome.get("absent"):
        text += f", of {counted(len(outcome['absent']), 'block')} not all there"
    return "; ".join([text, *_info(outcome)])


def _info(outcome: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a controller says of itself: facts, its microgrids, what is outstanding, the newest first."""
    if info := outcome.get("info"):
        yield ", ".join(f"{called(name)} {value}" for name, value in info.items())
    for assigned in outcome.get("assignments") or ():
        epoch = f", epoch {assigned['epoch'][0]} of rank {assigned['epoch'][1]}" if assigned.get("epoch") else ""
        yield f"{'manages' if assigned['manages'] else 'takes records of'} {assigned['microgrid']}{epoch}"
    for item in outcome.get("outstanding") or ():
        until = f" until {moment(item['until'])}" if item.get("until") else ""
        yield f"{item['what']}{until}" + (f", not confirmed by meter {item['meter']}" if item.get("meter") else "")


# The keys of a ``ControllerCommand`` beside ``id``, ``cmd`` and ``until``; keys that were not given are absent.
Fields = Mapping[str, Any]
_ID_BYTES = 64  # most bytes by which a command's final id is longer than the id that is used in a check
# Commands that only the service sends.
NOT_ASKED = frozenset(
    {*(Action.RATES, Action.ASSIGN, Action.UPGRADE, Action.UNPACK, Action.WITNESS, Action.SPARE, Action.DISCOVER)}
)


class FieldsError(ConfigError):
    """The fields of a command are wrong."""

    def __init__(self, fields: Iterable[str], problem: str) -> None:
        self.fields = tuple(sorted(fields))  # the names of the fields
        self.problem = problem  # what is wrong; ``{}`` stands for the names
        super().__init__(self.named(str))

    def named(self, name: Callable[[str], str]) -> str:
        """Return the text, with each field as ``name`` calls it."""
        return self.problem.format(", ".join(map(name, self.fields)))


def fields_of(words: Iterable[str], zone: ZoneInfo) -> Fields:
    """Return the fields of a command that words give, such as ``relay_s=900``.

    Args:
        words: ``first``, ``last`` and ``from`` are times; ``relay_s=file`` sets a period to what the gateway's file
            says, ``periods=file`` all that are not given.
        zone: The zone of times without an offset.
    """
    fields, periods = dict[str, Any](), dict[str, Any]()
    for word in words:
        name, is_field, text = word.partition("=")
        if not is_field:
            raise FieldsError((), _escaped(f"{word:.40}: fields are given as KEY=VALUE, such as relay_s=900"))
        value = int(text) if name.endswith(("_s", "_w")) and text.isdecimal() else text
        if name == "periods" and text == "file":
            periods = dict.fromkeys(PERIODS) | periods
        elif name in PERIODS:
            periods[name] = None if text == "file" else value
        elif name in ("first", "last"):
            fields[f"{name}_quarter"] = parse_time(text, name, zone) // QUARTER_S
        elif name == "from":
            fields["from_time"] = parse_time(text, name, zone)
        else:
            fields[name] = value
    return fields | ({"periods": periods} if periods or "meters" in fields else {})


def checked_command(action: Action, fields: Fields, until: EpochSeconds, new_id: str) -> ControllerCommand:
    """Return the command.

    Args:
        action: What to do.
        fields: The fields that were given.
        until: When the command is no longer wanted.
        new_id: Its id, never used before.
    """
    if action in NOT_ASKED:
        raise FieldsError((), f"{action}: only the service sends this command")
    _check_names(action, fields)
    try:
        command = ControllerCommand.model_validate(
            {"id": new_id, "cmd": action.value, "until": min(until, MAX_EPOCH), **fields}
        )
    except ValidationError as error:
        fault = error.errors()[0]
        text = plain(fault)
        problem = _escaped(f"{text} (found {fault['input']!r})")
        named = [str(key) for key in fault["loc"][:1]]
        raise FieldsError(named, f"{{}}: {problem}" if named else _escaped(text)) from error
    if command.first_quarter is not None and command.first_quarter > (command.last_quarter or 0):
        raise FieldsError(("first_quarter",), "{} must not be after the last")
    if len(command.pack()) > MAX_COMMAND_BYTES - _ID_BYTES:
        raise FieldsError(fields, f"{action}: {{}}: more than {MAX_COMMAND_BYTES} bytes in one command")
    return command


def _check_names(action: Action, fields: Fields) -> None:
    needed = {"first_quarter", "last_quarter"} if action is Action.GET else set(action.needed)
    needed |= {"strategy"} if action is Action.SHARING else set()
    needed |= {"for_s"} & {*action.optional} if fields.get("state") == "on" else set()
    allowed = {*action.needed, *action.optional} - {"blocks", "weights"}  # weights are told from the registry
    if missing := {name for name in needed if fields.get(name) is None}:
        raise FieldsError(missing, f"{action} needs {{}}")
    if extra := fields.keys() - allowed:
        raise FieldsError(extra, f"{action} does not take {{}}")
    if action is Action.SCHEDULE and not fields.get("periods") and not fields.get("meters"):
        raise FieldsError(("periods", "meters"), "give at least one of {}")


def _escaped(text: str, before: str = "") -> str:
    return before + text.replace("{", "{{").replace("}", "}}")


Before = dict[str, Any]  # by setting, its value in force as JSON; None: not known

_WITH_END = (Action.REDUCE, Action.ISOLATE, Action.HOLD)


def in_force(settings: frozenset[str], heartbeat: Heartbeat | None) -> Before:
    """Return what is in force at a gateway, of some settings.

    Args:
        settings: Their names (``utility.outbox.changes.settings_of``).
        heartbeat: The gateway's last heartbeat; ``None``: there was none.
    """
    return {name: _value(name, heartbeat) for name in sorted(settings)}


def _value(name: str, heartbeat: Heartbeat | None) -> Any:
    if heartbeat is None:
        return None
    is_tuned = name in heartbeat.tuned
    if name in PERIODS:
        seconds = heartbeat.periods.get(name)
        return None if seconds is None else {"value": seconds, "tuned": is_tuned}
    if name == AT_GATEWAY:
        return {"value": heartbeat.commanded_aggregation, "until": heartbeat.ends.get("aggregation")}
    # A gateway before 0.3 says none of the following.
    if heartbeat.strategy is None:
        return None
    if name == STRATEGY:
        return {"value": heartbeat.strategy, "tuned": is_tuned}
    if name == METERS:
        by_itself = METERS not in heartbeat.tuned and any("meters" in save for save in (heartbeat.saves or {}).values())
        return {"value": "none" if by_itself else heartbeat.meters}
    ends = {str(cmd): until for cmd, until in heartbeat.ends.items()}
    return _state(ends.get(name)) if name in _WITH_END else None


def _state(until: EpochSeconds | None) -> dict[str, Any]:
    return {"value": "off" if until is None else "on", "until": until}


def inverse(before: Before, now: EpochSeconds) -> dict[str, Any] | None:
    """Return the fields of the command, with ``cmd``, that puts back what was in force; ``None``: that is not known.

    What had an end goes on to that end. An aggregation at the meters ends; the schedule then holds again.
    """
    if AT_METERS in before:
        return {"cmd": Action.DEAGGREGATE, "at": "meters"}
    if not before or any(value is None for value in before.values()):
        return None
    if AT_GATEWAY in before:
        mode, left = before[AT_GATEWAY]["value"], _left(before[AT_GATEWAY]["until"], now)
        if mode == "none" or left == 0:
            return {"cmd": Action.DEAGGREGATE, "at": "gateway"}
        return {"cmd": Action.AGGREGATE, "at": "gateway", "mode": mode} | ({} if left is None else {"for_s": left})
    for cmd in _WITH_END:
        if cmd in before:
            left = _left(before[cmd]["until"], now) or 0
            return {"cmd": cmd, "state": "on", "for_s": left} if left else {"cmd": cmd, "state": "off"}
    if STRATEGY in before:
        strategy = before[STRATEGY]
        return {"cmd": Action.SHARING, STRATEGY: strategy["value"] if strategy["tuned"] else "file"}
    periods = {name: value["value"] if value["tuned"] else None for name, value in before.items() if name in PERIODS}
    meters = {METERS: before[METERS]["value"]} if METERS in before else {}
    return {"cmd": Action.SCHEDULE, "periods": periods} | meters if periods or meters else None


def _left(until: EpochSeconds | None, now: EpochSeconds) -> int | None:
    return None if until is None else max(0, until - now)


def before_words(before: Before | None) -> str:
    """Return what was in force as text for people."""
    return ", ".join(_words(name, value) for name, value in (before or {}).items())


def _words(name: str, value: Any) -> str:
    if value is None:
        return f"{called(name)}: not known"
    if name == WEIGHTS:  # of a change by 0.3, by which a person could set them
        return "weights " + (", ".join(f"{meter}={weight}" for meter, weight in value.items()) or OWN)
    text = f"{called(name)} {value['value']}" + (" s" if name in PERIODS else "")
    if "tuned" in value:
        return text + (" (tuned)" if value["tuned"] else f" ({OWN})")
    return text if value.get("until") is None else f"{text} until {moment(value['until'])}"


@dataclass(frozen=True, kw_only=True)
class UsualSchedules:
    """The schedules of a kind of microgrids, as their gateways last reported them."""

    kind: str  # the kind
    microgrids: int  # how many there are
    periods: Mapping[str, int]  # the most common value of each period, seconds
    # Mean bytes at this month's end, in the fuller direction, and mean allowance; ``None``: not counted yet.
    line: tuple[float, float] | None
    differ: Mapping[MicrogridId, str]  # which periods of which microgrids differ, in words


def usual_of(kind: str, beats: Mapping[MicrogridId, Heartbeat | None]) -> UsualSchedules:
    """Return what is usual among the microgrids of a kind; those that have not reported say ``None``."""
    heard = [beat for beat in beats.values() if beat is not None]
    values: dict[str, list[int]] = {
        period: [beat.periods[period] for beat in heard if period in beat.periods] for period in PERIODS
    }
    periods = {period: mode(seconds) for period, seconds in values.items() if seconds}
    months = [beat.lte for beat in heard if beat.lte and beat.lte.expected and beat.lte.allowance]
    line = [fmean(both) for both in zip(*((max(m.expected or ()), m.allowance) for m in months), strict=True)]
    differ = {name: "no report yet" if beat is None else _differs(beat, periods) for name, beat in beats.items()}
    return UsualSchedules(
        kind=kind,
        microgrids=len(beats),
        periods=periods,
        line=(line[0], line[1]) if line else None,
        differ={name: words for name, words in differ.items() if words},
    )


def _differs(beat: Heartbeat, usual: Mapping[str, int]) -> str:
    other = {name: value for name, value in beat.periods.items() if name in usual and value != usual[name]}
    return ", ".join(f"{called(name)} {seconds} s" for name, seconds in other.items())


AHEAD = 2 * 96
"""Quarters before their begin from which weights are sent: a controller that is offline for a day has them in time."""

Weights = Mapping[str, int]  # by meter, as in JSON


@dataclass(frozen=True, kw_only=True)
class Weighting:
    """Weights from a quarter on; a battery that is not named has 1."""

    since: Quarter
    weights: Weights


def weightings(
    members: Sequence[Installed], accounts: Mapping[AccountNumber, Account], now: Quarter
) -> list[Weighting]:
    """Return the weights of a microgrid's batteries: those in force now, then each change of them to come.

    Args:
        members: Its meters.
        accounts: The accounts, by number.
    """
    # A battery gives through the meter that counts what leaves its place.
    batteries = [m for m in members if m.capacity is not None and m.direction is Direction.OUTGOING]
    steps: list[Weighting] = []
    for quarter in (now, *sorted(quarter for quarter in _dates(batteries, accounts) if quarter > now)):
        weights = _weights_at(batteries, accounts, quarter)
        if not steps or steps[-1].weights != weights:
            steps.append(Weighting(since=quarter, weights=weights))
    return steps


def _dates(batteries: Sequence[Installed], accounts: Mapping[AccountNumber, Account]) -> set[Quarter]:
    """Return the quarters at which a weight may change: by its date, by a new holder, by an exchange of the meter."""
    dates = {quarter for meter in batteries for quarter in (meter.start, meter.end) if quarter is not None}
    for meter in batteries:
        for held in meter.holdings:
            dates |= {held.start} | ({held.end} if held.end is not None else set())
            account = accounts.get(held.account)
            dates |= set() if account is None else {dated.start for dated in account.weights}
    return dates


def _weights_at(
    batteries: Sequence[Installed], accounts: Mapping[AccountNumber, Account], quarter: Quarter
) -> dict[str, int]:
    weights = {}
    for meter in batteries:
        is_there = (meter.start or 0) <= quarter and (meter.end is None or quarter < meter.end)
        account = accounts.get(meter.account_at(quarter) or 0) if is_there else None
        weight = None if account is None else value_at(account.weights, quarter)
        if weight is not None:
            weights[str(meter.id)] = int(weight)
    return weights


def to_tell(sent: Sequence[Weighting] | None, wanted: Sequence[Weighting], now: Quarter) -> Weighting | None:
    """Return the weights to send to a controller next; ``None``: it has all.

    Args:
        sent: What it was sent, in order of time; nothing: it has those of its settings file; ``None``: not known.
        wanted: What it should have (``weightings``).
    """
    present, *later = wanted
    if sent is None:
        return Weighting(since=now, weights=present.weights)
    begun = [w for w in sent if w.since <= now]
    in_force = begun[-1].weights if begun else {}
    waiting = next((w for w in sent if w.since > now), None)
    coming = next((w for w in later if w.since <= now + AHEAD), None)
    if in_force != present.weights:
        return Weighting(since=now, weights=present.weights)
    if waiting == coming:
        return None
    # What waits is not wanted any more. Weights from now on drop it, as the coming ones do if they begin earlier.
    if coming is None or (waiting is not None and waiting.since < coming.since):
        return Weighting(since=now, weights=present.weights)
    return coming
