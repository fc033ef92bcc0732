"""Commands to a meter: which it obeys, what it holds, what it answers."""
