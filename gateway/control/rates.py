"""The rates that the utility has sent: kept over restarts, and shown on the page (U3)."""

import json
from bisect import bisect_right
from typing import Any

from commonwatt.model.effects import Effect, Write
from commonwatt.model.units import EpochSeconds
from commonwatt.protocol.controller_commands import ControllerCommand
from gateway.changes import Change, Setting
from gateway.stored import KeptSettings

_SETTING = "rates"


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

    def view(self, now: EpochSeconds) -> list[dict[str, object]]:
        """Return the price in force of each tariff, until when, and the next one; not of rates that have ended."""
        found: list[dict[str, object]] = []
        for name, tariff in sorted(self._tariffs.items()):
            starts = [start for start, _ in tariff["changes"]]
            place = bisect_right(starts, now) - 1
            if place < 0 or now >= tariff["rates_until"]:
                continue
            period, import_, credit = tariff["prices"][tariff["changes"][place][1]]
            until = [*starts[1:], tariff["rates_until"]][place]
            prices = {"period": period, "import": import_, "credit": credit, "until": until}
            found.append({"tariff": name, "version": tariff["version"]} | prices)
        return found


def _age(tariff: dict[str, Any]) -> tuple[int, int]:
    """Return what is higher for newer rates: their first time, then the version."""
    return tariff["changes"][0][0], tariff["version"]
