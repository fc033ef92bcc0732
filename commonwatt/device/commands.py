"""Commands to a meter: which it obeys, what it holds, what it answers (M5, docs/control.md).

Which epochs a meter takes: no lower one, no large step, no rank that raises it all day (docs/controllers.md).
A refused step names the meter's epoch, so that a lawful manager comes nearer in steps.
"""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import TypedDict, get_args

from commonwatt.device.changes import Description, DesiredStates, MeterState
from commonwatt.device.records import Delivery, MeterLog
from commonwatt.model.control import PUT_S
from commonwatt.model.records import Log, State
from commonwatt.model.units import EpochSeconds, MeterId
from commonwatt.protocol.commands import (
    EPOCH_STEP,
    KINDS,
    MAX_SEQUENCE,
    NO_LIMIT,
    RAISES,
    RAISES_WITHIN_S,
    Command,
    DeviceState,
    Epoch,
    ForeignDevice,
    HeldState,
    Kind,
    LogIds,
    Name,
    Result,
)
from commonwatt.protocol.meter_messages import LiveLevel, Put, PutAck, Refusal

FIRST_BELOW = 2**31  # a meter that holds no epoch takes any counter below


@dataclass
class EpochGuard:
    """The epochs of one meter."""

    epoch: Epoch = (0, 0)  # the highest epoch taken; (0, 0): none
    raises: dict[int, list[float]] = field(default_factory=dict)  # by rank, when it raised the epoch, oldest first

    def why_not(self, epoch: Epoch, now: float) -> str | None:
        """Return why an epoch is not taken; ``None``: it is.

        Args:
            now: Seconds of a clock that never goes back.
        """
        if epoch <= self.epoch:
            return None if epoch == self.epoch else f"epoch {list(self.epoch)} was seen"
        if self.epoch == (0, 0):
            return None if epoch[0] < FIRST_BELOW else f"counter {epoch[0]} is not below {FIRST_BELOW}"
        if epoch[0] - self.epoch[0] > EPOCH_STEP:
            return f"counter {epoch[0]} is more than {EPOCH_STEP} above {self.epoch[0]}"
        if len(self._recent(epoch[1], now)) >= RAISES:
            return f"controller {epoch[1]} raised the epoch {RAISES} times within a day"
        return None

    def take(self, epoch: Epoch, now: float) -> None:
        """Take an epoch for which ``why_not`` is ``None``."""
        if epoch > self.epoch:
            self.raises[epoch[1]] = [*self._recent(epoch[1], now), now]
            self.epoch = epoch

    def _recent(self, rank: int, now: float) -> list[float]:
        return [time for time in self.raises.get(rank, []) if now - time < RAISES_WITHIN_S]


SAVE_S = 900.0  # most seconds of its own clock that a restart of the meter forgets

DEFAULT: dict[Kind, str] = {
    Kind.SHARING: "off",
    Kind.REDUCING: "off",
    Kind.ISOLATED: "off",
    Kind.AGGREGATION: "none",
    Kind.IMPORT_LIMIT: NO_LIMIT,
    Kind.PUT_PERIOD: str(PUT_S),
}
"""The default of each state, in force after the state's end."""

_BITS: dict[tuple[Kind, str], State] = {
    (Kind.SHARING, "on"): State.SHARING,
    (Kind.REDUCING, "on"): State.REDUCING,
    # An emulated meter disconnects as soon as the command arrives.
    (Kind.ISOLATED, "on"): State.ISOLATED | State.OFF_GRID,
    (Kind.AGGREGATION, "lossless"): State.LOSSLESS,
    (Kind.AGGREGATION, "lossy"): State.LOSSY,
}


@dataclass(frozen=True)
class Verdict:
    """The result of a command, and the reason if it is not done."""

    result: Result
    reason: str | None = None


DONE = Verdict("done")


@dataclass(frozen=True)
class Commanded:
    """The desired states in force at a meter and its place, for the physics behind it."""

    sharing: bool = False  # its battery discharges for batteries below their minimum
    weight: int = 1  # its share of the discharge relative to other donors; 0: no discharge
    reducing: bool = False  # the place uses 80 % of its load
    # The place is disconnected from the loop; at a boundary meter, the microgrid from the town (C5).
    isolated: bool = False
    # At a boundary meter: most watts that the microgrid takes from the town; ``None``: no limit.
    import_limit_w: int | None = None


class OwnClock:
    """Counts the seconds that a meter is on, kept over restarts.

    It never goes back and stands still while the meter is off: no restart and no wrong time makes a day shorter.

    Args:
        own_s: Its value at the last write.
    """

    def __init__(self, own_s: float) -> None:
        self.own_s = own_s  # its present value
        self.saved_s = own_s  # its value at the last write
        self._counted_to: float | None = None

    def pass_time(self, now: float) -> None:
        """Count the time since the last call; the first call after a start counts none."""
        if self._counted_to is not None:
            self.own_s += max(0.0, now - self._counted_to)
        self._counted_to = now

    def save(self) -> float:
        """Return its value, to be written."""
        self.saved_s = self.own_s
        return self.own_s


