"""A small town in a database, and makers of what gateways send.

The database is an SQLite file. A module whose tests are true of any database sets ``kind`` to ``databases.both_kinds``,
and runs on a PostgreSQL server too, one for all of them.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from commonwatt.batches import Batch, Letter
from commonwatt.blocks import Blocks, make_blocks
from commonwatt.messages import Trust
from commonwatt.packing import pack
from commonwatt.payloads import Payloads
from commonwatt.records import EventRecord
from commonwatt.town import Town, load_town
from tests.support.postgres import Postgres
from utility.registry import fill_registry
from utility.store.changes import Append
from utility.store.database import Database, open_database
from utility.store.tables import metadata

CLERK = "clerk"

MakeAppend = Callable[..., Append]
MakeBatch = Callable[..., Batch]
MakeBlocks = Callable[..., Blocks]


@pytest.fixture
def town(tmp_path: Path) -> Town:
    path = tmp_path / "town.toml"
    path.write_text('microgrid = [{id = "r", kind = "residential", count = 2, houses = 2}]\n')
    return load_town(path)


@pytest.fixture
def kind() -> str:
    return "sqlite"


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    with Postgres(tmp_path_factory.mktemp("postgres"), durable=False) as it:
        # As an installation has it: a database of somebody who may do nothing else.
        it.execute(f"CREATE ROLE {CLERK} LOGIN PASSWORD 'secret'", f"CREATE DATABASE town OWNER {CLERK}")
        open_database(it.url_of("town", CLERK), create=True).close()
        yield it


@pytest.fixture
def url(tmp_path: Path, kind: str, request: pytest.FixtureRequest) -> str:
    if kind == "sqlite":
        return f"sqlite:///{tmp_path}/utility.db"
    server: Postgres = request.getfixturevalue("server")
    # Quicker than to make the tables anew, or to copy them.
    statements = [
        *(f"DELETE FROM {table.name}" for table in reversed(metadata.sorted_tables)),
        *(f"ALTER SEQUENCE {name} RESTART" for name in ("part_id_seq", "letter_no_seq", "meter_no_seq")),
    ]
    server.run_script("town", ";".join(statements))
    return server.url_of("town", CLERK)


@pytest.fixture
def database(url: str, town: Town) -> Iterator[Database]:
    opened = open_database(url, create=True)
    with opened.writes.begin() as connection:
        fill_registry(connection, town)
    yield opened
    opened.close()


@pytest.fixture
def blocks() -> MakeBlocks:
    def make(
        slots: dict[int, int], *, meter: int = 10001, kind: int = 3, quarter: int = 2_000_000, q: int = 2
    ) -> Blocks:
        values = [slots.get(slot, 0) for slot in range(60)]
        return make_blocks([(meter, kind, quarter)], [values], [[q if slot in slots else 0 for slot in range(60)]])

    return make


@pytest.fixture
def append() -> MakeAppend:
    def make(
        blocks: Blocks | None = None,
        *,
        sender: str = "r001",
        events: Sequence[tuple[int, EventRecord]] = (),
        letters: Sequence[Letter] = (),
        received: int = 1_800_000_000,
    ) -> Append:
        given = blocks if blocks is not None else make_blocks([], [], [])
        return Append(
            sender=sender,
            owner="r001",
            received=received,
            blocks=given,
            payloads=pack(given),
            events=list(events),
            letters=list(letters),
        )

    return make


@pytest.fixture
def batch() -> MakeBatch:
    def make(
        blocks: Blocks | None = None,
        *,
        owner: str = "r001",
        events: Sequence[tuple[int, EventRecord]] = (),
        letters: Sequence[Letter] = (),
        payloads: list[bytes] | None = None,
    ) -> Batch:
        given = blocks if blocks is not None else make_blocks([], [], [])
        return Batch(
            owner=owner,
            store=7,
            sequence=3,
            time=1_800_000_000,
            trust=Trust.NETWORK,
            keys=given.keys(),
            payloads=Payloads.of(payloads or pack(given)),
            events=list(events),
            letters=list(letters),
        )

    return make
