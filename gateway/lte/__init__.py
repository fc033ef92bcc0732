"""The controller's LTE line: its byte count and its allowance."""
