"""What people ask of the research, and what is decided: releases above the limit, agreements, downloads.

A request is kept as a release in the state ``asked``, then ``made`` or ``refused``; its options have the purpose, and
the release that was made.
"""

from collections.abc import Container, Mapping
from dataclasses import fields, replace
from pathlib import Path
from secrets import token_hex

from commonwatt.model.calendar import iso
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import QUARTER_S, EpochSeconds
from utility.access.decisions import Second, require_second, second_person
from utility.access.people import Actor
from utility.access.store.audit_log import record
from utility.database.base import Connection
from utility.database.database import Database
from utility.database.engines import Lock, take
from utility.research import store
from utility.research.coarsening import Coarsening
from utility.research.groups import MIN_HOMES
from utility.research.homes import quarters_of
from utility.research.jobs.releases import asked_of, make_apart
from utility.research.release import AskedRelease, Tier
from utility.settings import UtilitySettings
from utility.webkit.works import Job, Progress

MAX_WHY = 200  # longest reason
MAX_NAME = 64  # longest name of an agreement
REQUESTS = ("asked", "made", "refused")  # states of a request, which is kept as a release
MAX_REQUESTS = 5  # most requests of a person without an answer
MAX_PURPOSE = 1_000  # longest purpose
MAX_DAYS = 366  # longest period that a page asks for or makes


def approve(database: Database, release: str, why: str, second: Second) -> None:
    """Approve an open release whose attacks are above the limit; a second person has to.

    Raises:
        ConfigError: It does not wait, the person may not be the second one, or there is no reason.
    """
    reason, actor, now = short("why", why, MAX_WHY), second.actor, second.now
    with second_person(database, second, f"release {release}") as connection:
        take(connection, Lock.RELEASES)
        kept = store.find_release(connection, release)
        if kept is None or kept.state != "waiting":
            state = "there is no such release" if kept is None else f"is {kept.state} already"
            raise ConfigError(f"{release:.16}: {state}", "see: commonwatt show releases")
        require_second(connection, second, {kept.asked_by: "asked for it"})
        decided = {"state": "approved", "decided": now, "decided_by": actor.name, "why": reason}
        store.save_release(connection, store.KeptRelease(**{**vars(kept), **decided}))
        words = {"state": "approved", "why": reason}
        record(connection, actor, now, "release.approve", f"release {release}", {"state": kept.state}, words)


def ask(database: Database, asked: AskedRelease, purpose: str, actor: Actor, now: EpochSeconds) -> str:
    """Ask for a release; return the request's id.

    Raises:
        ConfigError: The period is too long or not over, there is no purpose, or too many requests wait.
    """
    reason = short("purpose", " ".join(purpose.split()), MAX_PURPOSE)
    if asked.end > now:
        raise ConfigError("to: is not over yet")
    since, until = quarters_of(asked.start, asked.end)
    with database.writes.begin() as connection:
        take(connection, Lock.RELEASES)
        if since < (first := store.first_quarter(connection) or until):
            raise ConfigError(f"from: readings are kept from {iso(first * QUARTER_S)} on")
        if asked.tier is Tier.OPEN and (over := store.released_over(connection, asked.tier, since, until)):
            raise ConfigError(
                f"from: release {over[0].id} has sums of some of these days; download it, or ask for others"
            )
        if store.count_releases(connection, "asked", actor.name) >= MAX_REQUESTS:
            raise ConfigError(f"{MAX_REQUESTS} of your requests have no answer yet; wait for one")
        kept = store.KeptRelease(
            id=token_hex(8),
            tier=asked.tier,
            since=since,
            until=until,
            options={**asked.options, "purpose": reason},
            attacks=[],
            groups={},
            state="asked",
            asked=now,
            asked_by=actor.name,
        )
        store.save_release(connection, kept)
        words = {"asked": f"{asked.tier} {iso(asked.start)} to {iso(asked.end)}", "purpose": reason}
        record(connection, actor, now, "release.ask", f"request {kept.id}", None, words)
    return kept.id


def refuse(database: Database, request: str, why: str, actor: Actor, now: EpochSeconds) -> None:
    """Answer a request with the reason why there is no release.

    Raises:
        ConfigError: It waits for no answer, or there is no reason.
    """
    reason = short("why", why, MAX_WHY)
    with database.writes.begin() as connection:
        take(connection, Lock.RELEASES)
        _answer(connection, request, actor, now, "refused", {"why": reason})


