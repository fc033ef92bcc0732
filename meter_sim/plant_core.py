"""The control core of the emulated plant: obeys the utility's purchases, counts quarter-hours, and reports (T5, U4).

Pure: message and time in, effects out. A host with the plant's physics uses it so, and performs the effects of each
call in their order (commit every ``Write``, then publish)::

    core = PlantCore(physical, price_permille, *load(connection))        # meter_sim.store
    effects = core.receive(payload, now)                                 # a message on cw1/plant/d/cmd
    order = core.setpoint(slot_start)                                    # for run_plant or step_town
    effects = core.measured(slot_start, step)                            # the slot's PlantStep; commit with the slot
    effects = core.report(supply, now, voltage=...)                      # after each slot; empty when none is due

A purchase is an amount of energy for one quarter-hour. ``measured`` counts what was bought by order, and its write is
committed with the slot's level: so a plant that starts again buys what is left of the purchase, neither more nor less.
A host that steps through unmeasured slots uses ``setpoint`` and ``measured`` for them too. The level of the battery
between slots is ``core.state.level``.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias

from commonwatt.energy.plant import Plant, PlantOrder, PlantStep
from commonwatt.model.control import SupplyState
from commonwatt.model.effects import Effect, Publish, Write
from commonwatt.model.exceptions import ProtocolError
from commonwatt.model.units import QUARTER_S, SLOT_S, SLOTS, EpochSeconds, MilliwattHours, Quarter
from commonwatt.protocol.commands import Result
from commonwatt.protocol.json_messages import unpack_json
from commonwatt.protocol.plant_messages import (
    MAX_QUARTERS,
    PlantAction,
    PlantCommand,
    PlantOutcome,
    PlantQuarter,
    PlantReport,
)
from commonwatt.protocol.topics import OUTCOMES, PLANT, STATUS, gateway_up

REPORT_S = 60  # seconds between two reports
REPORTED_QUARTERS = 4  # finished quarters in each report
KEPT_QUARTERS = 40 * 96  # finished quarters that are kept: more than a forecast uses
PRICES_S = 2 * 86_400  # for how long the regional grid announces its prices, seconds


@dataclass(frozen=True, kw_only=True)
class HeldPurchase:
    """A purchase that the plant has accepted."""

    id: str  # the command's id
    quarter: Quarter  # its quarter-hour
    energy: MilliwattHours  # energy to buy in it, milliwatt-hours


@dataclass(frozen=True, kw_only=True)
class PlantState:
    """The durable state of the plant; energies in milliwatt-hours."""

    level: MilliwattHours  # level of the battery after the last slot
    slot_end: EpochSeconds = 0  # end of the last slot that was counted
    keep: MilliwattHours = 0  # level that is kept for the public microgrid
    # The newest purchases, by quarter, at most two: the present one and the next one.
    purchases: tuple[HeldPurchase, ...] = ()
    slots: int = 0  # slots counted in the quarter of ``slot_end``, so far
    ordered: MilliwattHours = 0  # energy bought by order in them
    needed: MilliwattHours = 0  # energy bought because the town had no other
    sold: MilliwattHours = 0  # energy that the regional grid took
    net: MilliwattHours = 0  # what the town took less what it gave


PlantChange: TypeAlias = PlantState | PlantQuarter  # what the plant makes durable: its state, and each finished quarter

Effects = list[Effect[PlantChange]]


class PlantCore:
    """The decisions of the plant.

    Args:
        physical: The plant's limits, for steps of a slot.
        price_permille: The regional price at a time, thousandths of the price outside peak hours.
        state: The stored state; of a new plant, its initial level.
        quarters: The stored quarters, oldest first.
    """

    def __init__(
        self,
        physical: Plant,
        price_permille: Callable[[EpochSeconds], int],
        state: PlantState,
        quarters: Iterable[PlantQuarter] = (),
    ) -> None:
        self.state = state  # the present state, equal to the stored one once the effects are done
        self.malformed = 0  # messages that could not be read
        self._physical = physical
        self._price_permille = price_permille
        self._quarters = deque(quarters, maxlen=KEPT_QUARTERS)
        self._last = PlantStep(level=state.level)
        self._reported: tuple[EpochSeconds, SupplyState, bool] | None = None

    def receive(self, payload: bytes, now: EpochSeconds) -> Effects:
        """Carry out a command once, and answer it and each repetition; an unreadable message is counted."""
        try:
            command = unpack_json(PlantCommand, payload)
        except ProtocolError:
            self.malformed += 1
            return []
        result, reason = self._judge(command, now)
        effects: Effects = []
        if result == "done":
            effects.append(self._hold(command, now))
        newest = self.state.purchases[-1:]
        outcome = PlantOutcome(
            id=command.id,
            cmd=command.cmd,
            result=result,
            reason=reason,
            time=now,
            held=newest[0].id if newest else None,
            quarters=tuple(self._from(command.first_quarter)),
        )
        return [*effects, Publish(gateway_up(PLANT, OUTCOMES), outcome.pack())]

    def setpoint(self, slot_start: EpochSeconds) -> PlantOrder:
        """Return the order to the plant for a slot: an even part of what is left to buy, and the level it keeps.

        For a slot that was counted already, since the clock was set back, nothing is bought by order.
        """
        quarter, slot = slot_start // QUARTER_S, slot_start % QUARTER_S // SLOT_S
        if slot_start < self.state.slot_end:
            return PlantOrder(keep=self.state.keep)
        energy = next((one.energy for one in self.state.purchases if one.quarter == quarter), 0)
        counted = self.state.ordered if self._counts(quarter) else 0
        return PlantOrder(buy=max(0, energy - counted) // (SLOTS - slot), keep=self.state.keep)

    def measured(self, slot_start: EpochSeconds, step: PlantStep) -> Effects:
        """Count a slot; a slot before the last counted one changes the level alone."""
        quarter, slot_end = slot_start // QUARTER_S, slot_start + SLOT_S
        self._last = step
        effects: Effects = []
        state = replace(self.state, level=step.level)
        if slot_end > state.slot_end:
            if state.slot_end and not self._counts(quarter):
                state = replace(state, slots=0, ordered=0, needed=0, sold=0, net=0)
            net = step.bought + step.discharged - step.charged - step.sold
            state = replace(
                state,
                slot_end=slot_end,
                slots=state.slots + 1,
                ordered=state.ordered + step.ordered,
                needed=state.needed + step.needed,
                sold=state.sold + step.sold,
                net=state.net + net,
            )
            if slot_end % QUARTER_S == 0:
                counts = state.slots, state.ordered, state.needed, state.sold, state.net
                row = PlantQuarter(quarter, *counts, state.level)
                self._quarters.append(row)
                effects.append(Write(row))
        self.state = state
        return [Write(state), *effects]

    def report(self, supply: SupplyState, now: EpochSeconds, *, voltage: bool = True) -> Effects:
        """Return the report if one is due: after a minute, or at a change of the supply or of the line's voltage."""
        if self._reported is not None:
            last, *told = self._reported
            # A negative difference means that the clock was set back.
            if told == [supply, voltage] and 0 <= now - last < REPORT_S:
                return []
        self._reported = now, supply, voltage
        physical, step = self._physical, self._last
        report = PlantReport(
            time=now,
            level_mwh=self.state.level,
            capacity_mwh=physical.capacity,
            battery_limit_w=mean_watts(physical.power),
            loss_permille=physical.loss_permille,
            battery_w=mean_watts(step.charged - step.discharged),
            bought_w=mean_watts(step.bought - step.sold),
            line_w=mean_watts(physical.line[supply]) if voltage else 0,
            supply=supply,
            voltage=voltage,
            prices=tuple(self._prices(now)),
            prices_until=(now // QUARTER_S + 1) * QUARTER_S + PRICES_S,
            keep_mwh=self.state.keep,
            quarters=tuple(self._quarters)[-REPORTED_QUARTERS:],
        )
        return [Publish(gateway_up(PLANT, STATUS), report.pack(), 0)]

    def _judge(self, command: PlantCommand, now: EpochSeconds) -> tuple[Result, str | None]:
        """Return the result of a command, and the reason if it is not done."""
        if command.cmd != PlantAction.PURCHASE or command.quarter is None:
            return "unsupported", f"this version has no command {command.cmd}"
        newest = self.state.purchases[-1] if self.state.purchases else None
        if any(one.id == command.id for one in self.state.purchases):
            return "repeated", None
        if command.until <= now or command.quarter < now // QUARTER_S:
            return "expired", "the quarter-hour, or the command's time, is over"
        if newest is not None and command.quarter <= newest.quarter:
            return "superseded", f"{newest.id} is the purchase for quarter {newest.quarter}"
        if command.quarter > now // QUARTER_S + 1:
            return "refused", "a purchase is for the present quarter-hour or the next one"
        return "done", None

    def _hold(self, command: PlantCommand, now: EpochSeconds) -> Write[PlantChange]:
        assert command.quarter is not None
        assert command.energy_mwh is not None
        new = HeldPurchase(id=command.id, quarter=command.quarter, energy=command.energy_mwh)
        present = [one for one in self.state.purchases if one.quarter >= now // QUARTER_S]
        keep = self.state.keep if command.keep_mwh is None else command.keep_mwh
        self.state = replace(self.state, purchases=(*present, new)[-2:], keep=keep)
        return Write(self.state)

    def _counts(self, quarter: Quarter) -> bool:
        """Return whether the present counts are of a quarter; at its end they are of the one before."""
        return bool(self.state.slot_end % QUARTER_S) and self.state.slot_end // QUARTER_S == quarter

    def _from(self, first: Quarter | None) -> Iterator[PlantQuarter]:
        if first is None:
            return
        wanted = (row for row in self._quarters if row.quarter >= first)
        yield from (row for row, _ in zip(wanted, range(MAX_QUARTERS), strict=False))

    def _prices(self, now: EpochSeconds) -> Iterator[tuple[EpochSeconds, int]]:
        """Yield the present price and each change of it, with its time."""
        begin, before = now // QUARTER_S * QUARTER_S, -1
        for time in range(begin, begin + QUARTER_S + PRICES_S, QUARTER_S):
            price = self._price_permille(time)
            if price != before:
                yield time, price
                before = price


def mean_watts(energy: MilliwattHours) -> int:
    """Return the mean power of a slot's energy."""
    return energy * 3600 // (1000 * SLOT_S)
