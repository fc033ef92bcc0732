"""An MQTT 3.1.1 broker fit for duty: amqtt behind a guard that judges every CONNECT before amqtt sees a byte of it.

``rules`` says who may use which topic, ``guard`` who may connect, ``embedded`` puts both in front of amqtt.
"""
