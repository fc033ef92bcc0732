"""Commands to gateways until they are answered, and what handling a message leads to."""
