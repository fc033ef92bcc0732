"""An MQTT 3.1.1 broker fit for duty: amqtt behind a guard that judges every CONNECT before amqtt sees a byte of it.

``rules``: the topics of each device; ``admission``: which clients may connect; ``embedded``: amqtt behind both.
"""
