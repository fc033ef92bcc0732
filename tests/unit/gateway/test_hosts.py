"""One controller that hosts several microgrids, and releases that host none."""

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from unittest.mock import patch

import pytest
from prometheus_client import CollectorRegistry

from commonwatt.config.settings import GatewaySettings
from commonwatt.model.effects import Publish, Write
from commonwatt.model.records import Log
from commonwatt.model.time import Now
from commonwatt.protocol.batches import Batch, BatchAck, BatchRefusal, unpack_batch
from commonwatt.protocol.commands import Command
from commonwatt.protocol.controller_commands import Action, ControllerCommand, ControllerOutcome
from commonwatt.protocol.json_messages import unpack_json
from commonwatt.protocol.meter_messages import Put, Refusal, unpack_put_ack
from commonwatt.protocol.topics import COMMANDS, gateway_down
from commonwatt.runtime.clock import Clock
from commonwatt.runtime.metric_families import registry_of
from gateway.controller import Controller
from gateway.core import RETRY
from gateway.events import Event, FromMeter, FromUtility, Tick
from gateway.loop import work as module
from gateway.loop.hosted_store import HostedStore
from gateway.loop.inbox import Inbox
from gateway.loop.machine import StoreDisk
from gateway.loop.work import Work
from gateway.relay import utility_commands
from gateway.relay.utility_commands import UtilityCommands
from gateway.shown.metrics import ShellFigures, gateway_metrics
from gateway.store.store import Store
from harness.network.waiting import become
from harness.surroundings.gateway import START, World, end_work, readings, registered
from utility.outbox.changes import CloseCommand, OpenCommand
from utility.readings import sending
from utility.readings.sending import RESEND_S, Sending

HOME, OTHER = "r001", "r002"
METERS = {HOME: 1, OTHER: 2}  # a meter of each


class Controlled:
    """A controller without connections, whose clock is at a fixed time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sent: list[Publish] = []
        store = HostedStore.open(folder / "gateway.db", START)
        settings = GatewaySettings(microgrid=HOME, store=folder / "gateway.db")
        controller = Controller(settings, store.store, {METERS[HOME]: registered(METERS[HOME])})
        clock = Clock(origin=START, monotonic_origin=0, speed=0)
        self.inbox = Inbox()
        self.work = Work(controller, store, self.inbox, clock, StoreDisk(settings.store), self.sent.append)
        asyncio.run(self.work.host(OTHER, folder / "r002.db", {METERS[OTHER]: registered(METERS[OTHER])}))

    def play(self, *events: Event, until: str = "") -> list[Publish]:
        """Let the work handle events, until a message on a topic with this end was sent; return what was sent."""
        self.sent.clear()

        async def play() -> None:
            work = asyncio.create_task(self.work.run(lambda: None, lambda: None))
            for event in events:
                self.inbox.queue(event)
            await become(lambda: any(message.topic.endswith(until) for message in self.sent))
            await asyncio.sleep(0)
            await end_work(self.work, work)

        asyncio.run(play())
        return list(self.sent)

    def parts(self, microgrid: str, *, unsent_only: bool = False) -> set[int]:
        """Return the meters of which a microgrid's store has parts."""
        return {part.key[0] for part in self.work.stores[microgrid].store.all_parts(unsent_only=unsent_only)}

    def close(self) -> None:
        for store in self.work.stores.values():
            store.store.close()


@pytest.fixture
def controlled(tmp_path: Path) -> Iterator[Controlled]:
    it = Controlled(tmp_path)
    yield it
    it.close()


def put(microgrid: str, first: int = 1) -> FromMeter:
    """Return a put of four records of a microgrid's meter."""
    meter = METERS[microgrid]
    rows = tuple(record.pack() for record in readings(meter, first, 4))
    packed = Put(log=Log.HISTORY, generation=1, first_id=first, last_id=first + 3, records=rows).pack()
    return FromMeter(f"cw1/{microgrid}/{meter}/u/rec", packed)


