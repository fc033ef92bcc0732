"""The care of controllers, in one process: a town's office and utility, and gateways whose certificates renew."""
