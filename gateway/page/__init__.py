"""The controller's page: the gateway's status for people, as HTML."""
