"""The rule of two people: what one person proposed or checked, another one approves or issues.

One person must not be able to make the other: neither made the link or gave the roles of the other, or removed the
other's second factor. And after any other person did so, it takes days until the changed person may be the second one,
so that the town can notice. A program, a job or a command at the utility's machine is nobody.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.text import moment
from commonwatt.model.units import EpochSeconds
from utility.access.people import DAY_S, Actor, Role, Via
from utility.access.store.audit_log import Standing, record_refusal, standings
from utility.database.base import Connection
from utility.database.database import Database


class NotSecondError(ConfigError):
    """The person who acts may not be the second one; nothing was changed."""


@dataclass(frozen=True, kw_only=True)
class Second:
    """A person who acts as the second one."""

    actor: Actor  # the person
    now: EpochSeconds  # the time of the service's clock
    wait_days: int  # the setting `second_person_wait_days`


def are_apart(one: Standing, other: Standing) -> bool:
    """Return whether two are different people of whom neither made the other."""
    return one.name != other.name and one.name not in other.makers and other.name not in one.makers


def free_from(one: Standing, wait_days: int) -> EpochSeconds:
    """Return from when on a person may be the second one; 0: from the beginning."""
    return 0 if one.changed is None or not wait_days else one.changed + wait_days * DAY_S


def refusal(people: Mapping[str, Standing], second: Second, firsts: Mapping[str, str]) -> str:
    """Return why a person may not be the second one; empty: it may.

    Args:
        people: The people who can log in, by name.
        firsts: What each person who acted before did, such as "proposed it", by name.
    """
    name = second.actor.name
    if name in firsts:
        return f"{name} {firsts[name]}; a second person has to approve it"
    if second.actor.via is Via.MACHINE:
        return f"{name} is no person who logs in, and so no second one"
    for first, did in firsts.items():
        if first not in people:
            return f"{first} {did}, and is no person who logs in; a person has to do that again"
        if not are_apart(people[name], people[first]):
            return (
                f"{first} {did}, and one of {first} and {name} made the link, gave the roles or removed the second "
                "factor of the other; a person who is apart from both has to approve it"
            )
    if (free := free_from(people[name], second.wait_days)) > second.now:
        by = ", ".join(sorted(people[name].makers))
        return f"{by} changed link, roles or second factor of {name}, who may be the second from {moment(free)}"
    return ""


def seconds(people: Mapping[str, Standing], firsts: Iterable[str], wait_days: int) -> dict[str, EpochSeconds]:
    """Return who may be the second person after some people, and from when on; who is free first is first."""
    before = [people[first] for first in firsts if first in people]
    found = [
        (free_from(one, wait_days), one.name)
        for one in people.values()
        if Role.APPROVER in one.roles and all(are_apart(one, first) for first in before)
    ]
    return {name: free for free, name in sorted(found)}


def pairs(people: Mapping[str, Standing], wait_days: int) -> dict[str, EpochSeconds]:
    """Return who may be the second person after any clerk, and from when on; who is free first is first."""
    clerks = [one.name for one in people.values() if Role.CLERK in one.roles]
    found = {name: free for clerk in clerks for name, free in seconds(people, [clerk], wait_days).items()}
    return dict(sorted(found.items(), key=lambda each: each[1]))


def words_of(found: Mapping[str, EpochSeconds], now: EpochSeconds) -> str:
    """Return who may be the second person, for people."""
    words = [name if free <= now else f"{name} from {moment(free)}" for name, free in found.items()]
    return ", ".join(words) or "nobody; an administrator gives another person the role approver"


def shown(connection: Connection, second: Second, firsts: Mapping[str, str]) -> dict[str, str]:
    """Return for a page why the person who looks may not be the second one (`refused`), and who may (`who`)."""
    people = standings(connection, [second.actor.name, *firsts])
    who = words_of(seconds(people, firsts, second.wait_days), second.now)
    return {"refused": refusal(people, second, firsts), "who": who}


@contextmanager
def second_person(database: Database, second: Second, subject: str) -> Iterator[Any]:
    """Open the transaction of a second person's decision; an attempt that the rule refuses is recorded, for the alarm.

    Raises:
        NotSecondError: The rule refuses it.
    """
    try:
        with database.writes.begin() as connection:
            yield connection
    except NotSecondError as error:
        database.write(record_refusal, second.actor, second.now, subject, str(error))
        raise


def require_second(connection: Connection, second: Second, firsts: Mapping[str, str]) -> None:
    """Refuse a person who may not be the second one.

    Args:
        firsts: What each person who acted before did, such as "proposed it", by name.

    Raises:
        NotSecondError: The person may not; says who may, and from when on.
    """
    found = shown(connection, second, firsts)
    if found["refused"]:
        raise NotSecondError(f"{found['refused']}. These people may: {found['who']}")
