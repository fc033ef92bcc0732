"""An adapter's ``/status``: its connections, and the last value of each meter."""

from datetime import UTC, datetime
from ipaddress import ip_address

from adapters.service import Service
from commonwatt.config.adapter import AdapterSettings
from commonwatt.model.records import state_names
from commonwatt.network.addresses import split_address
from commonwatt.network.http_pages import Request, Response
from commonwatt.town.town import WITHOUT

NOT_SERVED = "/status shows whether people are at home: ask on its own machine: commonwatt status --config FILE\n"


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
            "state": state_names(core.state.bits),
            "not_acknowledged": core.state.made - core.state.acknowledged,
            "device": None if (device := core.deferred.device) is None else device.model_dump(exclude_none=True),
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
        "sources": [
            {
                "name": one.name,
                "address": one.address,
                "connected": (source := service.sources[one.name]).connected,
                "complaint": source.complaint,
                "limits": dict(source.limits),
            }
            for one in settings.source
        ],
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


def refuse_others(settings: AdapterSettings, request: Request) -> Response | None:
    """Refuse ``/status`` beyond this machine, since it has the meters' values; ``None``: the request is allowed."""
    if request.method != "GET":
        return Response(status=405, body="nothing can be sent here\n")
    own = split_address(settings.http or "")[0]
    if request.path != "/status" or request.address == own or ip_address(request.address.partition("%")[0]).is_loopback:
        return None
    return Response(status=403, body=NOT_SERVED)


def _time(ms: int) -> str | None:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="seconds") if ms else None
