"""An intruder in the bench's town: it records datagrams and sends them again, or has a controller's credentials."""

import select
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from commonwatt.cliques.signs import BEAT_S, Beat, Bits
from commonwatt.network.addresses import split_address
from commonwatt.protocol.clique_datagrams import Datagrams
from commonwatt.protocol.clique_messages import Known, Yield
from commonwatt.protocol.commands import EPOCH_STEP
from commonwatt.town.clique_file import CLIQUE_FILE, load_cliques, parties
from commonwatt.town.cliques import BEATS_PORT
from harness.network.waiting import eventually
from harness.real.fake_clock import FakeClock
from harness.takeover.real.actions import R001, Action, emptied
from harness.takeover.real.packets import Wire
from harness.takeover.real.town import METERS, NAMES, Town, gateway
from utility.takeover.grants import QUIET_S

DAY = int(86_400 / BEAT_S)  # beats of a day
RECORDS_S = 3 * BEAT_S  # seconds for which datagrams are recorded
AHEAD_S = 30 * 86_400
HEARD_S = 15.0  # seconds within which a part that starts is heard
LIES = 2**16  # what a thief says of each microgrid to each other one
_WELL = Bits(able=frozenset(NAMES), manages=frozenset({"r001"}))

_running: dict[Town, list[threading.Event]] = {}
_recorded: dict[Town, list[tuple[str, bytes]]] = {}


def recorded(town: Town) -> None:
    """Record what the first controller sends and receives: to which address, and what."""
    until = time.monotonic() + RECORDS_S
    with town.machines.inside("r001", Wire) as wire:
        found = _recorded.setdefault(town, [])
        while (left_s := until - time.monotonic()) > 0 and select.select([wire], [], [], left_s)[0]:
            if (packet := wire.packet()) is not None:
                found.append((packet.to, packet.data))
    assert found, "no datagrams were recorded"


def sent_again(town: Town) -> None:
    """Send all that was recorded again from another machine, each second, until ``left``."""

    def sends(stop: threading.Event) -> None:
        with _socket(town, METERS) as out:
            while not stop.wait(1.0):
                for address, data in _recorded[town]:
                    out.sendto(data, (address, BEATS_PORT))

    _begin(town, sends)


def left(town: Town) -> None:
    """Let the intruder go."""
    for stop in _running.pop(town, []):
        stop.set()


def day_of_beats(town: Town) -> None:
    """Send the beats of a day under the first controller's name in place of its gateway, which was killed."""
    with _thief(town, "r001") as (datagrams, say):
        for _ in range(DAY):
            say(datagram.beat(Beat(_WELL), time.monotonic()) for datagram in datagrams)


def lies(town: Town) -> None:
    """Say that each microgrid has an epoch a step above the last, and yield it, under the third controller's name."""
    with _thief(town, "r003") as (datagrams, say):
        for n in range(1, LIES):
            grid, counter = NAMES[n % 3], min(n * EPOCH_STEP, 2**32 - 1)
            known = Known(microgrid=grid, highest=(counter, 3), manages=True)
            given = Yield(microgrid=grid, epoch=(counter, 1 + n % 3))
            for message in (known, given):
                say(datagram.message(message, time.monotonic()) or b"" for datagram in datagrams)


def emptied_and_started(town: Town) -> None:
    """Start the first controller's parts with no stores, as after the exchange of its machine."""
    emptied(town)
    town.start(*R001[1:])


def clock_once_ahead(part: str) -> Action:
    """Start a part once with a clock a month ahead, and then with the right one."""

    def happens(town: Town) -> None:
        town.kill(part)
        clock = FakeClock(town.folder, part)
        clock.set(AHEAD_S)
        town.environments[part] = clock.environment
        town.start(part)
        time.sleep(RECORDS_S)
        town.kill(part)
        del town.environments[part]
        town.start(part)
        eventually(lambda: all(_hears(town, name, part) for name in NAMES), HEARD_S)
        time.sleep(QUIET_S + HEARD_S)  # in which it grants nothing

    return happens


def _hears(town: Town, name: str, other: str) -> bool:
    heard_s = town.status(gateway(name)).get("takeover", {}).get("others", {}).get(other, {}).get("heard_s")
    return heard_s is not None and heard_s < BEAT_S + 1


def _begin(town: Town, does: Callable[[threading.Event], None]) -> None:
    stop = threading.Event()
    _running.setdefault(town, []).append(stop)
    threading.Thread(target=does, args=(stop,), daemon=True).start()


def _socket(town: Town, machine: str) -> socket.socket:
    return town.machines.inside(machine, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))


@contextmanager
def _thief(town: Town, name: str) -> Iterator[tuple[list[Datagrams], Callable[[Iterable[bytes]], None]]]:
    """Take the place of a controller whose gateway does not run; yield its datagrams, and what sends one to each."""
    file = load_cliques(town.folder / name / CLIQUE_FILE)
    others = parties(file)
    datagrams = [Datagrams(file.rank, party) for party in others]
    by_address = {split_address(party.address): each for party, each in zip(others, datagrams, strict=True)}
    with _socket(town, name) as wire:
        wire.bind((town.machines.addresses[name], BEATS_PORT))

        def say(all_of_them: Iterable[bytes]) -> None:
            for address, data in zip(by_address, all_of_them, strict=True):
                wire.sendto(data, address)
            while select.select([wire], [], [], 0)[0]:
                data, source = wire.recvfrom(2048)
                for answer in by_address[source].take(data, time.monotonic()).answers:
                    wire.sendto(answer, source)

        say(each.beat(Beat(), time.monotonic()) for each in datagrams)
        time.sleep(0.5)  # offers of sessions come
        say(each.beat(Beat(), time.monotonic()) for each in datagrams)
        yield datagrams, say
