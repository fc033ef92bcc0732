"""What gateways and the utility decide by: supply, return after an outage, how long energy lasts, bytes of a line."""
