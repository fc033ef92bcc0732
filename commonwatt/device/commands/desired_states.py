"""A meter's desired states, and the comparison of pairs that fences commands (M5, docs/control.md, I7)."""

from dataclasses import dataclass

from commonwatt.device.changes import DesiredStates, MeterState
from commonwatt.device.commands.epoch_guard import EpochGuard
from commonwatt.device.description import Description
from commonwatt.model.control.relaying import PUT_S
from commonwatt.model.ids import MeterId
from commonwatt.model.records import State
from commonwatt.model.units import EpochSeconds
from commonwatt.protocol.commands import MAX_SEQUENCE, NO_LIMIT, RAISES_WITHIN_S, Command, Epoch, Held, Kind, Result

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
        self.held[kind] = Held(
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
        self.held[kind] = Held(value=DEFAULT[kind], epoch=held.epoch, seq=held.seq)
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


def _watts(limit: Held, at: EpochSeconds) -> int | None:
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
