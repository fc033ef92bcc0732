"""Attacks on releases: who is behind a pseudonym, in which group is a home, what did it use."""
