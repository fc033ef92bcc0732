"""What the utility has set for a microgrid, each state with its end, and its rates; kept over restarts."""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

from pydantic import TypeAdapter

from commonwatt.model.control import SupplyState
from commonwatt.model.effects import Effect, Write
from commonwatt.model.units import EpochSeconds, MeterId
from commonwatt.protocol.commands import Weight
from commonwatt.protocol.controller_commands import Action, ControllerCommand, Strategy
from gateway.store.changes import Change, KeptSettings, Setting

STATES = "microgrid_states"  # setting that keeps the states
# Setting that keeps the states that release 0.2 does not have: it can't read one more key in ``STATES``.
NEWER_STATES = "microgrid_states_0_3"
ENDS = ("reduce_until", "isolate_until", "supply_until", "notice_until", "hold_until")  # the ends of states
# Most strategies, and most weights, that wait for their date; one more, and the first of them is forgotten.
MAX_TO_COME = 8


@dataclass(frozen=True, kw_only=True)
class Sharing:
    """How batteries share from a time on."""

    strategy: Strategy | None  # the strategy; ``None``: what the settings file says
    from_time: EpochSeconds  # from when, epoch seconds


@dataclass(frozen=True, kw_only=True)
class Weighting:
    """The weights of donors from a time on."""

    # Share of a donor's discharge relative to others, by meter, 1 if absent; ``None``: 1 for each.
    weights: Mapping[MeterId, Weight] | None
    from_time: EpochSeconds  # from when, epoch seconds


_Dated = TypeVar("_Dated", bound=Sharing | Weighting)