class HeldStates:
    """A meter's desired states, each with the (epoch, sequence) that set it."""

    def __init__(self, stored: DesiredStates) -> None:
        self.held = dict(stored.held)  # the states by kind; kinds without a command are absent and have their default
        self.own_clock = OwnClock(stored.own_s)  # the clock of the epoch's raises
        self._guard = EpochGuard(stored.epoch, dict(stored.raises))
        self._digest = stored.digest

    @property
    def epoch(self) -> Epoch:
        """The highest epoch seen."""
        return self._guard.epoch

    @property
    def is_due(self) -> bool:
        """Whether the own clock is to be saved, since raises are counted by it."""
        return self.own_clock.own_s - self.own_clock.saved_s >= SAVE_S and bool(self._guard.raises)

    def kept(self, meter: MeterId) -> DesiredStates:
        """Return what is to be written, without raises older than a day."""
        own_s = self.own_clock.save()
        raises = {
            rank: [at for at in times if own_s - at < RAISES_WITHIN_S] for rank, times in self._guard.raises.items()
        }
        self._guard.raises = {rank: times for rank, times in raises.items() if times}
        return DesiredStates(meter, self.epoch, dict(self.held), dict(self._guard.raises), own_s, self._digest)

    @property
    def bits(self) -> State:
        """The state bits of these states."""
        bits = State(0)
        for kind, held in self.held.items():
            bits |= _BITS.get((kind, held.value), State(0))
        return bits

    @property
    def put_s(self) -> int:
        """Seconds between the puts of the history log."""
        return int(self.value(Kind.PUT_PERIOD))

    @property
    def next_end(self) -> EpochSeconds | None:
        """The earliest end of a state; ``None``: no state has an end."""
        return min((held.until for held in self.held.values() if held.until is not None), default=None)

    def value(self, kind: Kind) -> str:
        """Return the value of a kind of state."""
        return self.held[kind].value if kind in self.held else DEFAULT[kind]

    def commanded(self, at: EpochSeconds) -> Commanded:
        """Return the states in force during the slot that starts at ``at``."""
        on = {k: h for k, h in self.held.items() if h.value == "on" and (h.until is None or h.until > at)}
        limit = self.held.get(Kind.IMPORT_LIMIT)
        weight = on[Kind.SHARING].weight if Kind.SHARING in on else None
        return Commanded(
            sharing=Kind.SHARING in on,
            weight=weight or 1,
            reducing=Kind.REDUCING in on,
            isolated=Kind.ISOLATED in on,
            import_limit_w=None if limit is None else _watts(limit, at),
        )

    def judge(self, command: Command, now: float) -> Verdict:
        """Return the verdict on a command by its epoch, sequence and end, without a change of state."""
        why_not = self._guard.why_not(command.epoch, self.own_clock.own_s)
        if why_not is not None:
            return Verdict("fenced" if command.epoch < self.epoch else "refused", why_not)
        desired = command.desired()
        held = self.held.get(desired[0]) if desired else None
        if desired and command.seq is None:
            return Verdict("refused", f"{command.cmd} needs seq")
        if desired and command.seq == MAX_SEQUENCE:
            return Verdict("refused", f"seq {MAX_SEQUENCE} is the highest number: none could follow")
        if held is not None and command.seq is not None:
            if (command.epoch, command.seq) == (held.epoch, held.seq):
                return Verdict("repeated")
            if (command.epoch, command.seq) < (held.epoch, held.seq):
                return Verdict("superseded", f"seq {held.seq} is held")
        end = command.end(now=int(now))
        if end is not None and end <= now:
            return Verdict("expired")
        # Every state needs an end, in case the controller fails; aggregation does not, since it only shapes data.
        if desired and end is None and desired[0] is not Kind.AGGREGATION and desired[1] != DEFAULT[desired[0]]:
            return Verdict("refused", f"{command.cmd} needs its end, until or for_s")
        return DONE

    def accept(self, command: Command, now: float) -> None:
        """Set the state of a command whose verdict is done."""
        self._guard.take(command.epoch, self.own_clock.own_s)
        desired = command.desired()
        if desired is None or command.seq is None:
            return
        kind, value = desired
        self.held[kind] = HeldState(
            value=value,
            epoch=command.epoch,
            seq=command.seq,
            # The default value needs no end: ``until`` only limits the command itself.
            until=None if value == DEFAULT[kind] else command.end(now=int(now)),
            weight=command.weight if value == "on" else None,
        )

    def withdraw(self, kind: Kind) -> bool:
        """Set a kind of state to its default and keep its pair; return whether it was another."""
        held = self.held.get(kind)
        if held is None or held.value == DEFAULT[kind]:
            return False
        self.held[kind] = HeldState(value=DEFAULT[kind], epoch=held.epoch, seq=held.seq)
        return True

    def sooner(self, by_s: int) -> bool:
        """Move every end earlier after the clock was set back; return whether a state has an end.

        An end sent as a time then comes too soon; without this, an end sent as a duration would come too late.
        """
        ending = {kind: held for kind, held in self.held.items() if held.until is not None}
        for kind, held in ending.items():
            assert held.until is not None
            self.held[kind] = held.model_copy(update={"until": max(0, held.until - by_s)})
        return bool(ending)

    def expire(self, now: float) -> EpochSeconds | None:
        """Set ended states to their default and keep their pairs; return the last of these ends."""
        ended = {kind: held for kind, held in self.held.items() if held.until is not None and held.until <= now}
        for kind in ended:
            self.withdraw(kind)
        return max((held.until for held in ended.values() if held.until is not None), default=None)


