"""The core of a controller: what a machine has once, the microgrids that it hosts, and what a successor knows.

It keeps the time and the byte count of the LTE line, both in the store of its own microgrid, and decides which of the
microgrids handle an event. Topics to and from the utility name the controller, those of meters their microgrid.

What a controller that takes a microgrid over knows of it: states and spared places that the utility set (R12).
The manager tells them to the others of the clique whenever they change. Ends travel with the sender's time, so that
they last as long at a clock that differs.
"""

import json
from base64 import b85decode, b85encode
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from commonwatt.clique.messages import MOST_STATES_BYTES
from commonwatt.config.settings import GatewaySettings
from commonwatt.model.control import SavingMeasure, saving_words
from commonwatt.model.effects import Effect, Write
from commonwatt.model.exceptions import ProtocolError
from commonwatt.model.time import MachineClocks, Now
from commonwatt.model.units import ByteCount, ControllerId, EpochSeconds, MeterId, MicrogridId
from commonwatt.protocol.batches import unpack_batch_ack
from commonwatt.protocol.controller_commands import Action, ControllerCommand
from commonwatt.protocol.dead_letters import DeadLetterSource
from commonwatt.protocol.heartbeats import LineByteCount
from commonwatt.protocol.json_messages import unpack_json
from commonwatt.protocol.meter_messages import Refusal
from commonwatt.protocol.topics import ACKS, COMMANDS, broker_up, gateway_down
from commonwatt.town.registry import RegisteredMeter
from gateway.clique.member import Member
from gateway.control.epochs import Epochs, GrantedEpochs, NoEpochs
from gateway.control.microgrid_states import ENDS, STATES_JSON, MicrogridStates, Sharing
from gateway.core import RETRY, HostedMicrogrid
from gateway.events import (
    ClockJumped,
    Committed,
    Connected,
    Event,
    FromMeter,
    FromUtility,
    Granted,
    LineCounted,
    MachineRead,
    NotStored,
    Quiet,
    Reported,
    Tick,
    ToldStates,
    Upgraded,
)
from gateway.line.line import METERS, line_of
from gateway.line.saving import Saving, Sight
from gateway.relay.outbox import Turns
from gateway.relay.refill import RefillPace
from gateway.shown import status
from gateway.shown.program import ProgramTold
from gateway.store.changes import Change, Setting, Stored
from gateway.timekeeper import Timekeeper


def carried(core: HostedMicrogrid) -> dict[str, Any]:
    """Return the states of a microgrid as JSON; what does not fit is left out, weights first: the utility sends it."""
    states = core.modes.states
    if states.sharing_at(core.now) is None:
        in_force = Sharing(strategy=core.modes.strategy_of_file, from_time=0)
        states = replace(states, sharing=(in_force, *states.sharing))
    carried_states = _told(core, states)
    for less in (_told(core, replace(states, weighting=())), {"spared": None}):
        carried_states |= less if len(json.dumps(carried_states)) > MOST_STATES_BYTES else {}
    return carried_states


def settings_of(core: HostedMicrogrid) -> object:
    """Return a value that is equal as long as ``carried`` returns the same."""
    states, periods = core.modes.states, core.utility_commands.tuned
    is_of_file = states.sharing_at(core.now) is None
    return states, is_of_file, dict(periods), core.modes.meters_mode.commanded, core.modes.spared


def _told(core: HostedMicrogrid, states: MicrogridStates) -> dict[str, Any]:
    return {
        "states": STATES_JSON.dump_python(states, mode="json"),
        "periods": core.utility_commands.tuned,
        "meters": core.modes.meters_mode.commanded,
        "spared": b85encode(np.array(sorted(core.modes.spared), ">u8").tobytes()).decode(),
    }


def take(
    core: HostedMicrogrid, carried_states: Mapping[str, Any], sent: EpochSeconds, now: Now
) -> list[Effect[Change]]:
    """Keep the states that the manager told; the strategy of this controller's settings file is none of the utility's.

    Args:
        carried_states: What ``carried`` returned at the manager.
        sent: The manager's time when it told them.

    Raises:
        ValueError, TypeError: They are not what ``carried`` returns.
    """
    states = STATES_JSON.validate_python(carried_states.get("states")).shift(now - sent, ENDS)
    # Judged as the command that sets them.
    schedule = ControllerCommand(
        id="", cmd=Action.SCHEDULE, until=0, periods=carried_states.get("periods"), meters=carried_states.get("meters")
    )
    spared = carried_states.get("spared")  # `None`: they did not fit, or the manager's release does not tell them
    meters = None if spared is None else np.frombuffer(b85decode(spared), ">u8").tolist()
    own = Sharing(strategy=core.modes.strategy_of_file, from_time=0)
    core.modes.states = replace(states, sharing=tuple(part for part in states.sharing if part != own))
    core.utility_commands.tuned = {str(name): seconds for name, seconds in (schedule.periods or {}).items() if seconds}
    core.modes.meters_mode.commanded = schedule.meters
    return [
        *core.modes.states.kept(),
        Write(Setting("periods", json.dumps(core.utility_commands.tuned))),
        Write(Setting("meters_mode", schedule.meters or "")),
        *([] if meters is None else core.modes.spare(meters)),
    ]


