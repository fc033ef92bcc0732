"""The closed loop of one command: tell the device, see that it obeys, tell it again, give up (docs/adapters.md).

It reads no clock and has no connection. It takes what is wished and what the device shows, and says what to publish.
"""

from dataclasses import dataclass, field

from adapters.commands.command import DeviceCommand, Shows, Wish
from commonwatt.model.effects import Publish
from commonwatt.protocol.commands import Kind
from commonwatt.protocol.device_states import DeviceState, Stage

TRIES = 3  # times that a device is told before it disobeys
_NEVER = float("-inf")
_NOT_DUE = float("inf")


@dataclass(frozen=True)
class Reach:
    """What can be done for a device now."""

    broker: bool  # whether its broker is connected
    armed: bool  # whether its broker has the will that ends the state
    free: bool  # whether no other command of it is in flight


@dataclass
class Loop:
    """One command of one device."""

    command: DeviceCommand  # how it is told
    wish: Wish = field(default_factory=Wish)  # what the device should do
    ever: bool = False  # whether it was ever commanded
    permits: bool = False  # of a switch at a boundary: whether a command permits it to close
    stage: Stage = Stage.UNKNOWN  # how far it obeys
    since: float = 0.0  # since when
    finding: str | None = None  # of a device that disobeys: what it should do, and what it shows
    found_at: float = 0.0  # since when it disobeys
    gave_up: bool = False  # whether ``act`` gave up this time
    shows: Shows | None = None  # what it showed last
    due_at: float = _NEVER  # when ``act`` is due next, if nothing else happens
    _failed: bool = field(default=False, repr=False)  # the wish that it did not obey
    _shown_at: float = _NEVER
    _told: bool | None = None  # what it was told last; ``None``: nothing since the connection began
    _told_at: float = _NEVER
    _unended: bool = False  # whether it was told on, and not off since, as far as is known
    _ours: bool = False  # whether what it does may be by what it was told since the start
    _starts: bool = True  # whether what it does may be of before the adapter's start
    _asked_at: float = _NEVER  # when it was told last so that it changes
    _wished_at: float = _NEVER
    _not_before: float = _NEVER
    _tries: int = 0
    _read_by: float = _NEVER  # until when its state is awaited before any command

    def begin(self, now: float) -> None:
        """Await the device's state after a new connection: it may have restarted, or missed a command."""
        self._unended = self._unended or (self._told is False and not self._is_settled())
        self.shows = self._told = None
        self._told_at = min(self._told_at, now)
        self._asked_at = self._not_before = _NEVER
        self._tries, self._wished_at = 0, now
        self._read_by = now + (self.command.settings.confirm_s if self.command.shown_on else 0)
        self.due_at = now

    def want(self, wish: Wish, now: float, *, ever: bool) -> None:
        """Set what the device should do; the newest wish counts."""
        if wish.limit_w != self.wish.limit_w:
            self.shows = self._told = None
        if (wish.on, wish.limit_w) != (self.wish.on, self.wish.limit_w):
            self._tries, self._wished_at, self._not_before, self.due_at = 0, now, _NEVER, now
            self._enter(Stage.ASKED, now)
        self.wish, self.ever = wish, ever
        self.permits = self.permits and not wish.on

    def permit(self, now: float) -> None:
        """Let a switch at a boundary close, or lift its limit, once: a command says so."""
        self.permits, self.due_at = self.command.is_boundary, now

    def show(self, shows: Shows, now: float, *, retained: bool) -> bool:
        """Note what the device shows; return whether its state ended by itself.

        A message that its broker kept counts only if nothing newer is known, and never at a boundary.
        """
        if retained and (self.shows is not None or self._told is not None or self.command.is_boundary):
            return False
        ended = self.stage is Stage.OBEYS and shows.on is not True
        if ended:
            self._tries, self._wished_at = 0, now
            self._enter(Stage.ASKED, now)
        self.shows, self._shown_at, self.due_at = shows, now, now
        return ended

    def in_flight(self, now: float) -> bool:
        """Whether the device was told and has not answered."""
        if not self.command.shown_on or now >= self._asked_at + self.command.settings.confirm_s:
            return False
        return self.shows is None or self._shown_at < self._asked_at or self.shows.on is not self._told

    def act(self, now: float, reach: Reach, level_percent: int | None) -> Publish | None:
        """Return the message to publish now, if there is one; set the stage and when it is due next."""
        settings = self.command.settings
        self.gave_up, self.due_at = False, _NOT_DUE
        can_tell = self._can_tell(reach)
        fresh_s = settings.confirm.fresh_s if settings.confirm is not None else None
        if fresh_s is not None and self.wish.on and now >= self._shown_at + fresh_s:
            self.shows = None  # It may be dead.
        if self.shows is None and self._told is None and now < self._read_by:
            self.due_at = self._read_by
        elif self._is_settled():
            self._settle(now)
            # After a new connection it is told soon: it may count the seconds since the last command.
            repeat_s = 0 if self._told is None else settings.repeat_s
            again_at = self._told_at + max(repeat_s, settings.at_most_each_s)
            if self.wish.on and now >= again_at and can_tell:
                return self._tell(now, level_percent)
            self.due_at = max(now + 1, again_at) if self.wish.on else _NOT_DUE
        elif not self._is_asked:
            self._starts = False
            self._enter(Stage.OFF if self.shows is not None else Stage.UNKNOWN, now)
        elif self.in_flight(now):
            self.due_at = self._asked_at + settings.confirm_s
        elif self._tries >= TRIES:
            self._give_up(now, reach)
        elif (later := max(self._not_before, self._told_at + settings.at_most_each_s)) > now:
            self.due_at = later
        elif not can_tell or not reach.free:
            latest = self._wished_at + TRIES * settings.confirm_s
            if now >= latest:
                self._give_up(now, reach)
            else:
                self.due_at = latest
        else:
            self._tries, self._asked_at = self._tries + 1, now
            self._enter(Stage.ASKED, now)
            message = self._tell(now, level_percent)
            if self._is_settled():
                self._settle(now)
            return message
        return None

    def state(self) -> DeviceState:
        """Return what is known of it."""
        settings = self.command.settings
        return DeviceState(
            stage=Stage.DISOBEYS if self.finding else self.stage,
            since=max(0, int(self.found_at if self.finding else self.since)),
            failsafe=settings.failsafe,
            failsafe_s=settings.ends_within_s,
            finding=self.finding,
        )

    def _can_tell(self, reach: Reach) -> bool:
        return reach.broker and (reach.armed or self.command.settings.failsafe != "will" or not self.wish.on)

    def _is_settled(self) -> bool:
        if not self.command.shown_on or (not self.wish.on and not self.command.shows_off):
            return self._told is self.wish.on and not self.permits
        if self._unended and not self.wish.on and not self.command.is_boundary:
            return False  # What it shows may be old: no state is left without a command that ends it.
        return self.shows is not None and self.shows.on is self.wish.on and self._shown_at >= self._asked_at

    @property
    def _is_asked(self) -> bool:
        """Whether the device is to be told; a boundary is never closed without a permit.

        What a person, or the device itself, switches on is not ours to end: only what we told, or may have told before
        the start.
        """
        if self.wish.on:
            return True
        if self.command.is_boundary:
            return self.permits
        is_off = self.shows is not None and self.shows.on is False
        ours = self.ever or (self.command.kind is Kind.SHARING and self.shows is not None)
        return self._ours or (not is_off and (self.finding is not None or (self._starts and ours)))

    def _settle(self, now: float) -> None:
        self._tries, self._starts, self._ours = 0, False, self.wish.on
        if self._failed is self.wish.on:
            self.finding = None
        on = Stage.OBEYS if self.command.shown_on else Stage.UNCONFIRMED
        self._enter(on if self.wish.on else Stage.OFF, now)

    def _give_up(self, now: float, reach: Reach) -> None:
        self._tries, self._not_before = 0, now + self.command.settings.repeat_s
        self._wished_at = self._not_before
        self.due_at = self._not_before
        if self.shows is not None and self.shows.on is self.wish.on and reach.broker:
            # It shows its state only when that changes, and had this one before it was told.
            self._asked_at = self.due_at = self._shown_at
            return
        # Escapes are longer than the text.
        shown = "shows nothing" if self.shows is None else f"shows {self.shows.words!r:.100}"
        if self.finding is None:
            self.found_at = now
        should = "be on" if self.wish.on else "be off"
        unsent = "its broker has no will that would end it" if reach.broker else "its broker is not connected"
        self.finding = f"should {should}, and {shown if self._can_tell(reach) else unsent}"
        self.gave_up, self._failed, self.permits = True, self.wish.on, False
        self._enter(Stage.DISOBEYS, now)

    def _tell(self, now: float, level_percent: int | None) -> Publish:
        self._told, self._unended, self._told_at, self.permits = self.wish.on, self.wish.on, now, False
        self._ours = True
        settings = self.command.settings
        self.due_at = now + (settings.repeat_s if self._is_settled() else settings.confirm_s)
        return self.command.message(self.wish, now, level_percent)

    def _enter(self, stage: Stage, now: float) -> None:
        if stage is not self.stage:
            self.stage, self.since = stage, now
