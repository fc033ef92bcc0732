"""The effects of a change on the lines of its microgrids, from what the database has of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from sqlalchemy import Connection, func, select

from commonwatt.model.control.relaying import Relayed
from commonwatt.model.time.local_calendar import month_of, month_quarters
from commonwatt.model.units import QUARTER_S, EpochSeconds, MicrogridId
from commonwatt.protocol.controller_commands import Action
from commonwatt.town.town import Function
from utility.control.fields import Fields
from utility.control.preview import Effect, effect_on, in_words
from utility.database.town_zone import zone_of
from utility.readings.store.heartbeats import last_heartbeats
from utility.readings.store.relayed import relayed_by
from utility.registry.tables import meter


@dataclass(frozen=True, kw_only=True)
class Preview:
    """What a change would do."""

    microgrids: Sequence[MicrogridId]  # its microgrids
    words: Sequence[str]  # what it does, a sentence each
    # Its effect on each line, those with the fullest line first; empty: it changes nothing there.
    effects: Sequence[Effect]
    refused: str  # why it would be refused; empty: it would be made

    @property
    def mean(self) -> tuple[float, float] | None:
        """Mean bytes a month of the lines before and after, in the fuller direction; ``None``: of none it is known."""
        known = [(max(each.before), max(each.after)) for each in self.effects if each.before and each.after]
        return (fmean(old for old, _ in known), fmean(new for _, new in known)) if known else None


def has_figures(fields: Fields) -> bool:
    """Return whether a command changes the period of the relay."""
    return fields["cmd"] == Action.SCHEDULE and "relay_s" in (fields.get("periods") or {})


def preview_of(connection: Connection, fields: Fields, microgrids: Sequence[MicrogridId], now: EpochSeconds) -> Preview:
    """Return what a command does to microgrids."""
    effects = _effects(connection, fields, microgrids, now) if has_figures(fields) else []
    effects.sort(key=lambda effect: (not effect.breaks, -max(effect.after or (-1,))))
    return Preview(microgrids=microgrids, words=in_words(fields), effects=effects, refused=_refusal(effects))


def _effects(
    connection: Connection, fields: Fields, microgrids: Sequence[MicrogridId], now: EpochSeconds
) -> list[Effect]:
    heartbeats, relayed = last_heartbeats(connection, microgrids), relayed_by(connection, microgrids)
    zone, putting = zone_of(connection), _putting(connection)
    month_end = month_quarters(month_of(now // QUARTER_S, zone), zone)[1] * QUARTER_S
    found = []
    for microgrid in microgrids:
        _, said = heartbeats.get(microgrid, (0, None))
        file_relay_s = None if said is None or "relay_s" in said.tuned else said.periods.get("relay_s")
        left_s = 0 if said is None else max(0, month_end - said.time)
        counted = Relayed(**relayed[microgrid], meters=putting.get(microgrid, 0)) if microgrid in relayed else None
        found.append(effect_on(microgrid, fields, said, counted, left_s, file_relay_s))
    return found


def _putting(connection: Connection) -> dict[MicrogridId, int]:
    """Return how many meters of each microgrid put by themselves over the line."""
    puts = meter.c.push & (meter.c.function != Function.BOUNDARY)
    counted = select(meter.c.microgrid, func.count()).where(puts).group_by(meter.c.microgrid)
    return {row.microgrid: row[1] for row in connection.execute(counted)}


def _refusal(effects: Sequence[Effect]) -> str:
    breaking = [effect for effect in effects if effect.breaks]
    if not breaking:
        return ""
    worst = breaking[0]
    assert worst.after is not None
    assert worst.allowance is not None
    most = max(*worst.after, worst.expected or 0)
    others = f", and {len(breaking) - 1} other lines would break theirs" if len(breaking) > 1 else ""
    return (
        f"{worst.microgrid}: its LTE line would carry {most / 1e9:.3f} GB a month, and its plan allows "
        f"{worst.allowance / 1e9:.3f} GB{others}. Nothing was changed: choose a longer period, or other microgrids"
    )
