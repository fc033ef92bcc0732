"""What a gateway does by itself to save bytes: the ladder of its LTE line, and overload (C6, C9)."""
