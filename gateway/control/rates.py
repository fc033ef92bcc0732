"""The rates that the utility has sent: kept over restarts, and shown on the page (U3)."""

import json
from dataclasses import dataclass
from typing import Any

from commonwatt.model.effects import Effect, Write
from commonwatt.model.units import EpochSeconds
from commonwatt.protocol.controller_commands import ControllerCommand
from gateway.changes import Change, Setting
from gateway.stored import KeptSettings

_SETTING = "rates"


@dataclass(frozen=True, kw_only=True)
class Stretch:
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

    def stretches(self, now: EpochSeconds) -> dict[str, list[Stretch]]:
        """Return the present stretch of each tariff and those after it, by name; not of rates that have ended."""
        found = {}
        for name, tariff in sorted(self._tariffs.items()):
            ends = [start for start, _ in tariff["changes"][1:]] + [tariff["rates_until"]]
            coming = [
                Stretch(start=start, end=end, period=period, import_=import_, credit=credit)
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
