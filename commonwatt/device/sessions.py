"""Which brokers a meter uses, its sessions with them, and which commands are obeyed (docs/protocol.md)."""

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from commonwatt.device.changes import BrokerOrder, KeptRevoked
from commonwatt.device.commands import ANSWER_S, DONE, Verdict
from commonwatt.device.meter import Effects, MeterCore
from commonwatt.model.effects import Publish, Write
from commonwatt.model.exceptions import ProtocolError
from commonwatt.model.records import Log
from commonwatt.model.units import MeterId
from commonwatt.protocol import topics
from commonwatt.protocol.commands import ALONE, Command, Epoch
from commonwatt.protocol.json_messages import unpack_json
from commonwatt.protocol.meter_messages import RevokedList

IN_USE = 3  # so many brokers of the present order carry data
MISSED = 2  # missed acknowledgements of one log after which data goes to the next broker
ABSENT_S = 45  # seconds without a session with the broker of data after which it goes there too
STABLE_S = 60  # seconds for which the first broker is reachable before data goes back to it
JITTER_S = 30  # most seconds more, by the meter's id
LONGEST_STABLE_S = 9_600  # the same after returns that failed; each one doubles the wait
VISIT_EVERY_S = 7 * 86_400  # seconds between visits of the brokers of the clique with which no session is held
VISIT_S = 600  # seconds of a visit; a gateway offers its list of revoked controllers every 300 s


@dataclass(frozen=True, kw_only=True)
class MeterBroker:
    """An installed broker."""

    name: str  # its controller
    rank: int | None = None  # commands that come over it are obeyed under this rank alone; ``None``: under any
    warm: bool = False  # whether the meter holds a silent session there


