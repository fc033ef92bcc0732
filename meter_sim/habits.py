"""How kinds of places use energy: a steady part over the day, appliances, heating and cooling (T1-T3)."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Appliance:
    """An appliance that switches on and off."""

    share: float  # its part of the place's average use
    power: float  # what it draws when on, as a multiple of the place's average use
    minutes: tuple[int, int]  # shortest and longest run
    # Local hours between which a run starts; one pair is drawn for each run.
    hours: tuple[tuple[float, float], ...] = ((0.0, 24.0),)

    @property
    def runs(self) -> float:
        """Runs a day with which it has its share on average."""
        return self.share * 24 / (self.power * sum(self.minutes) / 2 / 60)


@dataclass(frozen=True, kw_only=True)
class Habits:
    """How a kind of place uses its energy; the steady part is the rest besides temperature and appliances."""

    temperature: tuple[float, float]  # least and greatest share of heating and cooling
    # Peaks of the steady part over a floor of 1: height, local hour and width in hours.
    bumps: tuple[tuple[float, float, float], ...]
    appliances: tuple[Appliance, ...]  # the appliances


HOME = Habits(
    temperature=(0.10, 0.25),
    bumps=((1.2, 7.3, 1.3), (2.0, 19.5, 2.4)),
    appliances=(
        Appliance(share=0.04, power=0.125, minutes=(12, 20)),  # refrigerator
        Appliance(share=0.14, power=3.5, minutes=(6, 18), hours=((6, 9), (18, 23))),  # hot water
        Appliance(share=0.09, power=2.0, minutes=(15, 50), hours=((6.5, 8), (11.5, 13), (17, 19.5))),  # cooking
        Appliance(share=0.02, power=1.6, minutes=(3, 5), hours=((6, 9), (12, 17), (19, 22))),  # kettle
        Appliance(share=0.04, power=1.2, minutes=(60, 100), hours=((19, 22),)),  # dishwasher
        Appliance(share=0.06, power=2.0, minutes=(35, 80), hours=((8, 11), (17, 21))),  # laundry
    ),
)

SERVICE = Habits(
    temperature=(0.10, 0.20),
    bumps=((0.6, 12.5, 4.5),),
    appliances=(
        Appliance(share=0.06, power=0.10, minutes=(20, 60), hours=((7, 19),)),  # kitchens, laundry
        Appliance(share=0.08, power=0.15, minutes=(10, 40)),  # machines, doors, compressors
    ),
)
