"""Which meters and which time an export is of."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.ids import MeterId, parse_id
from commonwatt.model.units import QUARTER_S, EpochSeconds, MicrogridId, Quarter
from commonwatt.model.words import moment
from utility.exports.resolutions import Resolution, is_boundary


@dataclass(frozen=True, kw_only=True)
class ExportedMeter:
    """A registered meter, as exports need it."""

    number: int  # its number in the database
    id: MeterId  # its id
    microgrid: MicrogridId  # its microgrid
    series: int  # how many record types it has


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What a person selected: each kind that is given narrows the selection."""

    meters: Sequence[str] = ()  # ids of meters as text; empty: any
    microgrids: Sequence[str] = ()  # names; empty: any
    accounts: Sequence[int] = ()  # numbers; empty: any

    def of(
        self, registered: Sequence[ExportedMeter], held: Collection[MeterId], names: Sequence[str]
    ) -> list[ExportedMeter]:
        """Return the registered meters that are selected, by id.

        Args:
            registered: All registered meters, by id.
            held: The meters that the selected accounts had.
            names: The names of the options for meters and microgrids, for errors.

        Raises:
            ConfigError: One of the selected is not registered.
        """
        ids = [parse_id(text) for text in self.meters]
        check_registered(names[0], zip(ids, self.meters, strict=True), {one.id for one in registered})
        check_registered(
            names[1], zip(self.microgrids, self.microgrids, strict=True), {one.microgrid for one in registered}
        )
        return [
            one
            for one in registered
            if (not ids or one.id in ids)
            and (not self.microgrids or one.microgrid in self.microgrids)
            and (not self.accounts or one.id in held)
        ]


def check_registered(name: str, asked: Iterable[tuple[object, object]], there: Collection[object]) -> None:
    """Check that what is asked for, pairs of a key and its text, is among what is there."""
    for key, text in asked:
        if key not in there:
            raise ConfigError(f"{name}: {text!r:.40} is not registered")


def quarters(
    start: EpochSeconds, end: EpochSeconds, resolution: Resolution, names: tuple[str, str], zone: ZoneInfo
) -> tuple[Quarter, Quarter]:
    """Return the quarters of ``[start, end)``.

    Args:
        start: The first second.
        end: The second after the last.
        resolution: An interval of it must begin at both.
        names: The names of the options, for errors.
        zone: The time zone of local days.

    Raises:
        ConfigError: The end is not after the start, or one of them is within an interval.
    """
    if end <= start:
        raise ConfigError(f"{names[1]}: {moment(end)} is not after {names[0]}, {moment(start)}")
    for name, time in zip(names, (start, end), strict=True):
        if not is_boundary(resolution, time, zone):
            what = {"1d": "a local day", "1h": "an hour"}.get(resolution, "a quarter-hour")
            raise ConfigError(f"{name}: {moment(time)} is within {what}; give the begin of one")
    return start // QUARTER_S, end // QUARTER_S