def statuses(sent: list[Publish]) -> dict[str, Refusal]:
    """Return the status of each put's acknowledgement, by topic."""
    return {message.topic: unpack_put_ack(message.payload).status for message in sent if message.topic.endswith("/ack")}


def batches(sent: list[Publish]) -> dict[str, Batch]:
    """Return the batches by their owner; all go out under the controller's name."""
    assert {message.topic for message in sent if message.topic.endswith("/batch")} <= {f"cw1/{HOME}/u/batch"}
    found = [unpack_batch(message.payload) for message in sent if message.topic.endswith("/batch")]
    return {batch.owner: batch for batch in found if len(batch.keys)}


def acknowledgement(batch: Batch) -> FromUtility:
    ack = BatchAck(
        time=START,
        utility_store=7,
        store=batch.store,
        sequence=batch.sequence,
        status=BatchRefusal.NONE,
        blocks=len(batch.keys),
        events=0,
        dead_letters=0,
    )
    return FromUtility(f"cw1/{HOME}/d/ack", ack.pack())


def test_records_of_both_microgrids_are_acknowledged_each_from_its_own_store(controlled: Controlled) -> None:
    sent = controlled.play(put(HOME), put(OTHER), until="/2/d/ack")
    assert statuses(sent) == {"cw1/r001/1/d/ack": Refusal.NONE, "cw1/r002/2/d/ack": Refusal.NONE}
    assert (controlled.parts(HOME), controlled.parts(OTHER)) == ({1}, {2})


def test_an_acknowledgement_of_the_utility_reaches_the_microgrid_whose_batch_it_was(controlled: Controlled) -> None:
    controlled.play(put(HOME), put(OTHER), until="/2/d/ack")
    sent = batches(controlled.play(Tick("relay_s"), until="/batch"))
    assert {owner: set(batch.keys.meter.tolist()) for owner, batch in sent.items()} == {HOME: {1}, OTHER: {2}}
    controlled.play(acknowledgement(sent[OTHER]), put(HOME, 5), until="/1/d/ack")
    assert (controlled.parts(HOME, unsent_only=True), controlled.parts(OTHER, unsent_only=True)) == ({1}, set())


