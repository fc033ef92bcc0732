"""The LTE line: its byte count by day, month and kind, and the interface that is looked at."""