class Brokers:
    """The brokers of one meter; all but the order is volatile.

    Args:
        installed: Its brokers; the first is home.
        clique: The brokers from which it obeys commands; empty: all.
        order: The order that the manager commanded; empty: none.
        revoked: The controllers whose brokers it has left; ``None``: none.
    """

    def __init__(
        self,
        meter: MeterId,
        installed: Sequence[MeterBroker],
        clique: Collection[str] = (),
        order: Sequence[str] = (),
        revoked: RevokedList | None = None,
    ) -> None:
        self._installed = {one.name: one for one in installed}
        self._home = installed[0].name
        self.clique = frozenset(clique or self._installed)  # the brokers from which commands are obeyed
        self.revoked = revoked or RevokedList()  # the controllers whose brokers it has left
        self._commanded = tuple(order)
        self.order = self._usable()  # the present order of brokers for data
        self.data = self.order[0]  # the broker that carries data now
        self._visit_phase_s = meter * 2_654_435_761 % VISIT_EVERY_S
        self._visit_at: float | None = None
        self._jitter_s = meter * 2_654_435_761 % 2**32 % JITTER_S
        self._stable_s = STABLE_S
        self._since: dict[str, float] = {}
        self._absent_since: float | None = None
        self._missed: Counter[Log] = Counter()
        self._waits = False
        self._dialled: dict[str, float] = {}

    @property
    def are_all_left(self) -> bool:
        """Whether the controllers of all brokers are revoked; data waits then."""
        return self._installed.keys() <= self.revoked.ranks.keys()

    @property
    def sessions(self) -> frozenset[str]:
        """The brokers with which the meter is connected, or connects; none if all controllers are revoked."""
        warm = {name for name in self.clique if self._installed[name].warm}
        return frozenset({self.data, self.order[0], self._home, *warm, *self._dialled} - self.revoked.ranks.keys())

    @property
    def wake_at(self) -> float | None:
        """When ``tick`` is due; ``None``: not by itself."""
        due = (self._back_at, self._on_at, self._visit_at, *self._dialled.values())
        return min((at for at in due if at is not None), default=None)

    @property
    def _in_use(self) -> Sequence[str]:
        return self.order[:IN_USE]

    @property
    def _on_at(self) -> float | None:
        """When data goes to the next broker, since the session with the present one ended."""
        since = self._absent_since
        return None if since is None or len(self._in_use) == 1 else since + ABSENT_S

    @property
    def _back_at(self) -> float | None:
        first = self.order[0]
        away = self.data != first and first in self._since
        return self._since[first] + self._stable_s + self._jitter_s if away else None

    def why_not(self, via: str, epoch: Epoch | None) -> str | None:
        """Return why a command that came over a broker is not obeyed; ``None``: its epoch is compared.

        Args:
            epoch: The command's epoch; ``None``: a question, which needs none.
        """
        rank = self._installed[via].rank
        if via not in self.clique:
            return f"commands from {via} are not obeyed"
        if epoch is not None and epoch[1] in self.revoked.ranks.values():
            return f"the controller of rank {epoch[1]} was revoked"
        if epoch is None or rank in (None, epoch[1]) or (via == self._home and epoch[1] == ALONE):
            return None
        return f"commands from {via} are of rank {rank}, not {epoch[1]}"

    def set_order(self, names: Sequence[str], now: float) -> bool:
        """Use another order, of its names that are installed; return whether data goes to another broker at once."""
        self._commanded = tuple(names)
        return self._reorder(now)

    def leave(self, revoked: RevokedList, now: float) -> bool:
        """Use no broker of a revoked controller; return whether data goes to another broker at once."""
        self.revoked = revoked
        return self._reorder(now)

    def _usable(self) -> tuple[str, ...]:
        """Return the installed ones of the order, without revoked controllers; all, if it has none: data waits."""
        installed = tuple(self._installed)
        left = self._installed.keys() - self.revoked.ranks.keys()
        usable = (
            tuple(name for name in dict.fromkeys(order) if name in left) for order in (self._commanded, installed)
        )
        return next((order for order in usable if order), installed)

    def _reorder(self, now: float) -> bool:
        order = self._usable()
        if order == self.order:
            return False
        self.order = order
        self._begin_to_wait(now)
        return self.data not in self._in_use and self._go(self.order[0], now)

    def missed(self, log: Log, now: float) -> bool:
        """Count a missed acknowledgement; return whether data goes to another broker."""
        self._missed[log] += 1
        return self._missed[log] >= MISSED and len(self._in_use) > 1 and self._go_on(now)

    def answered(self, via: str) -> None:
        """Note an acknowledgement, or a refusal, that came over a broker."""
        self._missed.clear()
        if via == self.order[0] == self.data:
            self._stable_s = STABLE_S

    def connected(self, name: str, now: float) -> bool:
        """Note a session; return whether data that waits for it is to be sent."""
        self._since.setdefault(name, now)
        self._note_absence(now)
        sends, self._waits = self._waits and name == self.data, self._waits and name != self.data
        return sends

    def lost(self, name: str, now: float) -> None:
        """Note the end of a session."""
        self._since.pop(name, None)
        self._note_absence(now)

    def dial(self, name: str, until: float) -> None:
        """Hold a session for a while."""
        self._dialled[name] = max(until, self._dialled.get(name, until))

    def plan_visit(self, now: float) -> None:
        """Plan the next visit of all brokers of the clique, where a list of revoked controllers may wait."""
        if len(self.clique) > 1 and (self._visit_at is None or self._visit_at <= now):
            self._visit_at = now + VISIT_EVERY_S - (now + self._visit_phase_s) % VISIT_EVERY_S

    def tick(self, now: float) -> bool:
        """Do the due work; return whether data goes to another broker, or back to the first one."""
        if self._visit_at is not None and self._visit_at <= now:
            self._dialled |= dict.fromkeys(self.clique, now + VISIT_S)
            self.plan_visit(now)
        self._dialled = {name: until for name, until in self._dialled.items() if until > now}
        if self._on_at is not None and self._on_at <= now:
            return self._go_on(now)
        if self._back_at is None or self._back_at > now:
            return False
        self._stable_s = min(2 * self._stable_s, LONGEST_STABLE_S)
        return self._go(self.order[0], now)

    def _begin_to_wait(self, now: float) -> None:
        """Count from now on how long the first broker is reachable: its gateway was not."""
        if self.order[0] in self._since:
            self._since[self.order[0]] = now

    def _go_on(self, now: float) -> bool:
        """Send data to the next broker in use."""
        if self.data == self.order[0]:
            self._begin_to_wait(now)
        in_use = self._in_use
        return self._go(in_use[(in_use.index(self.data) + 1) % len(in_use)], now)

    def _note_absence(self, now: float) -> None:
        """Note since when there is no session with the broker of data."""
        if self.data in self._since:
            self._absent_since = None
        elif self._absent_since is None:
            self._absent_since = now

    def _go(self, name: str, now: float) -> bool:
        self.data, self._waits = name, name not in self._since
        self._missed.clear()
        self._absent_since = now if self._waits else None
        return True


_DATA = (topics.RECORDS, topics.EVENTS)


class BrokerArrival(NamedTuple):
    """A message, or the begin or end of a session."""

    meter: MeterId
    via: str  # the broker's name
    leaf: str  # last part of the topic; ``CONNECTED`` or ``LOST``
    payload: bytes = b""


CONNECTED, LOST = "+", "-"  # no topic of a meter ends so


