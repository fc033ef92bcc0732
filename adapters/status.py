"""An adapter's ``/status``: its connections, and the last value of each meter."""

from datetime import UTC, datetime

from adapters.core import state_words
from adapters.service import Service
from commonwatt.config.adapter import AdapterSettings
from commonwatt.town.town import WITHOUT


def status_of(service: Service, settings: AdapterSettings) -> dict[str, object]:
    """Return the present status as JSON values; safe in any thread."""
    now = service.figures()
    channels = dict(service.core.channels)
    meters: dict[str, object] = {}
    for meter in settings.meter:
        core = service.core.meters[meter.id]
        meters[str(meter.id)] = {
            "source": meter.source,
            "preset": meter.preset,
            "state": state_words(core.state.bits),
            "not_acknowledged": core.state.made - core.state.acknowledged,
            "commandable": sorted(kind.value for kind in core.description.commandable),
            "without": list(WITHOUT),
            "values": {
                kind.name.lower(): {
                    "at": _time(channel.at),
                    "counted_mwh": channel.counter.total,
                    "register_mwh": channel.counter.raw if channel.counter.at else None,
                    "held_back": len(channel.counter.held),
                    "other_unit": channel.counter.other_unit,
                }
                for (owner, kind), channel in sorted(channels.items())
                if owner == meter.id
            },
        }
    return {
        "microgrid": settings.microgrid,
        "source": {
            "address": settings.source.address,
            "connected": now.source_connected,
            "complaint": now.source_complaint,
            "limits": dict(service.source.limits),
        },
        "connected": now.connected,
        "held": now.made - now.acknowledged,
        "counts": {f"{kind} {what}": count for (kind, what), count in sorted(service.tally.copy().items())},
        "unreadable": [
            {
                "at": _time(one.at),
                "topic": one.topic,
                "payload": one.payload.decode(errors="backslashreplace"),
                "fault": one.fault,
            }
            for one in list(service.core.wrong)
        ],
        "meters": meters,
    }


def _time(ms: int) -> str | None:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="seconds") if ms else None
