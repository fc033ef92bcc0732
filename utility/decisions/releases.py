"""Releases for researchers: those above the limit are approved by a second person; agreements."""

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.times import iso
from commonwatt.model.units import EpochSeconds
from utility.access.actor import Actor
from utility.decisions.two_people import require_second
from utility.store import research as store
from utility.store.audit_log import record
from utility.store.database import Database

MAX_WHY = 200
"""Longest reason."""

MAX_NAME = 64
"""Longest name of an agreement."""


def approve(database: Database, release: str, actor: Actor, why: str, now: EpochSeconds) -> None:
    """Approve an open release whose attacks are above the limit; another person than the one who asked for it.

    Raises:
        ConfigError: It does not wait, the same person asked for it, or there is no reason.
    """
    reason = short("--why", why, MAX_WHY)
    with database.writes.begin() as connection:
        store.lock_releases(connection)
        kept = store.find_release(connection, release)
        if kept is None or kept.state != "waiting":
            state = "there is no such release" if kept is None else f"is {kept.state} already"
            raise ConfigError(f"{release:.16}: {state}; see: commonwatt research list")
        require_second(actor, kept.asked_by, "asked for it")
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
        raise ConfigError(f"--until {iso(until)}: is in the past")
    with database.writes.begin() as connection:
        agreement = store.Agreement(name=named, until=until, added=now, added_by=actor.name)
        if not store.add_agreement(connection, agreement):
            raise ConfigError(f"{named}: there is an agreement of this name; give it another one")
        store.log_access(connection, now, actor.name, "agreement", named, f"until {iso(until)}")
        record(connection, actor, now, "agreement.add", f"agreement {named}", None, {"until": iso(until)})


def short(name: str, text: str, most: int) -> str:
    """Return a text without spaces around it.

    Args:
        name: What it is, for the error.
        text: The text.
        most: The most characters.

    Raises:
        ConfigError: It is empty, too long or not printable.
    """
    if not text.strip() or len(text) > most or not text.isprintable():
        raise ConfigError(f"{name}: 1 to {most} printable characters, not {len(text)}")
    return text.strip()
