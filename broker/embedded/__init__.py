"""amqtt made fit for duty: limits on packets, rates, queues and streams."""
