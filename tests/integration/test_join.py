"""Two controllers join from their labels by the installed command; records of their meters reach the utility."""

import json
import os
import shlex
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from commonwatt.care.code import Code, Invitation
from commonwatt.cli.status import ask
from commonwatt.identity.certificates import details_of
from commonwatt.identity.devices import digest
from commonwatt.model.exceptions import CommonwattError
from commonwatt.runtime.clock import Clock, save_clock
from harness.network.waiting import ended, eventually, free_port
from harness.real import forks
from harness.real.deploy import machine_root
from tests.integration.test_deploy import PROGRAM, SPEED, Place

PLACES = ("r001", "r002")


def at() -> str:
    return f"127.0.0.1:{free_port()}"


def start(stack: ExitStack, words: list[str], log: Path) -> None:
    process = forks.start([*PROGRAM, *words], log)
    stack.callback(lambda: ended(process, 10))
    stack.callback(process.terminate)


def start_by_hand(said: str, place: Place, stack: ExitStack) -> None:
    """Do what is printed where systemd does not run: fill the registry, start the services by hand."""
    for path in place.state.rglob("*"):
        os.chown(path, os.geteuid(), os.getegid())  # The services of this test run as its own user.
    for line in map(str.strip, said.splitlines()):
        if line.startswith("runuser"):
            place.type(line.partition("-- ")[2])
        if line.startswith("Without systemd, as the files' owner"):
            words = shlex.split(line.partition("owner: commonwatt ")[2])
            start(stack, words, place.home / f"{words[0]}.log")


def site_file(clock: Path, care: int, meters_at: dict[str, str]) -> str:
    head_end = at()
    lines = [
        f'[site]\nutility = "127.0.0.1"\ncare = {care}\nmosquitto = false',
        f'[head_end]\nlisten = "{head_end}"',
        f'[utility]\ndatabase = "sqlite:///utility.db"\nhttp = "{at()}"\nbeats = "{at()}"\nclock = "{clock}"',
    ]
    for place in PLACES:
        lines += [
            f'[[microgrid]]\nid = "{place}"\nkind = "residential"\nhouses = 1\naddress = "127.0.0.1"',
            f'broker = {{listen = "{meters_at[place]}", http = "{at()}"}}',
            f'gateway = {{head_end = "{head_end}", http = "{at()}", beats = "{at()}", clock = "{clock}"}}',
        ]
    return "\n".join(lines) + "\n"


def invitation(site: Path, place: str, care: int) -> Invitation:
    """Return what the label of a controller says."""
    code = json.loads((site / "authority/codes.json").read_text())["codes"][place]["code"]
    fingerprint = digest((site / "authority/ca.pem").read_bytes())
    return Invitation(code=Code(bytes.fromhex(code)), addresses=(f"127.0.0.1:{care}",), fingerprint=fingerprint)


def is_asked(part: Path) -> bool:
    """Return whether a part answers."""
    try:
        return bool(ask(part))
    except CommonwattError:
        return False


def connected(gateway: Path) -> bool:
    return is_asked(gateway) and ask(gateway)["connected"] == {"meters": True, "head_end": True}


def has_records(utility: Path, place: str) -> bool:
    """Return whether the utility has records of a microgrid."""
    return int(ask(utility)["microgrids"][place]["received_slots"]) > 0


@pytest.fixture
def places(tmp_path: Path) -> Iterator[dict[str, Place]]:
    """Set up a town with care: the office packs the utility's bundle alone, the controllers join."""
    names = ("office", "utility", *PLACES)
    places = {name: Place(home=tmp_path / name, root=machine_root(tmp_path / name / "root")) for name in names}
    office, clock, care = places["office"], tmp_path / "clock.json", free_port()
    save_clock(clock, Clock(origin=time.time(), monotonic_origin=time.monotonic(), speed=SPEED))
    meters_at = {place: at() for place in PLACES}
    site = office.home / "site"
    site.mkdir()
    (site / "site.toml").write_text(site_file(clock, care, meters_at))
    with ExitStack() as stack:
        for line in ("site init", "site labels", "site pack utility"):
            office.type(f"commonwatt {line}")
        assert not list(site.glob("r00*/gateway.pem")), "keys of controllers are made there"
        shutil.copy(office.home / "utility.bundle", places["utility"].home)
        unpack = "commonwatt site unpack utility.bundle --authority FINGERPRINT"
        start_by_hand(places["utility"].type(unpack), places["utility"], stack)
        eventually(partial(is_asked, places["utility"].state / "utility/utility.toml"))
        label = invitation(site, "r001", care)
        root = places["r001"].root
        said = places["r001"].type(f"commonwatt join {label.code.words} --utility 127.0.0.1:{care} --root {root}")
        start_by_hand(said, places["r001"], stack)
        (places["r002"].root / "boot").mkdir()
        (places["r002"].root / "boot/commonwatt-join.txt").write_text(invitation(site, "r002", care).text)
        said = places["r002"].type(f"commonwatt join --root {places['r002'].root}")
        start_by_hand(said, places["r002"], stack)
        for place in PLACES:
            own = site / place
            path = places[place].home / "meters.toml"  # beside its own store
            path.write_text(
                f'[meters]\nmicrogrid = "{place}"\ntown = "{site}/town.toml"\ntokens = "{own}/meter-tokens.json"\n'
                f'broker = "{meters_at[place]}"\nbroker_ca = "{own}/ca.pem"\nclock = "{clock}"\n'
            )
            start(stack, ["meters", "run", "--config", str(path)], tmp_path / f"{place}.log")
            eventually((tmp_path / f"{place}.log").read_text)  # It handles signals before its first line.
        yield places


def test_two_controllers_join_by_words_and_by_file_and_their_records_arrive(places: dict[str, Place]) -> None:
    for place in PLACES:
        folder = places[place].state / place
        eventually(partial(connected, folder / "gateway.toml"))
        chain = details_of((folder / "gateway.pem").read_bytes())
        assert [one.names[0].split()[0] for one in chain] == [place, "enrolment"]
        eventually(partial(has_records, places["utility"].state / "utility/utility.toml", place))
    assert not (places["r002"].root / "boot/commonwatt-join.txt").exists()
