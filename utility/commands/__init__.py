"""Commands to gateways: built, previewed, planned, sent to one or many microgrids, and put back."""
