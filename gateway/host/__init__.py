"""One process with the gateways of several controllers."""
