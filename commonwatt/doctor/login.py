"""A login at a broker as a service would do it, to learn the broker's answers; it ends the identity's session there.

Nothing can get lost: a message that arrives during the login has no acknowledgement of the application, so its sender
sends it again.
"""

import ssl
import time
from dataclasses import dataclass

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.reasoncodes import ReasonCode

from commonwatt.network.addresses import split_address

ANSWER_S = 5.0  # real seconds within which the broker must answer


@dataclass
class Login:
    """The broker's answers."""

    # Why the broker refused the identity; ``None``: it accepted it.
    refused: str | None = "the broker ended the connection without an answer"
    may_subscribe: bool = False  # whether it accepted the subscription
    done: bool = False  # whether there will be no further answer


def log_in(
    address: str, identity: str, token: str, subscribe: str, context: ssl.SSLContext | None, user: str | None = None
) -> Login:
    """Connect as ``identity``, subscribe, and disconnect; return the broker's answers.

    The user name is ``identity`` unless there is another; with an empty one neither name nor token is sent.
    """
    login = Login()
    client = paho.Client(CallbackAPIVersion.VERSION2, identity, clean_session=True, reconnect_on_failure=False)
    if user != "":
        client.username_pw_set(user or identity, token)
    client.connect_timeout = ANSWER_S
    if context is not None:
        client.tls_set_context(context)

    def connected(_: object, __: object, ___: object, reason: ReasonCode, ____: object) -> None:
        login.refused = str(reason).lower() if reason.is_failure else None
        login.done = reason.is_failure
        if not reason.is_failure:
            client.subscribe(subscribe, qos=1)

    def subscribed(_: object, __: object, ___: object, reasons: list[ReasonCode], ____: object) -> None:
        login.may_subscribe = not any(reason.is_failure for reason in reasons)
        login.done = True

    client.on_connect = connected
    client.on_subscribe = subscribed
    try:
        client.connect(*split_address(address))
        ends = time.monotonic() + ANSWER_S
        while not login.done and time.monotonic() < ends and client.loop(0.2) == paho.MQTT_ERR_SUCCESS:
            pass
        client.disconnect()
    except OSError as error:
        login.refused = str(error)
    return login
