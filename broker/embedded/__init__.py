"""amqtt with limits on packets, rates, queues and streams."""