class Sessions:
    """A meter with its brokers; all messages to and from the meter pass it.

    Args:
        is_signed: Whether a signature is the authority's, of a text; ``None``: no key of an authority is installed.
    """

    def __init__(self, meter: MeterCore, brokers: Brokers, is_signed: Callable[[str, str], bool] | None = None) -> None:
        self.meter = meter  # the meter
        self.brokers = brokers  # its brokers
        self._is_signed = is_signed
        meter.clique = brokers.clique

    @property
    def wake_at(self) -> float | None:
        """When ``tick`` is due next; ``None``: not by itself."""
        times = (self.meter.wake_at, self.brokers.wake_at)
        return min((time for time in times if time is not None), default=None)

    def tick(self, now: float) -> Effects:
        """Do the due work; send data to another broker after missed acknowledgements, or back to the first one."""
        moves = [self.brokers.missed(log, now) for log in self.meter.overdue(now)]
        if self.brokers.tick(now) or any(moves):
            return self.routed([*self.meter.send_again(now), *self.meter.tick(now)])
        return self.routed(self.meter.tick(now))

    def handle(self, arrived: BrokerArrival, now: float) -> Effects:
        """Handle a message, or the begin or end of a session."""
        via = arrived.via
        if arrived.leaf == LOST:
            self.brokers.lost(via, now)
            return []
        if via in self.brokers.revoked.ranks:
            return []
        if arrived.leaf == CONNECTED:
            if self._is_signed is not None:
                self.brokers.plan_visit(now)
            again = self.meter.send_again(now) if self.brokers.connected(via, now) else []
            return self.routed([*again, *self.meter.ask_again(via)], via)
        if arrived.leaf == topics.ACKS:
            self.brokers.answered(via)
        if arrived.leaf == topics.COMMANDS:
            return self.routed(self._commanded(arrived, now), via)
        return self.routed(self.meter.receive(arrived.leaf, arrived.payload, now, via), via)

    def _commanded(self, arrived: BrokerArrival, now: float) -> Effects:
        """Refuse a command of another clique or rank; use another order of brokers; all else is the meter's."""
        obeyed = self.meter.receive
        try:
            command = unpack_json(Command, arrived.payload)
        except ProtocolError:
            return obeyed(arrived.leaf, arrived.payload, now, arrived.via)
        if command.cmd == "revoked":
            return self._leave(arrived, command, now)
        is_question = command.cmd == "get" and command.what == "manager"
        why_not = self.brokers.why_not(arrived.via, None if is_question else command.epoch)
        if why_not is not None:
            return self.meter.answer(command, Verdict("refused", why_not), now)
        if is_question and command.about in self.brokers.clique:
            self.brokers.dial(command.about, now + ANSWER_S)
        order = self._ordered(command, now)
        return [*order, *obeyed(arrived.leaf, arrived.payload, now, arrived.via)]

    def _leave(self, arrived: BrokerArrival, command: Command, now: float) -> Effects:
        """Keep a signed list of revoked controllers that is newer than the kept one, and leave their brokers."""
        if self._is_signed is None:
            return self.meter.receive(arrived.leaf, arrived.payload, now, arrived.via)
        text = command.revoked or ""
        try:
            listed = RevokedList.read(text)
        except ProtocolError as error:
            return self.meter.answer(command, Verdict("refused", str(error)), now)
        if listed.number <= self.brokers.revoked.number:
            return self.meter.answer(command, Verdict("repeated"), now)
        if not self._is_signed(text, command.signature or ""):
            return self.meter.answer(command, Verdict("refused", "the authority did not sign this list"), now)
        again = self.meter.send_again(now) if self.brokers.leave(listed, now) else []
        kept = Write(KeptRevoked(self.meter.description.id, listed))
        return [kept, *again, *self.meter.answer(command, DONE, now)]

    def _ordered(self, command: Command, now: float) -> Effects:
        """Use the order of brokers of an ``initialize`` that the meter obeys."""
        is_obeyed = self.meter.desired_states.judge(command, self.meter.time(now)) == DONE
        if command.cmd != "initialize" or command.brokers is None or not is_obeyed:
            return []
        before = self.brokers.order
        again = self.meter.send_again(now) if self.brokers.set_order(command.brokers, now) else []
        is_same = self.brokers.order == before
        return [] if is_same else [Write(BrokerOrder(self.meter.description.id, command.brokers)), *again]

    def routed(self, effects: Effects, via: str = "") -> Effects:
        """Send data to the broker of data, and an answer to the broker from which the command came."""
        return [self._to(effect, via) if isinstance(effect, Publish) else effect for effect in effects]

    def _to(self, message: Publish, via: str) -> Publish:
        if message.via:
            return message
        is_data = message.topic.rpartition("/")[2] in _DATA
        return replace(message, via=self.brokers.data if is_data or not via else via)
