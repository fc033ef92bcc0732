"""Home Assistant's own code on our messages and automations; its Python runs this, not ours.

Reads a JSON list of questions: ``discovery`` (the payload), ``messages`` (payloads by topic), ``states`` (further
states by entity), ``automations`` (as YAML), ``time`` (epoch seconds). Writes a list of answers: ``states`` and
``attributes`` by entity, ``calls`` of services by each automation, ``warnings``; or ``error``.
"""

import asyncio
import json
import logging
import sys
import tempfile
import types
from datetime import UTC, datetime
from typing import Any

# Only the cloud's remote access, which is not installed, would use it.
sys.modules["hass_nabucasa"] = types.ModuleType("hass_nabucasa")
sys.modules["hass_nabucasa"].__dict__["remote"] = None

import voluptuous as vol  # noqa: E402
import yaml  # noqa: E402
from homeassistant.components.automation.config import PLATFORM_SCHEMA  # noqa: E402
from homeassistant.components.mqtt import binary_sensor, discovery, sensor  # noqa: E402
from homeassistant.components.mqtt.models import MqttValueTemplate, ReceiveMessage  # noqa: E402
from homeassistant.core import Context, HomeAssistant  # noqa: E402
from homeassistant.helpers.script import Script  # noqa: E402
from homeassistant.util import dt, slugify  # noqa: E402

PLATFORMS = {"sensor": sensor.MqttSensor, "binary_sensor": binary_sensor.MqttBinarySensor}


def entities(hass: HomeAssistant, payload: str) -> dict[str, Any]:
    """Return the entities that a discovery message makes, by entity id; raises what is wrong with it."""
    device = discovery._parse_device_payload(hass, payload, "place", None)
    if not device:
        raise ValueError("it is refused")
    found = {}
    for config in device["components"].values():
        platform = config.pop("platform")
        merged = discovery.MQTTDiscoveryPayload(config)
        discovery._merge_common_device_options(merged, device)
        kind = PLATFORMS[platform]
        checked = kind.config_schema()({**merged, "device": device["device"], "origin": device["origin"]})
        # A key that the platform does not know would be dropped in silence.
        if unknown := set(merged) - set(checked):
            raise ValueError(f"unknown keys: {unknown}")
        name = slugify(f"{device['device']['name']} {config['name']}")
        found[f"{platform}.{name}"] = kind(hass, checked, None, None)
    return found


def hear(entity: Any, messages: dict[str, str]) -> None:
    """Hand the retained messages to an entity."""
    config = entity._config
    for topic, payload in messages.items():
        message = ReceiveMessage(topic, payload, 1, True, topic, 0.0)
        if topic == config["state_topic"]:
            update = getattr(entity, "_update_state", None) or entity._state_message_received
            update(message)
        if topic == config.get("json_attributes_topic"):
            template = MqttValueTemplate(config["json_attributes_template"], entity=entity)
            entity._attr_tpl = template.async_render_with_possible_json_value
            entity._attributes_message_received(message)


async def answer(asked: dict[str, Any]) -> dict[str, Any]:
    """Return what Home Assistant makes of it."""
    hass = HomeAssistant(tempfile.gettempdir())
    await hass.config.async_set_time_zone("America/New_York")
    moment = datetime.fromtimestamp(asked["time"], UTC)
    dt.utcnow = lambda: moment
    dt.now = lambda zone=None: moment.astimezone(zone or dt.get_default_time_zone())
    states, attributes = dict(asked["states"]), {}
    for name, entity in entities(hass, asked["discovery"]).items():
        hear(entity, asked["messages"])
        state = entity.state
        states[name] = "unknown" if state is None else str(state)
        attributes[name] = getattr(entity, "_attr_extra_state_attributes", None) or {}
    for name, state in states.items():
        hass.states.async_set(name, state, attributes.get(name))
    calls: list[Any] = []
    for word in ("turn_on", "turn_off"):
        hass.services.async_register("switch", word, lambda call: calls.append([call.service, *call.data["entity_id"]]))
    made = []
    for automation in asked["automations"]:
        checked = PLATFORM_SCHEMA(yaml.safe_load(automation))
        await Script(hass, checked["actions"], checked["alias"], "automation").async_run(context=Context())
        await hass.async_block_till_done()
        made.append(list(calls))
        calls.clear()
    await hass.async_stop(force=True)
    return {"states": states, "attributes": attributes, "calls": made}


class Warnings(logging.Handler):
    """Keeps what Home Assistant warns of."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        self.texts.append(record.getMessage())


def answers(questions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the answers."""
    found = []
    logging.getLogger().addHandler(warnings := Warnings())
    for question in questions:
        warnings.texts = []
        try:
            found.append(asyncio.run(answer(question)) | {"warnings": warnings.texts})
        except (vol.Invalid, ValueError) as error:
            found.append({"error": " ".join([str(error), *warnings.texts])})
    return found


if __name__ == "__main__":
    json.dump(answers(json.load(sys.stdin)), sys.stdout)
