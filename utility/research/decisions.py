"""Releases for researchers: approved by a second person above the limit; agreements, their readers, downloads."""

from collections.abc import Collection
from pathlib import Path

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.time.times import iso
from commonwatt.model.units import EpochSeconds
from utility.access.actor import Actor
from utility.access.decisions import Second, require_second, second_person
from utility.access.roles import Role
from utility.access.store.access import find_person
from utility.access.store.audit_log import record
from utility.database.database import Database
from utility.database.locks import Lock, take
from utility.research import store as store
from utility.research.release import Tier

MAX_WHY = 200  # longest reason
MAX_NAME = 64  # longest name of an agreement


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
        store.save_release(connection, store.Kept(**{**vars(kept), **decided}))
        store.log_access(connection, now, actor.name, "approved", release, reason)
        words = {"state": "approved", "why": reason}
        record(connection, actor, now, "release.approve", f"release {release}", {"state": kept.state}, words)


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
        store.log_access(connection, now, actor.name, "agreement", named, f"until {iso(until)}")
        record(connection, actor, now, "agreement.add", f"agreement {named}", None, {"until": iso(until)})


def let_read(database: Database, agreement: str, person: str, actor: Actor, now: EpochSeconds) -> None:
    """Let a researcher download the releases of an agreement, until it ends.

    Raises:
        ConfigError: There is no such agreement or researcher, or the person may already.
    """
    with database.writes.begin() as connection:
        if store.find_agreement(connection, agreement) is None:
            raise ConfigError(f"{agreement:.64}: there is no such agreement")
        known = find_person(connection, person)
        if known is None or Role.RESEARCHER not in known.roles:
            raise ConfigError(f"{person:.32}: is no researcher; an administrator invites one first")
        if not store.add_reader(connection, agreement, person, actor.name, now):
            raise ConfigError(f"{person} may download the releases of {agreement} already")
        store.log_access(connection, now, actor.name, "reader added", agreement, person)
        record(connection, actor, now, "agreement.reader", f"agreement {agreement}", None, {"person": person})


def stop_reading(database: Database, agreement: str, person: str, actor: Actor, now: EpochSeconds) -> None:
    """Take a researcher's right to download an agreement's releases back.

    Raises:
        ConfigError: The person does not have it.
    """
    with database.writes.begin() as connection:
        if not store.remove_reader(connection, agreement, person):
            raise ConfigError(f"{person:.32} may not download the releases of {agreement:.64}")
        store.log_access(connection, now, actor.name, "reader removed", agreement, person)
        record(connection, actor, now, "agreement.reader", f"agreement {agreement}", {"person": person}, None)


def may_download(kept: store.Kept, agreements: Collection[str]) -> bool:
    """Return whether a researcher of some agreements may download a release."""
    is_open = kept.tier == Tier.OPEN
    return kept.state == "released" and (is_open or kept.options.get("agreement") in agreements)


def downloaded(database: Database, folder: Path, release: str, name: str, actor: Actor, now: EpochSeconds) -> Path:
    """Return the file of a release that a researcher may download; the access is in the log from then on.

    Args:
        folder: The folder of all releases.
        name: The file's name.
        actor: The researcher.

    Raises:
        ConfigError: There is no such release or file for this person.
    """
    with database.writes.begin() as connection:
        kept = store.find_release(connection, release)
        if kept is None or not may_download(kept, store.agreements_of(connection, actor.name, now)):
            raise ConfigError(f"{release:.16}: there is no such release for you")
        files = {path.name: path for path in files_of(folder, release)}
        if name not in files:
            raise ConfigError(f"{name:.64}: the release has no such file")
        store.log_access(connection, now, actor.name, "downloaded", release, name)
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
