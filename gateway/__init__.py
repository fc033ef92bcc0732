"""The controller's service: collects from a microgrid's meters, keeps sharing fair, relays to the utility."""