def test_nothing_is_published_before_the_commits_of_both(
    controlled: Controlled, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    sync = Store.sync

    def noted(store: Store) -> None:
        sync(store)
        done.append("commit")

    monkeypatch.setattr(Store, "sync", noted)
    published = controlled.sent.append

    def publish(message: Publish) -> None:
        done.append(message.topic)
        published(message)

    monkeypatch.setattr(controlled.work, "_publish", publish)
    controlled.play(put(HOME), put(OTHER), until="/2/d/ack")
    assert done[:4] == ["commit", "commit", "cw1/r001/1/d/ack", "cw1/r002/2/d/ack"]


@pytest.mark.parametrize("failed", [HOME, OTHER])
def test_a_store_that_fails_refuses_the_puts_of_its_own_microgrid_until_it_is_open_again(
    controlled: Controlled, monkeypatch: pytest.MonkeyPatch, failed: str
) -> None:
    monkeypatch.setattr(module, "REOPEN_AFTER_S", 0.0)
    failing = controlled.work.stores[failed].store
    broken, sync, opens = [True], Store.sync, HostedStore.open_again

    def sync_or_fail(store: Store) -> None:
        if store is failing:
            raise sqlite3.OperationalError("disk I/O error")
        sync(store)

    def open_again(store: HostedStore, failure: Exception, now: int, *, gone: bool) -> None:
        if broken:
            raise OSError("still broken")
        opens(store, failure, now, gone=gone)

    monkeypatch.setattr(Store, "sync", sync_or_fail)
    monkeypatch.setattr(HostedStore, "open_again", open_again)
    acks = {name: f"cw1/{name}/{meter}/d/ack" for name, meter in METERS.items()}
    refused = {acks[name]: Refusal.BUSY if name == failed else Refusal.NONE for name in acks}

    async def play() -> None:
        work, sent = asyncio.create_task(controlled.work.run(lambda: None, lambda: None)), controlled.sent
        for first in (1, 5):  # At the second puts it is being opened.
            sent.clear()
            controlled.inbox.queue(put(HOME, first))
            controlled.inbox.queue(put(OTHER, first))
            await become(lambda: len(statuses(sent)) == 2)
            assert statuses(sent) == refused
        broken.clear()
        await become(lambda: not controlled.work.stores[failed].opening)
        sent.clear()
        controlled.inbox.queue(put(failed, 1))
        await become(lambda: statuses(sent))
        assert statuses(sent) == {acks[failed]: Refusal.NONE}
        await end_work(controlled.work, work)

    asyncio.run(play())
    assert controlled.parts(failed) == {METERS[failed]}
    assert {name: bool(store.figures.failures) for name, store in controlled.work.stores.items()} == {
        name: name == failed for name in METERS
    }


def test_only_its_own_meters_are_commanded_and_those_of_which_it_takes_records_are_not(controlled: Controlled) -> None:
    sent = controlled.play(Tick(RETRY), until="/1/d/cmd")
    commands = {message.topic: unpack_json(Command, message.payload) for message in sent if "/d/cmd" in message.topic}
    assert set(commands) == {"cw1/r001/1/d/cmd"}
    assert {command.issuer for command in commands.values()} == {HOME}
    assert all(command.id.startswith(f"{HOME}-") for command in commands.values())


def test_a_step_of_the_time_shifts_the_deadlines_of_both(controlled: Controlled) -> None:
    controlled.play(put(HOME), put(OTHER), until="/2/d/ack")
    controlled.play(Tick("relay_s"), until="/batch")
    hosted = controlled.work.controller.hosted
    sent = {name: [batch.sent for batch in core.relay.in_flight.values()] for name, core in hosted.items()}
    controlled.work.controller.time.network(START, START + 100, 0)
    for core in hosted.values():
        core.tell(START)
    later = {name: [batch.sent for batch in core.relay.in_flight.values()] for name, core in hosted.items()}
    assert all(sent.values())
    assert later == {name: [time + 100 for time in times] for name, times in sent.items()}


def test_metrics_and_status_name_a_hosted_microgrid_and_are_as_ever_without_one(controlled: Controlled) -> None:
    controlled.play(put(HOME), put(OTHER), until="/2/d/ack")
    work = controlled.work
    figures = ShellFigures(stores={n: s.figures for n, s in work.stores.items()})
    registry = registry_of(lambda: gateway_metrics(work.controller, figures))
    name, kind = "commonwatt_gateway_records_total", {"type": "through"}
    assert registry.get_sample_value(name, kind) == 4
    assert registry.get_sample_value(name, kind | {"microgrid": OTHER}) == 4
    assert work.controller.view(OTHER, START)["microgrid"] == OTHER
    alone = Controller(GatewaySettings(microgrid=HOME), work.own.store, {1: registered(1)})
    assert not _labelled(registry_of(lambda: gateway_metrics(alone, ShellFigures())))


def _labelled(registry: CollectorRegistry) -> list[str]:
    """Return the samples that name a microgrid, but for which ones are managed, which always do."""
    samples = (s for family in registry.collect() for s in family.samples if "microgrid" in s.labels)
    return [s.name for s in samples if s.name != "commonwatt_gateway_manages"]


ISOLATE = ControllerCommand(id="c1", cmd=Action.ISOLATE, until=START + 9000, state="on", for_s=3600)
OPEN = OpenCommand(id="c1", controller="r002", message=ISOLATE.pack().decode(), until=ISOLATE.until)


@contextmanager
def older_release() -> Iterator[None]:
    """The gateway knows no ``hosted``: it ignores the keys, and the command as any that it does not know."""
    with patch.object(utility_commands, "HOSTED", "no such command"):
        yield


class Wire:
    """The utility, which believes that r001 manages r002, and r001's gateway, which hosts its own microgrid alone."""

    def __init__(self, folder: Path) -> None:
        self.gateway, self.utility = World(folder / "gateway.db"), Sending()
        self.utility.managers = {"r001": ("r001", (1, 1)), "r002": ("r001", (2, 1))}
        self.outcomes: list[ControllerOutcome] = []
        self.closed: list[CloseCommand] = []

    def look(self) -> list[str]:
        """Let the utility send what is due, and take the answers; return the topics."""
        sent = [one for one in self.utility.due([OPEN], self.gateway.now) if isinstance(one, Publish)]
        for one in sent:
            if one.topic == gateway_down("r001", COMMANDS):
                self._deliver(one.payload)
        return [one.topic for one in sent]

    def _deliver(self, payload: bytes) -> None:
        for answer in self.gateway.utility_says(COMMANDS, payload):
            outcome = unpack_json(ControllerOutcome, answer.payload)
            self.outcomes.append(outcome)
            effects = self.utility.answered("r001", outcome, ()).effects
            changes = [effect.change for effect in effects if isinstance(effect, Write)]
            self.closed += [change for change in changes if isinstance(change, CloseCommand)]


def is_never_isolated_for_another(folder: Path, result: str) -> None:
    """Let a minute pass; the command stays open, for its own controller."""
    wire = Wire(folder)
    for _ in range(6):
        assert wire.look() == ["cw1/r001/d/cmd"]
        wire.gateway.now += RESEND_S
        assert wire.gateway.core.modes.states.isolate_until == 0, "r001 is isolated by a command for r002"
    assert {outcome.result for outcome in wire.outcomes} == {result}
    assert wire.closed == []
    wire.utility.managers = {"r001": ("r001", (1, 1)), "r002": ("r002", (3, 2))}
    assert wire.look() == ["cw1/r002/d/cmd"]
    wire.gateway.store.close()


RELEASES: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "unsupported": older_release,
    "refused": nullcontext,
}
"""Releases of a gateway that has no store of the microgrid, by their answer."""