GOOD_TIME = "good_time"  # name of the setting that keeps the last good time
HEARTBEAT = "heartbeat"  # the job of every ``HEARTBEAT_S`` seconds: send a heartbeat to the utility

HEARTBEAT_S = 60

JOBS = (RETRY, "collect_s", "levels_s", "relay_s", "compact_s", HEARTBEAT)  # the most frequent first


class Controller:
    """A controller that hosts its own microgrid and perhaps others."""

    def __init__(
        self,
        settings: GatewaySettings,
        store: Stored,
        meters: dict[MeterId, RegisteredMeter],
        members: Mapping[MicrogridId, Member] | None = None,
    ) -> None:
        self.id: ControllerId = settings.controller  # its name
        self.home: MicrogridId = settings.microgrid  # its own microgrid, always hosted
        self.time = Timekeeper(store.setting(GOOD_TIME))  # its time and the trust of it
        self._epochs: dict[MicrogridId, Epochs | GrantedEpochs | NoEpochs] = {}
        self.hosted: dict[MicrogridId, HostedMicrogrid] = {}  # the microgrids that it hosts, its own first
        self.pace = RefillPace()  # the share of the line that refills take
        self.members = members or {}  # its parts in its cliques, by microgrid; without a clique it has none
        self._settings = settings
        self.program = ProgramTold(store)  # what heartbeats say of the program and the machine
        self.disk_free_bytes = 0  # free bytes of the stores' disk at the last check; 0: not known
        self._shifted_s = 0
        self._turns = Turns()
        self._broker_topic = broker_up(self.id)
        self._acks_topic = gateway_down(self.id, ACKS)
        self._commands_topic = gateway_down(self.id, COMMANDS)
        self.host(self.home, store, meters)

    @property
    def own(self) -> HostedMicrogrid:
        """Its own microgrid."""
        return self.hosted[self.home]

    def host(self, microgrid: MicrogridId, store: Stored, meters: dict[MeterId, RegisteredMeter]) -> None:
        """Begin to host a microgrid, or go on from its store that was opened again."""
        self.hosted[microgrid] = HostedMicrogrid(
            self._settings, microgrid, store, meters, self.time, self._turns, self.pace, self.members.get(microgrid)
        )
        self._epochs[microgrid] = self.hosted[microgrid].manager.epochs
        self.hosted[microgrid].utility_commands.epochs = self._epochs
        if microgrid == self.home:
            self.line = line_of(self._settings, store)  # counts the bytes on the LTE line
            self.saving = Saving(store, self.id, self._settings.saves)  # what it does by itself to save bytes
        self._save(self.hosted[microgrid])

    def register(self, microgrid: MicrogridId, meters: dict[MeterId, RegisteredMeter]) -> None:
        """Replace the registry of a microgrid by a changed one."""
        self.hosted[microgrid].register(meters)
        self.time.forget({meter for core in self.hosted.values() for meter in core.meters})

    def program_seen(self, release: str, cert_days: int | None, disk_free_bytes: int) -> None:
        """Take in what the shell sees of the program and its machine.

        Args:
            release: The program's.
            cert_days: Whole days until the first certificate ends; ``None``: there is none.
            disk_free_bytes: Free bytes of the stores' disk.
        """
        self.program.release, self.program.cert_days = release, cert_days
        self.disk_free_bytes = disk_free_bytes

    # Events

    def receivers(self, event: Event) -> Sequence[MicrogridId]:
        """Return the microgrids that handle an event; what is of no other, and of the controller, is of its own."""
        if len(self.hosted) == 1:
            return (self.home,)
        match event:
            case FromMeter(topic) | NotStored(topic):
                microgrid = topic.split("/", 2)[1] if "/" in topic else ""
                return (microgrid if microgrid in self.hosted else self.home,)
            case FromUtility(topic, payload) if topic == self._acks_topic:
                return (self._sender_of_batch(payload),)
            case FromUtility(topic, payload) if topic == self._commands_topic:
                return (self._named(payload),)
            case Granted(microgrid) | ToldStates(microgrid) | Committed(microgrid):
                return (microgrid,)
            case Tick("levels_s"):
                return tuple(name for name, core in self.hosted.items() if core.manager.epochs.commands)
            case Tick(job) if job != HEARTBEAT:
                return tuple(self.hosted)
            case Connected() | Quiet("meters"):
                return tuple(self.hosted)
        return (self.home,)

    def _sender_of_batch(self, ack: bytes) -> MicrogridId:
        """Return the microgrid from whose store an acknowledged batch came."""
        try:
            store = unpack_batch_ack(ack).store
        except ProtocolError:
            return self.home
        return next((name for name, core in self.hosted.items() if core.store.store_id == store), self.home)

    def _named(self, command: bytes) -> MicrogridId:
        """Return the microgrid that a command is for."""
        try:
            named = unpack_json(ControllerCommand, command).microgrid
        except ProtocolError:
            return self.home
        return named if named is not None and named in self.hosted else self.home

    def handle(self, microgrid: MicrogridId, event: Event, raw: EpochSeconds) -> list[Effect[Change]]:
        """Let one of its receivers handle an event at the time ``raw``; return the effects on that one's store."""
        match event:
            case FromMeter(topic, payload):
                if topic == self._broker_topic:
                    return self._told(payload, raw)
                return self.hosted[microgrid].from_meter(topic, payload, raw)
            case LineCounted(side, run, sums):
                return self.line.look(side, run, sums, self._tell(raw))
            case MachineRead(machine):
                return self._machine(machine, raw)
            case ClockJumped():
                self.time.jumped()
                self._tell(raw)
                self.own.relay.greet = True  # The answer has the utility's time.
                return []
            case Reported(command, said):
                return self.own.utility_commands.reported(command, said, self._tell(raw))
            case Upgraded(ended):
                return self.own.utility_commands.upgraded(ended, self._tell(raw))
            case ToldStates(_, states, sent):
                return self._take(self.hosted[microgrid], states, sent, raw)
            case Tick(job) if job == HEARTBEAT:
                return self._heartbeat(self._tell(raw))
            case Connected():
                self.program.forget()
                return self.hosted[microgrid].handle(event, raw)
            case _:
                return self.hosted[microgrid].handle(event, raw)

    def _heartbeat(self, now: Now) -> list[Effect[Change]]:
        """Judge what saves bytes, and send a heartbeat."""
        self.pace.look(self.line.month(now))
        cores = self.hosted.values()
        sight = Sight(
            free_bytes=self.disk_free_bytes,
            backlog_parts=self.own.store.backlog()[0],
            slow_until=max(core.relay.slow_until for core in cores),
            relays=[(core.relay.counts.relayed(now), core.utility_commands.periods["relay_s"]) for core in cores],
        )
        effects, noted = self.saving.judge(self.line, sight, now)
        for core in cores:
            self._save(core)
        managed = {name: core for name, core in self.hosted.items() if core.manager.epochs.commands}
        told_epochs = managed if self.members else None
        effects += self.program.look(self.disk_free_bytes, now)
        saves, program = self.saving.wanted, self.program.due(self.disk_free_bytes, now)
        heartbeat = status.heartbeat(self.own, self.line, now, told_epochs, self.hosted, saves, program)
        return [*effects, *self.own.modes.changes.note(noted, now), heartbeat]

    def _save(self, core: HostedMicrogrid) -> None:
        saving = self.saving
        core.limit_bytes(
            saving.relay, saving.late_s, meters=SavingMeasure.METERS in saving.measures, put_s=saving.put_s
        )

    def tick_every_s(self, job: str) -> int:
        """Return the period of a job, seconds: the shortest of the microgrids'; each skips what is not due."""
        return HEARTBEAT_S if job == HEARTBEAT else min(core.tick_every_s(job) for core in self.hosted.values())

    def _told(self, payload: bytes, raw: EpochSeconds) -> list[Effect[Change]]:
        """Handle the broker's byte count of its meters' connections."""
        now = self._tell(raw)
        try:
            byte_count = unpack_json(LineByteCount, payload)
        except ProtocolError as error:
            return self.own.junk(DeadLetterSource.UNKNOWN, payload, error.code, now)
        return self.line.look(METERS, str(byte_count.run), ByteCount(byte_count.sent, byte_count.received), now)

    @staticmethod
    def _take(
        core: HostedMicrogrid, states: Mapping[str, Any], sent: EpochSeconds, raw: EpochSeconds
    ) -> list[Effect[Change]]:
        """Keep what the manager of a microgrid says that the utility has set."""
        now = core.tell(raw)
        try:
            return take(core, states, sent, now)
        except (ValueError, TypeError):
            return core.junk(DeadLetterSource.UNKNOWN, json.dumps(states).encode(), Refusal.MALFORMED, now)

    def _machine(self, machine: MachineClocks, raw: EpochSeconds) -> list[Effect[Change]]:
        """Handle a reading of the machine's clocks."""
        self.time.machine(machine)
        self._tell(raw)
        kept = self.time.keep()
        return [] if kept is None else [Write(Setting(GOOD_TIME, kept))]

    def _tell(self, raw: EpochSeconds) -> Now:
        """Return the time; if it was set, shift the line's times with it."""
        now = self.own.tell(raw)
        self.line.shift(self.time.stepped_s - self._shifted_s)
        self._shifted_s = self.time.stepped_s
        return now

    def view(self, microgrid: MicrogridId, raw: EpochSeconds) -> dict[str, object]:
        """Return the present state of a hosted microgrid for the status page, as JSON."""
        self._tell(raw)
        core = self.hosted[microgrid]
        return status.view(core, self.line, core.tell(raw)) | {"saves": dict(saving_words(self.saving.wanted))}
