"""The furnished small town as an application with people of each role, for tests that ask every route."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from commonwatt.model.units import EpochSeconds
from commonwatt.town.loading import load_town
from harness.console import standing_api
from harness.household import HOUSE, TOWN, furnish
from harness.routes import Visitors
from utility.access.roles import Role
from utility.access.secrets import digest, new_token
from utility.access.tables import api_token
from utility.assembly.application import make_app
from utility.database.database import Database, open_database
from utility.database.migrate import empty_database
from utility.registry.store.registration import fill_registry

LOCAL_KEY = "the key of programs on this machine"


@cache
def furnished_image(now: EpochSeconds) -> bytes:
    """Return the file of the furnished town's database; a process makes it once."""
    with TemporaryDirectory() as name:
        town, path = Path(name) / "town.toml", Path(name) / "utility.db"
        town.write_text(TOWN)
        loaded = load_town(town)
        path.write_bytes(empty_database())
        opened = open_database(f"sqlite:///{path}", create=True)
        with opened.writes.begin() as connection:
            fill_registry(connection, loaded)
        furnish(opened, loaded, now)
        opened.close()  # Its log is in the file then.
        return path.read_bytes()


@contextmanager
def furnished(folder: Path, now: EpochSeconds) -> Iterator[Database]:
    """Make the town's database in a folder."""
    (folder / "town.toml").write_text(TOWN)
    (folder / "utility.db").write_bytes(furnished_image(now))
    opened = open_database(f"sqlite:///{folder / 'utility.db'}", create=False)
    try:
        yield opened
    finally:
        opened.close()


@contextmanager
def visited(database: Database, now: EpochSeconds) -> Iterator[Visitors]:
    """Make the application, with a person for each role, named after it, and one with all roles: ``everything``."""
    with Visitors(make_app(standing_api(database, now, local_key=LOCAL_KEY))) as visitors:
        for role in Role:
            visitors.add(role.value, frozenset({role}), HOUSE if role is Role.RESIDENT else None)
        visitors.add("everything", frozenset(Role), HOUSE)
        yield visitors


def token_of(database: Database, name: str, roles: str, now: EpochSeconds) -> dict[str, str]:
    """Make an API token; return the headers of its requests."""
    token = new_token()
    row = {"digest": digest(token), "person": name, "label": f"{name}'s token", "roles": roles, "made": now}
    with database.writes.begin() as connection:
        connection.execute(api_token.insert(), row | {"until": now + 60, "used": None, "revoked": None})
    return {"Authorization": f"Bearer {token}"}
