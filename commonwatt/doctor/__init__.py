"""Examination of a service on its own machine, by ``commonwatt doctor``: checks that several services share."""
