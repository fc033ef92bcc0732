"""An MQTT 3.1.1 broker: amqtt behind a guard that checks every CONNECT before amqtt gets a byte of it.

``rules``: the topics of each device; ``admission``: which clients may connect; ``embedded``: amqtt behind both.
"""