@dataclass(frozen=True, kw_only=True)
class MicrogridStates:
    """What the utility has set; every state but sharing has an end."""

    reduce_until: EpochSeconds = 0  # until when all meters reduce their load
    isolate_until: EpochSeconds = 0  # until when the microgrid is isolated by command
    hold_until: EpochSeconds = 0  # until when batteries hold their energy for an announced storm
    # The state of the regional supply until ``supply_until``; NORMAL afterwards.
    supply: SupplyState = SupplyState.NORMAL
    import_limit_w: int | None = None  # most watts from the town until ``supply_until``; ``None``: no limit
    supply_until: EpochSeconds = 0  # their end
    # The notice about the feeder until ``notice_until``: its power is lost, or back; ``None``: no notice.
    power_lost: bool | None = None
    notice_until: EpochSeconds = 0  # its end
    # The strategies in their order: the one in force, and those to come, at most ``MAX_TO_COME``.
    sharing: tuple[Sharing, ...] = ()
    weighting: tuple[Weighting, ...] = ()  # the weights, in the same way

    def set(self, command: ControllerCommand, now: EpochSeconds) -> "MicrogridStates":
        """Return the states after a command of the utility; other commands than those of states change nothing."""
        end = now + (command.for_s or 0)
        match command.cmd:
            case Action.REDUCE:
                return replace(self, reduce_until=end if command.state == "on" else 0)
            case Action.ISOLATE:
                return replace(self, isolate_until=end if command.state == "on" else 0)
            case Action.HOLD:
                return replace(self, hold_until=end if command.state == "on" else 0)
            case Action.SUPPLY:
                supply = command.supply or SupplyState.NORMAL
                return replace(self, supply=supply, import_limit_w=command.import_limit_w, supply_until=end)
            case Action.NOTICE:
                return replace(self, power_lost=command.power == "lost", notice_until=end)
            case Action.SHARING:
                return self._share(command, now)
        return self

    def _share(self, command: ControllerCommand, now: EpochSeconds) -> "MicrogridStates":
        """Return the states with another strategy, other weights, or both, from a time on."""
        # At once is from the beginning: the time of a clock that is ahead would be a later date once the clock is set.
        begin = command.from_time or 0
        changed = self
        if command.strategy is not None:
            strategy = None if command.strategy == "file" else command.strategy
            changed = replace(changed, sharing=_then(self.sharing, Sharing(strategy=strategy, from_time=begin), now))
        if command.weights is not None:
            new = Weighting(weights=command.weights or None, from_time=begin)
            changed = replace(changed, weighting=_then(self.weighting, new, now))
        return changed

    def supply_at(self, now: EpochSeconds) -> SupplyState:
        """Return the state of the regional supply, as far as it is known."""
        return self.supply if now < self.supply_until else SupplyState.NORMAL

    def import_limit_w_at(self, now: EpochSeconds) -> int | None:
        """Return the most watts from the town; ``None``: no limit."""
        return self.import_limit_w if now < self.supply_until else None

    def less_until(self, now: EpochSeconds) -> EpochSeconds | None:
        """Return until when the utility asks for less load, for a shortage or without one; ``None``: it does not."""
        is_short = self.supply_at(now) is not SupplyState.NORMAL or self.import_limit_w_at(now) is not None
        end = max(self.reduce_until, self.supply_until if is_short else 0)
        return end if now < end else None

    def limit_words(self, now: EpochSeconds) -> str | None:
        """Return the import limit and its end in words; ``None``: no limit."""
        limit = self.import_limit_w_at(now)
        if limit is None:
            return None
        left_min = -(-(self.supply_until - now) // 60)
        return f"takes {f'at most {limit} W' if limit else 'nothing'} from the town, for {left_min} min more"

    def hold_words(self, now: EpochSeconds) -> str | None:
        """Return in words that batteries hold their energy for a storm, and until when; ``None``: they do not."""
        if now >= self.hold_until:
            return None
        left_min = -(-(self.hold_until - now) // 60)
        return f"a storm is announced: batteries help one that is nearly empty alone, for {left_min} min more"

    def notice_at(self, now: EpochSeconds) -> bool | None:
        """Return whether the utility says that power is lost (or back); ``None``: no notice is in force."""
        return self.power_lost if now < self.notice_until else None

    def sharing_at(self, now: EpochSeconds) -> Sharing | None:
        """Return the strategy in force; ``None``: the utility set none."""
        return next((s for s in reversed(self.sharing) if s.from_time <= now), None)

    def weights_at(self, now: EpochSeconds) -> Mapping[MeterId, int]:
        """Return the weights in force by meter; 1 if absent."""
        return next((w.weights or {} for w in reversed(self.weighting) if w.from_time <= now), {})

    def ends(self) -> frozenset[tuple[str, EpochSeconds]]:
        """Return the name and the time of each end."""
        return frozenset((name, getattr(self, name)) for name in ENDS)

    def shift(self, by_s: int, ends: Collection[str]) -> "MicrogridStates":
        """Return the states after the time was set by ``by_s``: ``ends`` are durations, all others are dates."""
        moved = {name: max(0, end + by_s) for name in ends if (end := getattr(self, name))}
        return replace(self, **moved)

    def kept(self) -> list[Effect[Change]]:
        """Return the changes of the settings that keep the states."""
        fields = asdict(self)
        newer = {name: fields.pop(name) for name in ("hold_until", "weighting")}
        fields["sharing"] = [{**one, "weights": None} for one in fields["sharing"]]
        return [Write(Setting(STATES, json.dumps(fields))), Write(Setting(NEWER_STATES, json.dumps(newer)))]


STATES_JSON = TypeAdapter(MicrogridStates)  # reads states from JSON values, and makes JSON values of them


def kept_states(setting: Callable[[str], str | None]) -> MicrogridStates:
    """Return the states that ``MicrogridStates.kept`` wrote, by the stored text of each setting."""
    if (text := setting(STATES)) is None:
        return MicrogridStates()
    fields, newer = json.loads(text), json.loads(setting(NEWER_STATES) or "{}")
    return STATES_JSON.validate_python(fields | newer)


def _then(present: Sequence[_Dated], new: _Dated, now: EpochSeconds) -> tuple[_Dated, ...]:
    """Return what holds after a change: the one in force before it, and those to come."""
    # Those that ended are forgotten, and those that were to begin at the time of the new one or later.
    earlier = [one for one in present if one.from_time < new.from_time]
    begun = sum(one.from_time <= now for one in earlier)
    return (*earlier[:begun][-1:], *(*earlier[begun:], new)[-MAX_TO_COME:])


_SETTING = "rates"


@dataclass(frozen=True, kw_only=True)
class PriceStretch:
    """A time in which the prices of a tariff stay."""

    start: EpochSeconds  # its start, epoch seconds
    end: EpochSeconds  # its end, epoch seconds
    period: str  # the period of time of use
    import_: str  # price of import, dollars per kWh
    credit: str  # price of credit, dollars per kWh


class KeptRates:
    """Keeps the newest rates of each tariff; their times are UTC, so no calendar is needed here."""

    def __init__(self, store: KeptSettings) -> None:
        self._tariffs: dict[str, dict[str, Any]] = json.loads(store.setting(_SETTING) or "{}")

    def set(self, command: ControllerCommand) -> list[Effect[Change]]:
        """Keep the rates of a command, unless newer ones of that tariff are known."""
        assert command.tariff is not None
        new = command.model_dump(mode="json", include={"version", "prices", "changes", "rates_until"})
        known = self._tariffs.get(command.tariff)
        if known is not None and _age(known) > _age(new):
            return []
        self._tariffs = {**self._tariffs, command.tariff: new}
        return [Write(Setting(_SETTING, json.dumps(self._tariffs)))]

    def stretches(self, now: EpochSeconds) -> dict[str, list[PriceStretch]]:
        """Return the present stretch of each tariff and those after it, by name; not of rates that have ended."""
        found = {}
        for name, tariff in sorted(self._tariffs.items()):
            ends = [start for start, _ in tariff["changes"][1:]] + [tariff["rates_until"]]
            coming = [
                PriceStretch(start=start, end=end, period=period, import_=import_, credit=credit)
                for (start, place), next_ in zip(tariff["changes"], ends, strict=True)
                for period, import_, credit in [tariff["prices"][place]]
                if max(now, start) < (end := min(next_, tariff["rates_until"]))
            ]
            if coming and coming[0].start <= now:
                found[name] = coming
        return found

    def view(self, now: EpochSeconds) -> list[dict[str, object]]:
        """Return the price in force of each tariff, and until when; not of rates that have ended."""
        found: list[dict[str, object]] = []
        for name, (present, *_) in self.stretches(now).items():
            prices = {"period": present.period, "import": present.import_, "credit": present.credit}
            found.append({"tariff": name, "version": self._tariffs[name]["version"], "until": present.end} | prices)
        return found


def _age(tariff: dict[str, Any]) -> tuple[int, int]:
    """Return what is higher for newer rates: their first time, then the version."""
    return tariff["changes"][0][0], tariff["version"]
