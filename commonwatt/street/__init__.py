"""One's own street: broker, gateway, adapter and utility on one machine, out of one folder, by one command."""