def wanted(kept: store.KeptRelease, choice: Mapping[str, object] | None = None) -> AskedRelease:
    """Return what a request, or a release that was approved, is of; a ``choice`` of options stands before its own.

    Raises:
        ConfigError: It can't be asked so, or waits for something else.
    """
    if kept.state not in ("asked", "approved"):
        raise ConfigError(f"{kept.id}: is {kept.state} already")
    options = {**kept.options, **(choice or {})}
    coarsening = Coarsening(**{one.name: options[one.name] for one in fields(Coarsening) if one.name in options})
    least, agreement = options.get("min_homes", MIN_HOMES), options.get("agreement", "")
    start, end = kept.since * QUARTER_S, kept.until * QUARTER_S
    return asked_of(Tier(kept.tier), start, end, coarsening, least, agreement)


def job_of(
    database: Database,
    settings: UtilitySettings,
    kept: store.KeptRelease,
    asked: AskedRelease,
    actor: Actor,
    now: EpochSeconds,
) -> Job:
    """Return the work that makes a release, and answers the request with it."""

    def job(progress: Progress) -> tuple[str, None]:
        made = make_apart(settings, now, actor, asked, progress)
        if kept.state == "asked":
            with database.writes.begin() as connection:
                take(connection, Lock.RELEASES)
                _answer(connection, kept.id, actor, now, "made", {"release": made.facts.id})
        return f"/console/research/{made.facts.id}", None

    return job


def _answer(
    connection: Connection, request: str, actor: Actor, now: EpochSeconds, state: str, words: Mapping[str, str]
) -> None:
    kept = store.find_release(connection, request)
    if kept is None or kept.state != "asked":
        raise ConfigError(f"{request:.16}: there is no such request, or it is answered already")
    options = {**kept.options, **{name: text for name, text in words.items() if name != "why"}}
    decided = replace(kept, state=state, options=options, decided=now, decided_by=actor.name, why=words.get("why"))
    store.save_release(connection, decided)
    record(
        connection, actor, now, "release.answer", f"request {request}", {"state": "asked"}, {"state": state, **words}
    )


def add_agreement(database: Database, name: str, until: EpochSeconds, actor: Actor, now: EpochSeconds) -> None:
    """Add an agreement with researchers; it can't be changed.

    Raises:
        ConfigError: Its name is wrong or taken, or it ends in the past.
    """
    named = short("NAME", name, MAX_NAME)
    if until <= now:
        raise ConfigError(f"until {iso(until)}: is in the past")
    with database.writes.begin() as connection:
        agreement = store.Agreement(name=named, until=until, added=now, added_by=actor.name)
        if not store.add_agreement(connection, agreement):
            raise ConfigError(f"{named}: there is an agreement of this name; give it another one")
        record(connection, actor, now, "agreement.add", f"agreement {named}", None, {"until": iso(until)})


def may_download(kept: store.KeptRelease, own: Container[str]) -> bool:
    """Return whether a researcher may download a release; ``own``: as ``store.releases_of`` returns."""
    return kept.state == "released" and (kept.tier == Tier.OPEN or kept.id in own)


def downloaded(database: Database, folder: Path, release: str, name: str, actor: Actor, now: EpochSeconds) -> Path:
    """Return the file of a release that a researcher may download; the access is in the audit log from then on.

    Args:
        folder: The folder of all releases.
        name: The file's name.
        actor: The researcher.

    Raises:
        ConfigError: There is no such release or file for this person.
    """
    with database.writes.begin() as connection:
        kept = store.find_release(connection, release)
        if kept is None or not may_download(kept, store.releases_of(connection, actor.name, now)):
            raise ConfigError(f"{release:.16}: there is no such release for you")
        files = {path.name: path for path in files_of(folder, release)}
        if name not in files:
            raise ConfigError(f"{name:.64}: the release has no such file")
        record(connection, actor, now, "release.download", f"release {release}", None, {"file": name})
    return files[name]


def files_of(folder: Path, release: str) -> list[Path]:
    """Return the files of a release, by name; none if its folder is not there."""
    place = folder / release
    return sorted(path for path in place.iterdir() if path.is_file()) if place.is_dir() else []


def short(name: str, text: str, most: int) -> str:
    """Return a text without spaces around it.

    Args:
        name: What it is, for the error.
        most: The most characters.

    Raises:
        ConfigError: It is empty, too long or not printable.
    """
    if not text.strip() or len(text) > most or not text.isprintable():
        raise ConfigError(f"{name}: 1 to {most} printable characters, not {len(text)}")
    return text.strip()
