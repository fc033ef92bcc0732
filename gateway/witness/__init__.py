"""The controller witnesses the utility's lists of bills: it signs one check code a month, and never another (U2)."""