def _watts(limit: HeldState, at: EpochSeconds) -> int | None:
    """Return the import limit in force at a time; ``None``: none."""
    is_ended = limit.until is not None and limit.until <= at
    return None if is_ended or limit.value == NO_LIMIT else int(limit.value)


def possible(command: Command, meter: Description, state: MeterState) -> Verdict:
    """Return a refusal of a command that the meter can't do, else ``DONE``."""
    if command.cmd == "share_power_on" and meter.battery is None:
        return Verdict("refused", "no battery here")
    desired = command.desired()
    if desired and desired[0] not in meter.commandable:
        return Verdict("refused", f"{desired[0].value} can't be commanded here")
    if desired and state.stopped:
        return Verdict("refused", "shut down; initialize first")
    if command.cmd == "get" and command.what is None:
        return Verdict("refused", "get needs what: records, events, levels, state or manager")
    if command.cmd == "get" and command.what == "levels" and state.level is None:
        return Verdict("refused", "no battery here" if meter.battery is None else "not measured yet")
    if command.cmd == "put" and (command.time is None or command.trust is None):
        return Verdict("refused", "put needs time and trust")
    return DONE


class Found(TypedDict, total=False):
    """What only some outcomes have."""

    sent: dict[str, int]  # records put for ``get``, by type
    acknowledged: bool | None  # whether the gateway asked about acknowledged; ``None``: not known


def collected(delivery: Delivery) -> tuple[Verdict, dict[str, int]]:
    """Return the verdict on a ``get`` of records, and the records that were put by type."""
    put = delivery.log.batch()
    if put is None:
        return DONE, {}
    verdict = Verdict("partial", "more follows") if put.last_id < delivery.wanted else DONE
    return verdict, {str(int(kind)): count for kind, count in put.counts().items()}


def level(state: MeterState, at: EpochSeconds | None) -> bytes:
    """Return the live level of a meter's battery, measured at ``at``; ``None``: in its last slot."""
    assert state.level is not None
    return LiveLevel(state=state.bits, time=at or state.last_slot, level=state.level).pack()


def unread(payload: bytes, why: str) -> tuple[str, str, Verdict] | None:
    """Return id, name and verdict of a command that can't be read; ``None``: no answer is possible."""
    named = _name_of(payload)
    if named is None:
        return None
    is_known = not named[1] or named[1] in get_args(Name)
    return *named, Verdict("refused" if is_known else "unsupported", why[:256])


def _name_of(payload: bytes) -> tuple[str, str] | None:
    try:
        content = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    name = content.get("id") if isinstance(content, dict) else None
    # A lone surrogate is valid JSON, but can't be encoded in an answer.
    if not isinstance(name, str) or len(name) > 64 or not name.isascii():
        return None
    cmd = content.get("cmd")
    return name, cmd[:32] if isinstance(cmd, str) and cmd.isascii() else ""


def ids_of(log: MeterLog) -> LogIds:
    """Return the ids that a log has, for an outcome."""
    # 64-bit ids are text in JSON, and so in the model that checks it.
    return LogIds.model_validate({"generation": log.generation, "first": str(log.first_id), "next": str(log.next_id)})


_LONGEST = 80  # characters of an unused message that are kept
MOST_REASONS = 12


