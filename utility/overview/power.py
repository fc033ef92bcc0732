"""The town's power now, from the last heartbeats of its gateways; pure."""

from collections.abc import Iterable
from dataclasses import dataclass

from commonwatt.look.flows import parts_of
from commonwatt.look.palette import PowerFlow
from commonwatt.model.control.relaying import PUT_S
from commonwatt.model.units import EpochSeconds, MilliwattHours
from utility.overview.microgrids import Facts

# Age of a minute's end until which it is shown as now: two heartbeats, and until all is read another minute, or as long
# as the meters' puts are longer than one.
GOOD_FOR_S = 240


@dataclass(frozen=True, kw_only=True)
class TownPower:
    """The power of the microgrids whose gateways said it a moment ago."""

    said: int  # how many microgrids said it
    lacking: int  # how many did not: silent, of an earlier version, or without readings
    end: EpochSeconds | None  # when the oldest of the minutes ended; ``None``: no microgrid said it
    sun_w: int  # generated, watts
    use_w: int  # used by the homes, losses included
    import_w: int  # taken from the town, by each microgrid
    export_w: int  # given to the town
    between_w: int  # given by homes to others of their microgrid
    stored: MilliwattHours  # sum of the batteries' levels

    @property
    def parts(self) -> list[tuple[PowerFlow, float, bool]]:
        """The flows of the picture; what microgrids gave while others took went to neighbours, too."""
        return parts_of(
            sun_w=self.sun_w,
            use_w=self.use_w,
            import_w=self.import_w,
            export_w=self.export_w,
            between_w=self.between_w + min(self.import_w, self.export_w),
        )


def town_power(facts: Iterable[Facts], now: EpochSeconds) -> TownPower:
    """Return the sum over the microgrids that are not closed."""
    beats = [each.heartbeat for each in facts if not each.is_closed]
    fresh = [
        beat
        for beat in beats
        if beat and beat.power and now - beat.power.end <= GOOD_FOR_S + beat.periods.get("put_s", PUT_S) - PUT_S
    ]
    powers = [beat.power for beat in fresh if beat.power]
    return TownPower(
        said=len(powers),
        lacking=len(beats) - len(powers),
        end=min((power.end for power in powers), default=None),
        sun_w=sum(power.sun_w for power in powers),
        use_w=sum(power.use_w for power in powers),
        import_w=sum(power.import_w for power in powers),
        export_w=sum(power.export_w for power in powers),
        between_w=sum(power.between_w for power in powers),
        stored=sum(beat.stored[0] for beat in fresh if beat.stored),
    )