@pytest.mark.parametrize("result", RELEASES)
def test_a_controller_without_a_store_of_the_microgrid_leaves_its_command_alone(result: str, tmp_path: Path) -> None:
    with RELEASES[result]():
        is_never_isolated_for_another(tmp_path, result)


def test_the_bare_command_would_have_isolated(tmp_path: Path) -> None:
    wire = Wire(tmp_path)
    with older_release():
        wire.gateway.utility_says(COMMANDS, ISOLATE.pack())
    assert wire.gateway.core.modes.states.isolate_until == START + 3600
    wire.gateway.store.close()


def _bare(*given: object) -> ControllerCommand:
    command = given[-1]
    assert isinstance(command, ControllerCommand)
    return command


def _for_its_own(self: UtilityCommands, _: ControllerCommand, wrapped: ControllerCommand, now: Now) -> object:
    return self.do(wrapped, now)


BUGS: dict[str, tuple[Callable[[], AbstractContextManager[object]], str]] = {
    "a command for another microgrid is sent bare": (lambda: patch.object(sending, "sent_to", _bare), "unsupported"),
    "unsupported closes the command": (
        lambda: patch.object(ControllerOutcome, "has_no_store", property(lambda _: False)),
        "unsupported",
    ),
    "a wrapped command is taken for the own microgrid": (
        lambda: patch.object(UtilityCommands, "_hosted", _for_its_own),
        "refused",
    ),
}
"""Planted bugs, each with the answer of the release in which it is found."""


@pytest.mark.parametrize("bug", BUGS)
def test_each_planted_bug_is_found(bug: str, tmp_path: Path) -> None:
    plant, result = BUGS[bug]
    with plant(), RELEASES[result](), pytest.raises(AssertionError):
        is_never_isolated_for_another(tmp_path, result)