class Deferred:
    """The kinds of commands of a meter that are answered later, the last command of each, and what its device shows.

    Args:
        name: The device's name; empty: the meter is no foreign device.
        preset: What reads its messages.
        kinds: The kinds.
    """

    def __init__(self, name: str = "", preset: str = "", kinds: frozenset[Kind] = frozenset()) -> None:
        self.kinds = kinds  # the kinds
        self.states: dict[str, DeviceState] = {}  # what is known of each state that the device can be told
        self.ignored: dict[str, tuple[int, str]] = {}  # its values that were not used, by reason: how many, the last
        self.ended: set[Kind] = set()  # the kinds that a command ended, not their time, until that is handled
        self.heard: int | None = None  # when a message of the device came last, epoch seconds
        self._name, self._preset = name, preset
        self._last: dict[Kind, Command] = {}
        self._open: set[Kind] = set()

    @property
    def device(self) -> ForeignDevice | None:
        """What is known of the device, for outcomes; ``None``: the meter is no foreign device."""
        if not self._name:
            return None
        return ForeignDevice(
            name=self._name[:64],
            preset=self._preset,
            heard=self.heard,
            states=dict(self.states),
            ignored=dict(self.ignored),
        )

    def ignore(self, reason: str, text: str) -> None:
        """Count a value that is not used."""
        if reason in self.ignored or len(self.ignored) < MOST_REASONS:
            text = text[:_LONGEST].encode(errors="replace").decode()  # JSON may have half a surrogate pair
            self.ignored[reason] = self.ignored.get(reason, (0, ""))[0] + 1, text

    def takes(self, command: Command) -> bool:
        """Take a command that was accepted; return whether it is answered later."""
        desired = command.desired()
        if desired is None or desired[0] not in self.kinds:
            return False
        self._last[desired[0]] = command
        self._open.add(desired[0])
        (self.ended.add if desired[1] == DEFAULT[desired[0]] else self.ended.discard)(desired[0])
        return True

    def value(self, kind: Kind) -> str | None:
        """Return the value that the last command of a kind sets; ``None``: none came since the start."""
        desired = self._last[kind].desired() if kind in self._last else None
        return desired[1] if desired else None

    def is_open(self, kind: Kind) -> bool:
        """Return whether a command of a kind awaits its answer."""
        return kind in self._open

    def close(self, kind: Kind) -> tuple[str, str]:
        """Return id and name of a kind's last command, which is answered now; without an id: none since the start."""
        self._open.discard(kind)
        last = self._last.get(kind)
        return (last.id, last.cmd) if last else ("", next(cmd for cmd, of in KINDS.items() if of is kind))


ANSWER_S = 3.0  # most seconds until the answer
MAX_OPEN = 8  # most questions open at once; more are refused


@dataclass(frozen=True)
class Question:
    """An open question."""

    command: Command  # the question
    puts: Sequence[Put]  # what was sent because of it
    deadline: float  # when it is answered
    via: str  # the broker over which it came

    @property
    def silence(self) -> bool | None:
        """What is answered without an acknowledgement: ``False``, or ``None`` if a sound gateway may be that slow.

        A gateway acknowledges events at once, and lets a small put of records wait for others.
        """
        return False if any(put.log is Log.EVENT for put in self.puts) else None


class OpenQuestions:
    """The open questions of one meter; volatile, since the asker does not wait for a meter that restarts."""

    def __init__(self) -> None:
        self._open: list[Question] = []

    @property
    def is_full(self) -> bool:
        """Whether no further question is taken."""
        return len(self._open) >= MAX_OPEN

    @property
    def next(self) -> float | None:
        """When the next question is answered; ``None``: none is open."""
        return min((question.deadline for question in self._open), default=None)

    def ask(self, command: Command, puts: Sequence[Put], now: float, via: str) -> None:
        """Open a question about the gateway to which ``puts`` were just sent."""
        self._open.append(Question(command, tuple(puts), now + ANSWER_S, via))

    def about(self, name: str) -> list[Put]:
        """Return the puts of the open questions about a controller."""
        return [put for question in self._open if question.command.about == name for put in question.puts]

    def answered(self, ack: PutAck, via: str) -> list[Question]:
        """Close and return the questions that this answers; BUSY answers none: that gateway can't store."""
        of_it = [question for question in self._open if via in ("", question.command.about)]
        found = [one for one in of_it if ack.status is not Refusal.BUSY and any(map(ack.is_of, one.puts))]
        self._open = [question for question in self._open if question not in found]
        return found

    def due(self, now: float) -> list[Question]:
        """Close and return the questions to which no acknowledgement came in time."""
        due = [question for question in self._open if question.deadline <= now]
        self._open = [question for question in self._open if question.deadline > now]
        return due


def puts_of(deliveries: Collection[Delivery]) -> tuple[list[Put], Put | None]:
    """Return the puts in flight, and the newest event again if none of events is: a gateway answers events at once."""
    puts = [put for delivery in deliveries if (put := delivery.log.batch())]
    again = next((one.newest for one in deliveries if one.newest is not None and not one.log.frozen), None)
    return puts if again is None else [*puts, again], again
