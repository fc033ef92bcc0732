"""One Chromium, and one utility with a small town of two settled days, for all tests of this folder."""

import asyncio
import time
from collections.abc import Callable, Iterator

import pytest
from fastapi import FastAPI
from playwright.sync_api import Browser, expect

from commonwatt.config.files import load_settings
from commonwatt.model.effects import Write
from commonwatt.model.records import HistoryRecord, RecordType, Rejection
from commonwatt.model.time import Now, Trust
from commonwatt.model.units import QUARTER_S
from commonwatt.protocol.dead_letters import DeadLetter
from commonwatt.protocol.heartbeats import LineMonth
from commonwatt.town.town import Microgrid
from harness.browser import Visit, chromium, served, visit
from harness.console import Browser as Person
from harness.console import standing_api
from harness.parts import with_parts
from harness.settlement.emulated import small_town
from harness.surroundings.messages import a_heartbeat, batch, blocks
from harness.town_month.month import Asked, make
from utility.access.people import Role
from utility.assembly.application import make_app
from utility.database.database import Database, open_database
from utility.jobs.plans import HERE, Period
from utility.jobs.store import Turn
from utility.lasting.jobs import lasting_of
from utility.lasting.rules import Said
from utility.outbox.changes import SawGateway
from utility.readings.core import Core, FromGateway
from utility.readings.store.writer import Writer
from utility.registry.store.registry import load_snapshot
from utility.settings import UtilitySettings
from utility.statistics.jobs import take_in

MONTH = "2026-10"
NOW = 1_794_330_000  # noon of 10 November 2026, after the deadline of settlement
ALLOWANCE = 30_000_000
expect.set_options(timeout=120_000)  # A busy machine is no fault.
METER = 10001
PROGRAM = {"release": "0.4.0", "starts": 3, "cert_days": 12, "disk_days": 400}  # what gateways say of themselves


@pytest.fixture(scope="module")
def chrome() -> Iterator[Browser]:
    # Playwright keeps a loop running in this thread: it ends with its file, before tests that run loops of their own.
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="session")
def application(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FastAPI]:
    """A utility with a small town: the last two days of October are settled. One reading is quarantined."""
    folder = tmp_path_factory.mktemp("town")
    town = small_town()
    make(
        Asked(town=town, scenario="normal", month=MONTH, days=2, folder=folder, bills=False, step_s=60),
        lambda _what, _part: None,
    )
    settings = load_settings(folder / "utility.toml", "utility", UtilitySettings)
    settings = settings.model_copy(update={"second_factor": "optional"})
    database = open_database(settings.database, create=True)
    used = LineMonth(used=(9_000_000, 4_000_000), allowance=ALLOWANCE)
    Writer(database).commit(
        [
            SawGateway(
                controller=name, time=NOW - 20, heartbeat=a_heartbeat(lte=used, devices=_devices(each), program=PROGRAM)
            )
            for name, each in town.microgrids.items()
        ]
    )
    _quarantine(database)
    turn = Turn(job="statistics", period=Period(start=0, end=0, name=""), attempt=1, now=NOW)
    asyncio.run(take_in(database, HERE, turn))
    # Sessions end by the time of the browser, which is the real one.
    api = standing_api(database, NOW, settings=settings, machine_s=lambda: int(time.time()))
    lasting = lasting_of(api)
    for is_island in (True, False):
        said = [_said(each, is_island=is_island) for each in town.microgrids.values()]
        lasting.look(said)
        lasting.score(said)
    yield with_parts(make_app(api))
    database.close()


def _said(microgrid: Microgrid, *, is_island: bool) -> Said:
    """Return what a gateway says of half-full batteries; of one it does not know the level."""
    batteries = [meter.id for meter in microgrid.meters if meter.battery]
    levels = [None, *[600] * (len(batteries) - 1)]
    return Said(
        microgrid.id, a_heartbeat(time=NOW - 20, sharing=dict.fromkeys(batteries, "enough"), levels=levels), is_island
    )


def _devices(microgrid: Microgrid) -> dict[str, object]:
    """Return devices of other makers, as a gateway tells of them: one disobeys, one obeys, one is unsafe."""
    makers = ("victron", "tasmota", "zendure")
    states: tuple[dict[str, object], ...] = (
        {"stage": "disobeys", "failsafe": "watchdog", "failsafe_s": 60, "finding": "should be on, and shows '0'"},
        {"stage": "obeys", "failsafe": "watchdog", "failsafe_s": 180},
        {"stage": "unconfirmed", "failsafe": "none"},
    )
    return {
        str(meter.id): {
            "name": f"{maker}-{meter.id}",
            "preset": maker,
            "heard": NOW - 30,
            "states": {"sharing": state | {"since": NOW - 600}},
            "ignored": {"unreadable": [3, "tele/shed/SENSOR: not JSON: Expecting value: line 1 column 1 (char 0)"]},
        }
        for meter, maker, state in zip(microgrid.meters, makers, states, strict=False)
    }


def _quarantine(database: Database) -> None:
    """Let a gateway send a reading that is implausible."""
    start = (NOW // QUARTER_S - 4) * QUARTER_S
    record = HistoryRecord(
        record_type=RecordType.THROUGH, lossy=0, record_id=7, meter_id=METER, account=1, start=start, end=start + 15,
        reading=250_001,
    )  # fmt: skip
    dead_letter = DeadLetter(
        meter=METER,
        log=1,
        reason=Rejection.IMPLAUSIBLE,
        generation=1,
        record_id=7,
        time=NOW - 60,
        content=record.pack(),
    )
    with database.reads.begin() as connection:
        core = Core(7, load_snapshot(connection), 1800)
    sent = batch(blocks({0: 5}, quarter=start // QUARTER_S), dead_letters=[dead_letter])
    step = core.handle(FromGateway("cw1/r001/u/batch", sent.pack()), Now(NOW, Trust.NETWORK))
    Writer(database).commit([effect.change for effect in step.effects if isinstance(effect, Write)])


@pytest.fixture(scope="session")
def address(application: FastAPI) -> Iterator[str]:
    with served(application) as url:
        yield url


@pytest.fixture
def window(chrome: Browser, address: str, application: FastAPI) -> Iterator[Callable[..., Visit]]:
    """Return a person's window: ``window(Role.CLERK)``, ``window(width=360, dark=True)``."""
    opened: list[Visit] = []

    def make_window(
        *roles: Role, account: int | None = None, width: int = 1280, dark: bool = False, touch: bool = False
    ) -> Visit:
        name = roles[0].value if len(roles) == 1 else "everybody"
        person = Person(application, *roles, name=name, account=account) if roles else None
        opened.append(visit(chrome, address, person, width=width, dark=dark, touch=touch))
        return opened[-1]

    yield make_window
    for one in opened:
        one.page.context.close()
