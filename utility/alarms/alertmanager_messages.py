"""What Alertmanager's API (v2) says, as alarms and silences, and what it is asked to do; bounded, nothing trusted."""

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError

from commonwatt.model.units import EpochSeconds
from utility.alarms.alarm import OWN_RULES, Alarm
from utility.alarms.silences import Silence, Text, Way

MAX_ALARMS = 5_000  # most alarms, and most silences, that are taken from one answer

_Id = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]{1,64}$")]
_Labels = Annotated[dict[Text, Text], Field(max_length=64)]


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)


class _Status(_Answer):
    silenced_by: Annotated[tuple[_Id, ...], Field(alias="silencedBy", max_length=1_000)] = ()
    inhibited_by: Annotated[tuple[Text, ...], Field(alias="inhibitedBy", max_length=1_000)] = ()


class _Alert(_Answer):
    labels: _Labels
    annotations: _Labels = {}
    starts: Annotated[AwareDatetime, Field(alias="startsAt")]
    status: _Status = _Status()


class _SilenceStatus(_Answer):
    state: Text = ""


class _Silence(_Answer):
    id: _Id
    status: _SilenceStatus = _SilenceStatus()
    matchers: Annotated[Way, Field(max_length=64)]
    starts: Annotated[AwareDatetime, Field(alias="startsAt")]
    ends: Annotated[AwareDatetime, Field(alias="endsAt")]
    person: Annotated[Text, Field(alias="createdBy")] = ""
    comment: Text = ""


class _Made(_Answer):
    id: Annotated[_Id, Field(alias="silenceID")]


_ALERTS: TypeAdapter[list[_Alert]] = TypeAdapter(Annotated[list[_Alert], Field(max_length=MAX_ALARMS)])
_SILENCES: TypeAdapter[list[_Silence]] = TypeAdapter(Annotated[list[_Silence], Field(max_length=MAX_ALARMS)])
_WAYS: TypeAdapter[tuple[Way, ...]] = TypeAdapter(tuple[Way, ...])

ToTown = Callable[[datetime], EpochSeconds]  # converts the machine's time to the utility's clock


def read_alerts(answer: bytes, to_town: ToTown) -> tuple[Alarm, ...]:
    """Return the alarms of an answer, without the counts of the utility's own: the utility has each of these.

    Raises:
        ValueError: It is none of Alertmanager's, or has more than ``MAX_ALARMS``.
    """
    return tuple(
        Alarm(
            labels=one.labels,
            summary=one.annotations.get("summary") or one.labels.get("alertname", ""),
            description=one.annotations.get("description", ""),
            since=to_town(one.starts),
            silenced_by=one.status.silenced_by,
            inhibited=bool(one.status.inhibited_by),
        )
        for one in _checked(_ALERTS, answer)
        if one.labels.get("alertname") not in OWN_RULES
    )


def read_silences(answer: bytes, to_town: ToTown) -> tuple[Silence, ...]:
    """Return the silences of an answer that hold, or will.

    Raises:
        ValueError: It is none of Alertmanager's, or has more than ``MAX_ALARMS``.
    """
    found = _checked(_SILENCES, answer)
    return tuple(_silence(one, to_town) for one in found if one.status.state != "expired")


def _silence(one: _Silence, to_town: ToTown) -> Silence:
    return Silence(
        id=one.id,
        ways=(one.matchers,),
        start=to_town(one.starts),
        end=to_town(one.ends),
        person=one.person,
        note=one.comment,
        foreign=(one.id,),
        is_ours=False,
        subject=", ".join(map(str, one.matchers)),
    )


def read_made(answer: bytes) -> str:
    """Return the id of the silence that was made.

    Raises:
        ValueError: The answer has none.
    """
    return str(_checked(TypeAdapter(_Made), answer).id)


def write_silence(way: Way, start: datetime, end: datetime, person: str, note: str) -> bytes:
    """Return the request for a silence."""
    return json.dumps(
        {
            "matchers": TypeAdapter(Way).dump_python(way, by_alias=True),
            "startsAt": _iso(start),
            "endsAt": _iso(end),
            "createdBy": person,
            "comment": note,
        }
    ).encode()


def write_ways(ways: Sequence[Way]) -> str:
    """Return matchers as text for the database."""
    return _WAYS.dump_json(tuple(ways), by_alias=True).decode()


def read_ways(text: str) -> tuple[Way, ...]:
    """Return matchers from the text of ``write_ways``; what can't be read holds nothing."""
    try:
        return _WAYS.validate_json(text)
    except ValidationError:
        return ()


def _iso(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _checked(kind: TypeAdapter[Any], answer: bytes) -> Any:
    try:
        return kind.validate_json(answer)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, fault["loc"]))
        raise ValueError(f"answers what is not Alertmanager's: {where}: {fault['msg']}") from error
