"""What people decide of their street: each changes the site file and is recorded, or nothing is changed."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import EpochSeconds
from commonwatt.runtime.files import replace_file
from commonwatt.site.draft import SiteDraft
from commonwatt.site.places import FILE
from utility.access.people import Actor
from utility.access.store.audit_log import record
from utility.database.base import Connection, SQLAlchemyError
from utility.database.database import Database, read_setting, save_setting
from utility.discovery.store import newest
from utility.registry.store.accounts import end_places
from utility.setup.cards import Card, counter_card

STREET = "street"  # the microgrid whose controller the street itself runs
MOST_IGNORED = 200  # numbers without a preset that are not shown any more; the oldest are shown again
_IGNORED = "setup_ignored"  # the setting of the database with their keys


@contextmanager
def changing_site(
    database: Database, folder: Path, actor: Actor, now: EpochSeconds, action: str, subject: str, after: object = None
) -> Iterator[SiteDraft]:
    """Change the site file, and record who did what; of our meters that are gone no reading is expected any more.

    Args:
        after: What it is after the change; the change may complete it.

    Raises:
        ConfigError: The change is refused.
    """
    before = b""
    try:
        with database.writes.begin() as connection:
            draft, before = SiteDraft(folder), (folder / FILE).read_bytes()
            yield draft
            if draft.gone:
                end_places(connection, draft.gone, actor.name, now)
            record(connection, actor, now, action, subject, None, after)
            draft.save()
    except SQLAlchemyError:  # Such as a full disk, which the commit found after the file was written.
        if before and (folder / FILE).read_bytes() != before:
            replace_file(folder / FILE, before)
        raise


def discovered(connection: Connection, microgrid: str) -> dict[str, Any]:
    """Return what a microgrid's controller discovered last, and when it was asked; without an answer yet, nothing."""
    asked, found = newest(connection, microgrid)
    return found | {"asked": asked or 0}


def card_of(database: Database, microgrid: str, key: str, unit: str = "") -> Card:
    """Return the card that a person saw, from the newest discovery.

    Args:
        key: Its key.
        unit: What a number without a preset counts; empty: the card has a preset.

    Raises:
        ConfigError: It is not there any more, or the unit is none.
    """
    with database.reads.begin() as connection:
        found = discovered(connection, microgrid)
    for card in found["cards"]:
        if card["key"] == key:
            return dict(card)
    for number in found["unknown"]:
        if number["key"] == key:
            return counter_card(number, unit)
    raise ConfigError("card: this device was not heard any more; wait until it is shown again")


def ignored(connection: Connection) -> list[str]:
    """Return the keys of numbers without a preset that a person ignores."""
    keys: list[str] = json.loads(read_setting(connection, _IGNORED) or "[]")
    return keys


def ignore(database: Database, actor: Actor, key: str, now: EpochSeconds) -> None:
    """Show a number without a preset no more."""
    with database.writes.begin() as connection:
        keys = [each for each in ignored(connection) if each != key]
        save_setting(connection, _IGNORED, json.dumps([*keys, key][-MOST_IGNORED:]))
        record(connection, actor, now, "setup.ignore", key)
